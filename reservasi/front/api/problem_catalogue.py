"""The catalogue of problem types. `problems.py` turns one into an answer; `/problems/<name>` shows it to people."""

from reservasi.front.api import waiting_problems
from reservasi.front.api.languages import Text
from reservasi.front.api.problem_type import ProblemType

INVALID_REQUEST = ProblemType(
    name="invalid-request",
    status=422,
    members=("errors",),
    title=Text("Permintaan tidak dapat diproses", "The request cannot be processed"),
    detail=Text(
        "Ada isian yang salah; setiap kesalahan disebut dalam `errors`.",
        "Something in the request is wrong; `errors` names each finding.",
    ),
    next=Text("Perbaiki isian yang disebut, lalu kirim lagi.", "Correct what is named and send it again."),
)
IDEMPOTENCY_KEY_MISSING = ProblemType(
    name="idempotency-key-missing",
    status=400,
    title=Text("Idempotency-Key tidak ada", "Idempotency-Key is missing"),
    detail=Text(
        "Permintaan ini memerlukan header Idempotency-Key agar aman diulang.",
        "This request needs an Idempotency-Key header, so that it can be repeated safely.",
    ),
    next=Text(
        "Buat satu kunci acak untuk tiap percobaan memesan dan kirim kunci yang sama saat mengulang.",
        "Make one random key for each attempt to book, and send the same key when you repeat it.",
    ),
)
IDEMPOTENCY_KEY_REUSED = ProblemType(
    name="idempotency-key-reused",
    status=422,
    title=Text("Idempotency-Key sudah dipakai", "Idempotency-Key was used before"),
    detail=Text(
        "Kunci ini sudah dipakai untuk permintaan dengan isi yang lain.",
        "This key was used for a request with different content.",
    ),
    next=Text(
        "Pakai kunci baru untuk permintaan yang baru, atau ulangi permintaan lama tanpa perubahan.",
        "Use a new key for a new request, or repeat the old request unchanged.",
    ),
)
BAD_REQUEST = ProblemType(
    name="bad-request",
    status=400,
    title=Text("Permintaan HTTP tidak terbaca", "The HTTP request cannot be read"),
    detail=Text("Permintaan tidak sesuai dengan HTTP/1.1.", "The request does not follow HTTP/1.1."),
    next=Text("Periksa program pengirim, lalu kirim lagi.", "Check the program that sent it and send it again."),
)
TARGET_TOO_LONG = ProblemType(
    name="target-too-long",
    status=414,
    title=Text("Alamat terlalu panjang", "The address is too long"),
    detail=Text(
        "Alamat (target) permintaan lebih panjang daripada 16 KiB.",
        "The address (target) of the request is longer than 16 KiB.",
    ),
    next=Text("Kirim lagi dengan alamat yang lebih pendek.", "Send it again with a shorter address."),
)
HEADERS_TOO_LARGE = ProblemType(
    name="headers-too-large",
    status=431,
    title=Text("Header terlalu besar", "The headers are too large"),
    detail=Text(
        "Yang terlalu besar: {what}. Semua header bersama-sama paling banyak 32 KiB dan 100 baris.",
        "Too large: {what}. All headers together may have 32 KiB and 100 lines.",
    ),
    next=Text(
        "Hapus cookie situs ini di peramban, atau kurangi header yang disebut, lalu kirim lagi.",
        "Delete this site's cookies in the browser, or shorten what is named, and send it again.",
    ),
)
METHOD_NOT_IMPLEMENTED = ProblemType(
    name="method-not-implemented",
    status=501,
    title=Text("Metode tidak dikenal", "Unknown method"),
    detail=Text("Layanan ini tidak mengenal metode itu.", "This service does not know that method."),
    next=Text(
        "Pakai metode yang disebut dalam /openapi.json; huruf besar dan kecil dibedakan.",
        "Use a method that /openapi.json names; capital and small letters differ.",
    ),
)
HTTP_VERSION_NOT_SUPPORTED = ProblemType(
    name="http-version-not-supported",
    status=505,
    title=Text("Versi HTTP tidak didukung", "HTTP version not supported"),
    detail=Text("Di alamat ini hanya HTTP/1.1 yang dilayani.", "Only HTTP/1.1 is spoken at this address."),
    next=Text("Kirim lagi sebagai HTTP/1.1.", "Send it again as HTTP/1.1."),
)
EXPECTATION_FAILED = ProblemType(
    name="expectation-failed",
    status=417,
    title=Text("Header Expect tidak didukung", "The Expect header is not supported"),
    detail=Text("Hanya `Expect: 100-continue` yang didukung.", "Only `Expect: 100-continue` is supported."),
    next=Text("Kirim lagi tanpa header itu.", "Send it again without that header."),
)
API_KEY_REQUIRED = ProblemType(
    name="api-key-required",
    status=401,
    title=Text("Kunci API diperlukan", "An API key is required"),
    detail=Text("Kunci API tidak ada atau tidak dikenal.", "The API key is missing or unknown."),
    next=Text(
        "Kirim kunci API petugas dalam header X-API-Key; administrator dapat membuatkannya.",
        "Send a staff API key in the X-API-Key header; an administrator can make one.",
    ),
)
API_KEY_EXPIRED = ProblemType(
    name="api-key-expired",
    status=401,
    members=("expires_at",),
    title=Text("Kunci API sudah tidak berlaku", "The API key has expired"),
    detail=Text("Kunci API ini berlaku sampai {expires_at}.", "This API key was good until {expires_at}."),
    next=Text(
        "Pakai kunci penggantinya; administrator membuatnya dengan `reservasi staff rotate`.",
        "Use the key that replaces it; an administrator makes one with `reservasi staff rotate`.",
    ),
)
API_KEY_REVOKED = ProblemType(
    name="api-key-revoked",
    status=401,
    members=("revoked_at",),
    title=Text("Kunci API sudah dicabut", "The API key was revoked"),
    detail=Text("Kunci API ini dicabut pada {revoked_at}.", "This API key was revoked at {revoked_at}."),
    next=Text(
        "Minta kunci baru kepada administrator, yang membuatnya dengan `reservasi staff add`.",
        "Ask an administrator for a new key, who makes one with `reservasi staff add`.",
    ),
)
ROLE_NOT_ALLOWED = ProblemType(
    name="role-not-allowed",
    status=403,
    members=("scope",),
    title=Text("Kunci API tidak berwenang", "The API key is not allowed to do this"),
    detail=Text("Kunci API ini tidak memiliki cakupan `{scope}`.", "This API key lacks the scope `{scope}`."),
    next=Text(
        "Minta petugas yang berwenang melakukannya, atau minta kunci dengan cakupan itu kepada administrator.",
        "Ask somebody whose key has the scope, or ask an administrator for a key with it.",
    ),
)
PROGRAM_NOT_ALLOWED = ProblemType(
    name="program-not-allowed",
    status=403,
    members=("programs",),
    title=Text("Kunci API bukan untuk program ini", "The API key is not for this program"),
    detail=Text("Kunci API ini dibatasi pada program lain.", "This API key is limited to other programs."),
    next=Text(
        "Minta petugas program itu melakukannya, atau minta kunci untuk program itu kepada administrator.",
        "Ask that program's staff to do it, or ask an administrator for a key for the program.",
    ),
)
NOT_FOUND = ProblemType(
    name="not-found",
    status=404,
    title=Text("Tidak ditemukan", "Not found"),
    detail=Text(
        "Tidak ada apa pun di alamat ini yang dapat diperlihatkan kepada Anda.",
        "There is nothing at this address that can be shown to you.",
    ),
    next=Text(
        "Periksa alamat dan, untuk reservasi, token pengelolaannya.",
        "Check the address and, for a reservation, its manage token.",
    ),
)
UNKNOWN_QUOTA = ProblemType(
    name="unknown-quota",
    status=404,
    title=Text("Kuota tidak dikenal", "Unknown quota"),
    detail=Text("Tidak ada kuota dengan id ini.", "There is no quota with this id."),
    next=Text("Pilih kuota dari GET /v1/availability.", "Choose a quota from GET /v1/availability."),
)
METHOD_NOT_ALLOWED = ProblemType(
    name="method-not-allowed",
    status=405,
    title=Text("Metode tidak didukung", "Method not allowed"),
    detail=Text("Alamat ini tidak menerima metode itu.", "This address does not accept that method."),
    next=Text("Pakai salah satu metode dalam header Allow.", "Use one of the methods in the Allow header."),
)
REQUEST_TIMEOUT = ProblemType(
    name="request-timeout",
    status=408,
    title=Text("Permintaan terlalu lambat", "The request took too long"),
    detail=Text("Isi permintaan tidak tiba pada waktunya.", "The request's body did not arrive in time."),
    next=Text("Kirim lagi dengan Idempotency-Key yang sama.", "Send it again with the same Idempotency-Key."),
)
SOLD_OUT = ProblemType(
    name="sold-out",
    status=409,
    members=("alternatives", "next_opening", "next_openings", "opening"),
    title=Text("Tempat habis", "Sold out"),
    detail=Text(
        "Sisa tempat pada kuota ini lebih sedikit daripada yang diminta.",
        "Fewer places remain in this quota than were asked for.",
    ),
    next=Text(
        "Pilih salah satu dari `alternatives`, atau coba lagi pada salah satu pembukaan berikutnya (`next_openings`).",
        "Choose one of `alternatives`, or try again at one of the next openings (`next_openings`).",
    ),
)
DUPLICATE_APPLICANT = ProblemType(
    name="duplicate-applicant",
    status=409,
    members=("applicant",),
    title=Text("Pemohon sudah punya reservasi", "An applicant already has a reservation"),
    detail=Text(
        "Salah satu pemohon masih memiliki reservasi yang berlaku dalam program ini.",
        "One of the applicants already has a live reservation in this program.",
    ),
    next=Text(
        "Pakai reservasi itu, atau batalkan dahulu sebelum memesan lagi. Untuk kembali ke sana, ulangi pesanan yang "
        "membuatnya dengan Idempotency-Key yang sama, atau kirim NIK, tanggal lahir, dan kontak pemohon itu ke "
        "POST /v1/find: jawabannya memuat `manage_token`.",
        "Use that reservation, or cancel it before booking again. To get back to it, repeat the claim that made it "
        "with the same Idempotency-Key, or send that applicant's NIK, birth date and contact to POST /v1/find: the "
        "answer gives the `manage_token`.",
    ),
)
NOT_OPEN = ProblemType(
    name="not-open",
    status=409,
    members=("opening", "opens_at", "next_openings"),
    title=Text("Belum dibuka", "Not open yet"),
    detail=Text("Kuota ini belum dibuka.", "This quota has not opened yet."),
    next=Text("Coba lagi pada waktu `opens_at`.", "Try again at `opens_at`."),
)
CLOSED = ProblemType(
    name="closed",
    status=409,
    title=Text("Ditutup", "Closed"),
    detail=Text("Kuota ini tidak menerima pesanan daring.", "This quota does not take bookings here."),
    next=Text("Pilih kuota lain dari GET /v1/availability.", "Choose another quota from GET /v1/availability."),
)
NOT_CONFIRMABLE = ProblemType(
    name="not-confirmable",
    status=409,
    members=("state",),
    title=Text("Tidak dapat dikonfirmasi", "Cannot be confirmed"),
    detail=Text(
        "Hanya tempat yang sedang ditahan yang dapat dikonfirmasi; keadaan reservasi ini: {state}.",
        "Only a held reservation can be confirmed; this one is {state}.",
    ),
    next=Text("Buat reservasi baru bila masih memerlukan tempat.", "Make a new reservation if you still need a place."),
)
PAYMENT_REFERENCE_DIFFERS = ProblemType(
    name="payment-reference-differs",
    status=409,
    title=Text("Nomor pembayaran berbeda", "Another payment reference"),
    detail=Text(
        "Reservasi ini sudah dikonfirmasi dengan nomor pembayaran lain atau tanpa nomor; yang baru tidak dicatat.",
        "This reservation was confirmed with another payment reference or with none; the new one was not recorded.",
    ),
    next=Text(
        "Reservasi tetap berlaku. Simpan bukti bayar; bila pembayaran dilakukan dua kali, minta pengembaliannya.",
        "The reservation stands. Keep the receipt; if it was paid twice, ask for the second payment back.",
    ),
)
HOLD_EXPIRED = ProblemType(
    name="hold-expired",
    status=410,
    title=Text("Batas waktu lewat", "The hold has expired"),
    detail=Text(
        "Tempat tidak dikonfirmasi sebelum batas waktunya, atau sebelum pemesanan untuk waktu itu ditutup.",
        "The places were not confirmed before their deadline, or before booking for that time closed.",
    ),
    next=Text("Buat reservasi baru.", "Make a new reservation."),
)
CANCELLATION_TOO_LATE = ProblemType(
    name="cancellation-too-late",
    status=409,
    title=Text("Terlambat untuk membatalkan", "Too late to cancel"),
    detail=Text(
        "Menurut aturan program, pembatalan diterima paling lambat {cancel_until}.",
        "The program's rule: cancellations are accepted until {cancel_until} at the latest.",
    ),
    next=Text("Hubungi kantor bila Anda tidak dapat datang.", "Contact the office if you cannot come."),
)
ALREADY_ENDED = ProblemType(
    name="already-ended",
    status=409,
    members=("state",),
    title=Text("Sudah berakhir", "Already ended"),
    detail=Text("Reservasi ini sudah berakhir: {state}.", "This reservation has already ended: {state}."),
    next=Text("Tidak ada yang perlu dilakukan.", "There is nothing left to do."),
)
NOT_CONFIRMED = ProblemType(
    name="not-confirmed",
    status=409,
    members=("state",),
    title=Text("Belum dikonfirmasi", "Not confirmed"),
    detail=Text(
        "Dokumen hanya ada untuk reservasi yang terkonfirmasi; keadaan reservasi ini: {state}.",
        "Documents exist for confirmed reservations only; this one is {state}.",
    ),
    next=Text(
        "Konfirmasikan reservasi yang masih ditahan; bila sudah berakhir, buat reservasi baru.",
        "Confirm it while it is held; if it has ended, make a new reservation.",
    ),
)
BELOW_TAKEN = ProblemType(
    name="below-taken",
    status=409,
    members=("taken",),
    title=Text("Di bawah yang sudah terpakai", "Below what is taken"),
    detail=Text(
        "Kapasitas tidak boleh kurang dari tempat yang sudah terpakai (`taken`).",
        "The capacity cannot be less than the places already taken (`taken`).",
    ),
    next=Text(
        "Tetapkan kapasitas sekurangnya `taken`, atau tutup kuota dengan `closed`.",
        "Set a capacity of at least `taken`, or close the quota with `closed`.",
    ),
)
VERSION_MISMATCH = ProblemType(
    name="version-mismatch",
    status=412,
    members=("version",),
    title=Text("Sudah berubah sejak dibaca", "It has changed since it was read"),
    detail=Text(
        "Versi dalam If-Match bukan versi kuota atau pembukaan ini yang sekarang, yaitu `version`.",
        "The version in If-Match is not the present one of this quota or opening, which is `version`.",
    ),
    next=Text(
        "Baca lagi yang hendak diubah, lalu ulangi dengan versinya yang sekarang.",
        "Read again what is to be changed, and repeat with its present version.",
    ),
)
OVERLAPPING_QUOTA = ProblemType(
    name="overlapping-quota",
    status=409,
    members=("overlaps",),
    title=Text("Jadwal kuota bertabrakan", "The quota overlaps another one"),
    detail=Text(
        "Jadwal kuota ini bertabrakan dengan kuota `overlaps` yang masih terbuka.",
        "The quota's window overlaps that of the quota `overlaps`, which is open.",
    ),
    next=Text(
        "Tutup dahulu kuota `overlaps`, lalu buka yang ini.", "Close the quota `overlaps` first, then open this one."
    ),
)
BODY_TOO_LARGE = ProblemType(
    name="body-too-large",
    status=413,
    title=Text("Isi permintaan terlalu besar", "The request's body is too large"),
    detail=Text("Isi permintaan melebihi batas.", "The request's body exceeds the limit."),
    next=Text("Kirim isi yang lebih kecil.", "Send a smaller body."),
)
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    name="unsupported-media-type",
    status=415,
    title=Text("Jenis isi tidak didukung", "Unsupported media type"),
    detail=Text(
        "Isi permintaan harus JSON dalam UTF-8, tanpa kompresi.",
        "The request's body must be JSON in UTF-8, uncompressed.",
    ),
    next=Text("Kirim dengan Content-Type: application/json.", "Send it with Content-Type: application/json."),
)
RATE_LIMITED = ProblemType(
    name="rate-limited",
    status=429,
    title=Text("Terlalu sering", "Too many requests"),
    detail=Text(
        "Permintaan dari orang, kunci API, atau jaringan ini datang lebih sering daripada yang diizinkan.",
        "Requests of this person, API key or network come more often than is allowed.",
    ),
    next=Text(
        "Tunggu selama waktu dalam Retry-After, lalu ulangi dengan Idempotency-Key yang sama.",
        "Wait as long as Retry-After says, then repeat it with the same Idempotency-Key.",
    ),
    retry=True,
)
INTERNAL_ERROR = ProblemType(
    name="internal-error",
    status=500,
    members=("request_id",),
    title=Text("Kesalahan di pihak kami", "An error on our side"),
    detail=Text(
        "Terjadi kesalahan yang tidak terduga; sudah dicatat dengan nomor dalam `request_id`.",
        "Something unexpected went wrong; it was logged under `request_id`.",
    ),
    next=Text(
        "Ulangi dengan Idempotency-Key yang sama; bila tetap gagal, sebutkan `request_id` kepada kantor.",
        "Repeat it with the same Idempotency-Key; if it fails again, tell the office the `request_id`.",
    ),
)
OVERLOADED = ProblemType(
    name="overloaded",
    status=503,
    title=Text("Sedang sangat ramai", "Overloaded"),
    detail=Text("Terlalu banyak permintaan saat ini.", "There are too many requests right now."),
    next=Text(
        "Ulangi setelah waktu dalam Retry-After dengan Idempotency-Key yang sama.",
        "Repeat it after Retry-After with the same Idempotency-Key.",
    ),
    retry=True,
)
RECOVERING = ProblemType(
    name="recovering",
    status=503,
    title=Text("Sedang memulihkan diri", "Recovering"),
    detail=Text(
        "Layanan sedang memeriksa catatannya; belum ada jawaban pasti.",
        "The service is checking its records; there is no definite answer yet.",
    ),
    next=Text(
        "Ulangi setelah waktu dalam Retry-After dengan Idempotency-Key yang sama; tempat tidak akan terpakai dua kali.",
        "Repeat it after Retry-After with the same Idempotency-Key; no place will be taken twice.",
    ),
    retry=True,
)
TOO_MANY_STREAMS = ProblemType(
    name="too-many-streams",
    status=503,
    title=Text("Terlalu banyak siaran terbuka", "Too many open streams"),
    detail=Text("Jumlah siaran langsung sudah mencapai batas.", "The limit of live streams is reached."),
    next=Text("Pakai GET /v1/availability, atau coba lagi nanti.", "Use GET /v1/availability, or try again later."),
    retry=True,
)

PROBLEM_TYPES: dict[str, ProblemType] = {
    kind.name: kind for kind in [*globals().values(), *vars(waiting_problems).values()] if isinstance(kind, ProblemType)
}
