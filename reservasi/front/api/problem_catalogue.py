"""The catalogue of problem types. `problems.py` turns one into an answer; `/problems/<name>` shows it."""

from reservasi.front.api import waiting_problems
from reservasi.front.api.languages import Text
from reservasi.front.api.problem_type import ProblemType

INVALID_REQUEST = ProblemType(
    name="invalid-request",
    status=422,
    members=("errors",),
    title=Text("Permintaan tidak dapat diproses", "The request cannot be processed"),
    detail=Text(
        "Ada isian yang tidak sesuai. Setiap kesalahan tercantum dalam `errors`.",
        "The request has errors, which are listed in `errors`.",
    ),
    next=Text("Perbaiki isian tersebut, lalu kirim kembali.", "Correct the listed errors and send the request again."),
)
IDEMPOTENCY_KEY_MISSING = ProblemType(
    name="idempotency-key-missing",
    status=400,
    title=Text("Idempotency-Key tidak ada", "Idempotency-Key is missing"),
    detail=Text(
        "Permintaan ini memerlukan header Idempotency-Key agar dapat diulang dengan aman.",
        "This request needs an Idempotency-Key header, so that it can be repeated safely.",
    ),
    next=Text(
        "Buat satu kunci acak untuk setiap percobaan pemesanan, dan gunakan kunci yang sama saat mengulang.",
        "Create one random key for each booking attempt, and send the same key when you repeat it.",
    ),
)
IDEMPOTENCY_KEY_REUSED = ProblemType(
    name="idempotency-key-reused",
    status=422,
    title=Text("Idempotency-Key sudah digunakan", "Idempotency-Key was used before"),
    detail=Text(
        "Kunci ini sudah digunakan untuk permintaan dengan isi yang berbeda.",
        "This key was used for a request with different content.",
    ),
    next=Text(
        "Gunakan kunci baru untuk permintaan baru, atau ulangi permintaan sebelumnya tanpa perubahan.",
        "Use a new key for a new request, or repeat the previous request unchanged.",
    ),
)
BAD_REQUEST = ProblemType(
    name="bad-request",
    status=400,
    title=Text("Permintaan HTTP tidak dapat dibaca", "The HTTP request cannot be read"),
    detail=Text("Permintaan tidak sesuai dengan HTTP/1.1.", "The request does not follow HTTP/1.1."),
    next=Text(
        "Periksa aplikasi pengirim, lalu kirim kembali.", "Check the sending program and send the request again."
    ),
)
TARGET_TOO_LONG = ProblemType(
    name="target-too-long",
    status=414,
    title=Text("Alamat terlalu panjang", "The address is too long"),
    detail=Text(
        "Alamat (target) permintaan lebih panjang daripada 16 KiB.",
        "The address (target) of the request is longer than 16 KiB.",
    ),
    next=Text("Kirim kembali dengan alamat yang lebih pendek.", "Send it again with a shorter address."),
)
HEADERS_TOO_LARGE = ProblemType(
    name="headers-too-large",
    status=431,
    title=Text("Header terlalu besar", "The headers are too large"),
    detail=Text(
        "Bagian yang terlalu besar: {what}. Seluruh header paling banyak 32 KiB dan 100 baris.",
        "Too large: {what}. All headers together may have 32 KiB and 100 lines.",
    ),
    next=Text(
        "Hapus cookie situs ini di peramban Anda, atau kurangi header tersebut, lalu kirim kembali.",
        "Delete this site's cookies in your browser, or shorten the named part, and send the request again.",
    ),
)
METHOD_NOT_IMPLEMENTED = ProblemType(
    name="method-not-implemented",
    status=501,
    title=Text("Metode tidak dikenal", "Unknown method"),
    detail=Text("Layanan ini tidak mengenal metode tersebut.", "This service does not know that method."),
    next=Text(
        "Gunakan metode yang tercantum dalam /openapi.json; huruf besar dan kecil dibedakan.",
        "Use a method listed in /openapi.json; upper and lower case differ.",
    ),
)
HTTP_VERSION_NOT_SUPPORTED = ProblemType(
    name="http-version-not-supported",
    status=505,
    title=Text("Versi HTTP tidak didukung", "HTTP version not supported"),
    detail=Text("Alamat ini hanya melayani HTTP/1.1.", "Only HTTP/1.1 is supported at this address."),
    next=Text("Kirim kembali dengan HTTP/1.1.", "Send it again as HTTP/1.1."),
)
EXPECTATION_FAILED = ProblemType(
    name="expectation-failed",
    status=417,
    title=Text("Header Expect tidak didukung", "The Expect header is not supported"),
    detail=Text("Hanya `Expect: 100-continue` yang didukung.", "Only `Expect: 100-continue` is supported."),
    next=Text("Kirim kembali tanpa header tersebut.", "Send it again without that header."),
)
API_KEY_REQUIRED = ProblemType(
    name="api-key-required",
    status=401,
    title=Text("Kunci API diperlukan", "An API key is required"),
    detail=Text("Kunci API tidak ada atau tidak dikenal.", "The API key is missing or unknown."),
    next=Text(
        "Kirim kunci API petugas dalam header X-API-Key. Kunci dapat diminta kepada administrator.",
        "Send a staff API key in the X-API-Key header; an administrator can create one.",
    ),
)
API_KEY_EXPIRED = ProblemType(
    name="api-key-expired",
    status=401,
    members=("expires_at",),
    title=Text("Kunci API sudah tidak berlaku", "The API key has expired"),
    detail=Text("Kunci API ini berlaku sampai {expires_at}.", "This API key was valid until {expires_at}."),
    next=Text(
        "Gunakan kunci penggantinya, yang dibuat administrator dengan `reservasi staff rotate`.",
        "Use its replacement, which an administrator creates with `reservasi staff rotate`.",
    ),
)
API_KEY_REVOKED = ProblemType(
    name="api-key-revoked",
    status=401,
    members=("revoked_at",),
    title=Text("Kunci API sudah dicabut", "The API key was revoked"),
    detail=Text("Kunci API ini dicabut pada {revoked_at}.", "This API key was revoked at {revoked_at}."),
    next=Text(
        "Mintalah kunci baru kepada administrator, yang membuatnya dengan `reservasi staff add`.",
        "Ask an administrator for a new key, which is created with `reservasi staff add`.",
    ),
)
ROLE_NOT_ALLOWED = ProblemType(
    name="role-not-allowed",
    status=403,
    members=("scope",),
    title=Text("Kunci API tidak berwenang", "The API key is not allowed to do this"),
    detail=Text("Kunci API ini tidak memiliki cakupan `{scope}`.", "This API key lacks the scope `{scope}`."),
    next=Text(
        "Hubungi petugas yang berwenang, atau mintalah kunci dengan cakupan tersebut kepada administrator.",
        "Ask a colleague whose key has the scope, or ask an administrator for such a key.",
    ),
)
PROGRAM_NOT_ALLOWED = ProblemType(
    name="program-not-allowed",
    status=403,
    members=("programs",),
    title=Text("Kunci API bukan untuk program ini", "The API key is not for this program"),
    detail=Text("Kunci API ini hanya berlaku untuk program lain.", "This API key is limited to other programs."),
    next=Text(
        "Hubungi petugas program tersebut, atau mintalah kunci untuk program itu kepada administrator.",
        "Ask that program's staff, or ask an administrator for a key for the program.",
    ),
)
NOT_FOUND = ProblemType(
    name="not-found",
    status=404,
    title=Text("Tidak ditemukan", "Not found"),
    detail=Text(
        "Data yang Anda minta tidak ditemukan di alamat ini.",
        "The requested data was not found at this address.",
    ),
    next=Text(
        "Periksa kembali alamatnya dan, untuk reservasi, token pengelolaannya.",
        "Check the address and, for a reservation, its manage token.",
    ),
)
UNKNOWN_QUOTA = ProblemType(
    name="unknown-quota",
    status=404,
    title=Text("Kuota tidak dikenal", "Unknown quota"),
    detail=Text("Tidak ada kuota dengan id ini.", "There is no quota with this id."),
    next=Text("Silakan pilih kuota dari GET /v1/availability.", "Choose a quota from GET /v1/availability."),
)
METHOD_NOT_ALLOWED = ProblemType(
    name="method-not-allowed",
    status=405,
    title=Text("Metode tidak didukung", "Method not allowed"),
    detail=Text("Alamat ini tidak menerima metode tersebut.", "This address does not accept that method."),
    next=Text("Gunakan salah satu metode dalam header Allow.", "Use one of the methods in the Allow header."),
)
REQUEST_TIMEOUT = ProblemType(
    name="request-timeout",
    status=408,
    title=Text("Permintaan terlalu lambat", "The request took too long"),
    detail=Text("Permintaan tidak diterima lengkap tepat waktu.", "The request did not arrive completely in time."),
    next=Text(
        "Kirim kembali; jika permintaan memakai Idempotency-Key, gunakan kunci yang sama.",
        "Send it again; if it has an Idempotency-Key, with the same one.",
    ),
)
SOLD_OUT = ProblemType(
    name="sold-out",
    status=409,
    members=("alternatives", "next_opening", "next_openings", "opening"),
    title=Text("Tempat habis", "Sold out"),
    detail=Text(
        "Sisa tempat pada kuota ini tidak mencukupi.",
        "Fewer places remain in this quota than were requested.",
    ),
    next=Text(
        "Silakan pilih kuota lain dalam `alternatives`, atau coba kembali pada pembukaan berikutnya (`next_openings`).",
        "Choose one of `alternatives`, or try again at one of the next openings (`next_openings`).",
    ),
)
DUPLICATE_APPLICANT = ProblemType(
    name="duplicate-applicant",
    status=409,
    members=("applicant",),
    title=Text("Pemohon sudah memiliki reservasi", "An applicant already has a reservation"),
    detail=Text(
        "Salah satu pemohon masih memiliki reservasi yang berlaku pada program ini.",
        "One of the applicants already has a live reservation in this program.",
    ),
    next=Text(
        "Gunakan reservasi tersebut, atau batalkan terlebih dahulu sebelum memesan kembali. Untuk membukanya, ulangi "
        "pemesanan yang "
        "sama dengan Idempotency-Key yang sama, atau kirim NIK, tanggal lahir, dan kontak pemohon tersebut ke "
        "POST /v1/find; jawabannya memuat `manage_token`.",
        "Use that reservation, or cancel it before booking again. To open it, repeat the claim that created it with "
        "the same Idempotency-Key, or send that applicant's NIK, birth date and contact to POST /v1/find; the answer "
        "contains the `manage_token`.",
    ),
)
NOT_OPEN = ProblemType(
    name="not-open",
    status=409,
    members=("opening", "opens_at", "next_openings"),
    title=Text("Belum dibuka", "Not open yet"),
    detail=Text("Kuota ini belum dibuka.", "This quota has not opened yet."),
    next=Text("Silakan coba kembali pada waktu `opens_at`.", "Try again at `opens_at`."),
)
CLOSED = ProblemType(
    name="closed",
    status=409,
    members=("next_openings", "opening"),
    title=Text("Ditutup", "Closed"),
    detail=Text("Kuota ini tidak menerima pemesanan daring.", "This quota does not accept online bookings."),
    next=Text("Silakan pilih kuota lain dari GET /v1/availability.", "Choose another quota from GET /v1/availability."),
)
NOT_CONFIRMABLE = ProblemType(
    name="not-confirmable",
    status=409,
    members=("state",),
    title=Text("Tidak dapat dikonfirmasi", "Cannot be confirmed"),
    detail=Text(
        "Hanya tempat yang sedang ditahan yang dapat dikonfirmasi. Status reservasi ini: {state}.",
        "Only a held reservation can be confirmed; this one is {state}.",
    ),
    next=Text(
        "Silakan buat reservasi baru jika Anda masih memerlukan tempat.",
        "Make a new reservation if you still need a place.",
    ),
)
PAYMENT_REFERENCE_DIFFERS = ProblemType(
    name="payment-reference-differs",
    status=409,
    title=Text("Nomor pembayaran berbeda", "Another payment reference"),
    detail=Text(
        "Reservasi ini sudah dikonfirmasi dengan nomor pembayaran lain atau tanpa nomor. Nomor yang baru tidak "
        "dicatat.",
        "This reservation was confirmed with another payment reference or with none; the new one was not recorded.",
    ),
    next=Text(
        "Reservasi Anda tetap berlaku. Simpan bukti pembayaran. Jika Anda membayar dua kali, ajukan pengembalian dana.",
        "The reservation stays valid. Keep the receipt; if you paid twice, ask for a refund of the second payment.",
    ),
)
HOLD_EXPIRED = ProblemType(
    name="hold-expired",
    status=410,
    title=Text("Batas waktu telah lewat", "The hold has expired"),
    detail=Text(
        "Tempat tidak dikonfirmasi sebelum batas waktu, atau sebelum pemesanan untuk jadwal tersebut ditutup.",
        "The places were not confirmed before their deadline, or before booking for that time closed.",
    ),
    next=Text("Silakan buat reservasi baru.", "Make a new reservation."),
)
CANCELLATION_TOO_LATE = ProblemType(
    name="cancellation-too-late",
    status=409,
    title=Text("Terlambat untuk membatalkan", "Too late to cancel"),
    detail=Text(
        "Sesuai ketentuan program, pembatalan diterima paling lambat {cancel_until}.",
        "By the rules of the program, cancellations are accepted until {cancel_until}.",
    ),
    next=Text("Hubungi kantor jika Anda tidak dapat datang.", "Contact the office if you cannot come."),
)
ALREADY_ENDED = ProblemType(
    name="already-ended",
    status=409,
    members=("state",),
    title=Text("Sudah berakhir", "Already ended"),
    detail=Text("Reservasi ini sudah berakhir: {state}.", "This reservation has already ended: {state}."),
    next=Text("Tidak ada yang perlu dilakukan.", "Nothing needs to be done."),
)
NOT_CONFIRMED = ProblemType(
    name="not-confirmed",
    status=409,
    members=("state",),
    title=Text("Belum dikonfirmasi", "Not confirmed"),
    detail=Text(
        "Dokumen hanya tersedia untuk reservasi yang terkonfirmasi. Status reservasi ini: {state}.",
        "Documents are available for confirmed reservations only; this one is {state}.",
    ),
    next=Text(
        "Konfirmasikan reservasi yang masih ditahan. Jika sudah berakhir, buat reservasi baru.",
        "Confirm it while it is held; if it has ended, make a new reservation.",
    ),
)
BELOW_TAKEN = ProblemType(
    name="below-taken",
    status=409,
    members=("taken",),
    title=Text("Di bawah yang sudah terpakai", "Below what is taken"),
    detail=Text(
        "Kapasitas tidak boleh kurang dari jumlah tempat yang sudah terpakai (`taken`).",
        "The capacity cannot be less than the places already taken (`taken`).",
    ),
    next=Text(
        "Tetapkan kapasitas paling sedikit `taken`, atau tutup kuota dengan `closed`.",
        "Set a capacity of at least `taken`, or close the quota with `closed`.",
    ),
)
VERSION_MISMATCH = ProblemType(
    name="version-mismatch",
    status=412,
    members=("version",),
    title=Text("Sudah berubah sejak dibaca", "It has changed since it was read"),
    detail=Text(
        "Versi dalam If-Match bukan versi terkini kuota atau pembukaan ini, yaitu `version`.",
        "The version in If-Match is not the current one of this quota or opening, which is `version`.",
    ),
    next=Text(
        "Baca kembali data yang hendak diubah, lalu ulangi dengan versi terkini.",
        "Read it again, and repeat the change with its current version.",
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
        "Tutup terlebih dahulu kuota `overlaps`, lalu buka kuota ini.",
        "Close the quota `overlaps` first, then open this one.",
    ),
)
BODY_TOO_LARGE = ProblemType(
    name="body-too-large",
    status=413,
    title=Text("Isi permintaan terlalu besar", "The request's body is too large"),
    detail=Text("Isi permintaan melebihi batas ukuran.", "The request's body exceeds the limit."),
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
    next=Text("Kirim kembali dengan Content-Type: application/json.", "Send it with Content-Type: application/json."),
)
RATE_LIMITED = ProblemType(
    name="rate-limited",
    status=429,
    title=Text("Terlalu banyak permintaan", "Too many requests"),
    detail=Text(
        "Permintaan dari orang, kunci API, atau jaringan ini melebihi batas yang diizinkan.",
        "This person, API key or network has exceeded its request limit.",
    ),
    next=Text(
        "Tunggu sesuai waktu dalam Retry-After, lalu ulangi dengan Idempotency-Key yang sama.",
        "Wait for the time in Retry-After, then repeat the request with the same Idempotency-Key.",
    ),
    retry=True,
)
INTERNAL_ERROR = ProblemType(
    name="internal-error",
    status=500,
    members=("request_id",),
    title=Text("Terjadi kesalahan pada layanan", "An error on our side"),
    detail=Text(
        "Terjadi kesalahan yang tidak terduga. Kesalahan ini telah dicatat dengan nomor `request_id`.",
        "An unexpected error occurred. It was logged under `request_id`.",
    ),
    next=Text(
        "Ulangi dengan Idempotency-Key yang sama. Jika tetap gagal, sampaikan `request_id` kepada kantor.",
        "Repeat the request with the same Idempotency-Key. If it fails again, give the office the `request_id`.",
    ),
)
OVERLOADED = ProblemType(
    name="overloaded",
    status=503,
    title=Text("Layanan sedang padat", "Overloaded"),
    detail=Text("Terlalu banyak permintaan saat ini.", "There are too many requests right now."),
    next=Text(
        "Ulangi setelah waktu dalam Retry-After, dengan Idempotency-Key yang sama.",
        "Repeat the request after the time in Retry-After, with the same Idempotency-Key.",
    ),
    retry=True,
)
RECOVERING = ProblemType(
    name="recovering",
    status=503,
    title=Text("Layanan sedang dipulihkan", "Recovering"),
    detail=Text(
        "Layanan sedang memeriksa datanya. Jawaban pasti belum tersedia.",
        "The service is checking its records; there is no definite answer yet.",
    ),
    next=Text(
        "Ulangi setelah waktu dalam Retry-After, dengan Idempotency-Key yang sama. Tempat tidak akan terpakai dua "
        "kali.",
        "Repeat the request after the time in Retry-After, with the same Idempotency-Key. No place will be taken "
        "twice.",
    ),
    retry=True,
)
TOO_MANY_STREAMS = ProblemType(
    name="too-many-streams",
    status=503,
    title=Text("Terlalu banyak siaran langsung", "Too many open streams"),
    detail=Text("Jumlah siaran langsung sudah mencapai batas.", "The limit of live streams is reached."),
    next=Text(
        "Gunakan GET /v1/availability, atau coba kembali nanti.", "Use GET /v1/availability, or try again later."
    ),
    retry=True,
)

PROBLEM_TYPES: dict[str, ProblemType] = {
    kind.name: kind for kind in [*globals().values(), *vars(waiting_problems).values()] if isinstance(kind, ProblemType)
}
