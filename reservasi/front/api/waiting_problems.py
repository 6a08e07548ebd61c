"""The refusals of openings and their waiting rooms; part of the catalogue in `problem_catalogue.py`."""

from reservasi.front.api.languages import Text
from reservasi.front.api.problem_type import ProblemType

WAITING_ROOM_REQUIRED = ProblemType(
    name="waiting-room-required",
    status=403,
    members=("opening", "reason"),
    title=Text("Tiket antrean diperlukan", "A ticket of the waiting room is required"),
    detail=Text(
        "Kuota ini dibagikan melalui ruang tunggu. {why}", "This quota is distributed through a waiting room. {why}"
    ),
    next=Text(
        "Ambil tiket di POST /v1/openings/{id}/tickets untuk `opening`, tunggu giliran Anda, lalu pesan dengan tiket "
        "tersebut.",
        "Get a ticket at POST /v1/openings/{id}/tickets for `opening`, wait for your turn, and claim with that ticket.",
    ),
)
NOT_ADMITTED = ProblemType(
    name="not-admitted",
    status=403,
    members=("opening", "number", "admitted_through"),
    title=Text("Belum giliran Anda", "It is not your turn yet"),
    detail=Text(
        "Saat ini yang dapat memesan adalah nomor sampai dengan `admitted_through`.",
        "Numbers up to `admitted_through` may claim now.",
    ),
    next=Text(
        "Pantau GET /v1/openings/{id}/queue dan pesan setelah `admitted_through` mencapai nomor Anda. Tempat Anda di "
        "antrean tidak hilang.",
        "Follow GET /v1/openings/{id}/queue and claim once `admitted_through` has reached your number. You do not "
        "lose your place.",
    ),
)
NO_WAITING_ROOM = ProblemType(
    name="no-waiting-room",
    status=409,
    members=("opening",),
    title=Text("Tanpa ruang tunggu", "No waiting room"),
    detail=Text("Pembukaan ini tidak menggunakan ruang tunggu.", "This opening has no waiting room."),
    next=Text("Silakan pesan langsung pada waktu `opens_at`.", "Claim directly at `opens_at`; no ticket is needed."),
)
JOINING_CLOSED = ProblemType(
    name="joining-closed",
    status=410,
    members=("opening",),
    title=Text("Ruang tunggu sudah ditutup", "The waiting room has closed"),
    detail=Text("Ruang tunggu pembukaan ini sudah berakhir.", "This opening's waiting room has ended."),
    next=Text(
        "Jika masih ada tempat, pesan tanpa tiket. Jika tidak, lihat pembukaan berikutnya di GET /v1/openings.",
        "If places remain, claim without a ticket; if not, see the next openings at GET /v1/openings.",
    ),
)
PROOF_OF_WORK_REQUIRED = ProblemType(
    name="proof-of-work-required",
    status=422,
    members=("opening",),
    title=Text("Bukti kerja diperlukan", "A proof of work is required"),
    detail=Text(
        "Pembukaan ini memerlukan jawaban tantangan ALTCHA dalam `altcha`.",
        "This opening requires the solution of an ALTCHA challenge in `altcha`.",
    ),
    next=Text(
        "Ambil tantangan dari GET /v1/openings/{id}/challenge, selesaikan, dan kirim jawabannya.",
        "Get a challenge from GET /v1/openings/{id}/challenge, solve it, and send the solution.",
    ),
)
PROOF_OF_WORK_INVALID = ProblemType(
    name="proof-of-work-invalid",
    status=422,
    members=("opening",),
    title=Text("Bukti kerja tidak berlaku", "The proof of work is not valid"),
    detail=Text(
        "Jawaban salah, kedaluwarsa, sudah digunakan, atau untuk pembukaan lain.",
        "The solution is wrong, expired, already used, or for another opening.",
    ),
    next=Text(
        "Ambil tantangan baru dari GET /v1/openings/{id}/challenge dan selesaikan.",
        "Get a new challenge from GET /v1/openings/{id}/challenge and solve it.",
    ),
)
OPENING_EXISTS = ProblemType(
    name="opening-exists",
    status=409,
    members=("opening", "quota"),
    title=Text("Pembukaan sudah ada", "The opening exists"),
    detail=Text(
        "Sudah ada pembukaan lain dengan id ini, atau pada waktu tersebut di salah satu kantornya.",
        "There is another opening with this id, or at that moment in one of its offices.",
    ),
    next=Text(
        "Gunakan pembukaan tersebut, atau pilih id, waktu, atau kantor lain.",
        "Use that opening, or choose another id, moment or office.",
    ),
)
BEACON_FIXED = ProblemType(
    name="beacon-fixed",
    status=409,
    members=("opening",),
    title=Text("Nilai luar tidak dapat diubah", "The outside value is fixed"),
    detail=Text(
        "Nilai luar hanya dapat dimasukkan satu kali, sebelum pembukaan.",
        "The outside value can be entered only once, before the opening.",
    ),
    next=Text(
        "Lihat nilai yang tercatat, jika ada, di GET /v1/openings/{id}/queue (`beacon`). Setelah pembukaan, undian "
        "tidak dapat diubah lagi. Sebelum pembukaan, nilai yang salah hanya dapat diganti dengan membatalkan "
        "pembukaan ini dan membuat yang baru; tiket yang sudah diambil tidak berlaku lagi.",
        "See the entered value, if there is one, at GET /v1/openings/{id}/queue (`beacon`). After the opening, the "
        "draw can no longer be changed. Before it, a wrong value can only be replaced by cancelling this opening and "
        "creating a new one; tickets already issued are then no longer valid.",
    ),
)
OPENING_CANCELLED = ProblemType(
    name="opening-cancelled",
    status=410,
    members=("opening", "state", "reason", "reason_en"),
    title=Text("Pembukaan dibatalkan", "The opening was cancelled"),
    detail=Text("Pembukaan ini dibatalkan: {reason}", "This opening was cancelled: {reason}"),
    next=Text(
        "Tiket untuk pembukaan ini tidak berlaku lagi. Silakan lihat pembukaan lain di GET /v1/openings.",
        "Its tickets are no longer valid. See the other openings at GET /v1/openings.",
    ),
)
OPENING_FIXED = ProblemType(
    name="opening-fixed",
    status=409,
    members=("opening", "state", "reason", "reason_en"),
    title=Text("Pembukaan tidak dapat diubah lagi", "The opening can no longer be changed"),
    detail=Text("Bagian ini tidak dapat diubah lagi: {why}", "This can no longer be changed: {why}"),
    next=Text(
        "Lihat statusnya di GET /v1/openings/{id}/queue. Untuk waktu lain, buat pembukaan baru.",
        "See its state at GET /v1/openings/{id}/queue. For another moment, create a new opening.",
    ),
)
OPENING_MOVES_QUOTA = ProblemType(
    name="quota-of-opening",
    status=409,
    members=("opening",),
    title=Text("Kuota ini dibuka bersama pembukaannya", "This quota opens with its opening"),
    detail=Text(
        "Kuota ini termasuk dalam pembukaan `opening` dan dibuka bersamanya.",
        "This quota belongs to the opening `opening` and opens with it.",
    ),
    next=Text(
        "Pindahkan pembukaannya dengan PATCH /v1/staff/openings/{id} dan `opens_at`, atau pilih kuota lain.",
        "Move the opening with PATCH /v1/staff/openings/{id} and `opens_at`, or choose other quotas.",
    ),
)
QUOTA_CLOSES_BEFORE = ProblemType(
    name="quota-closes-before",
    status=409,
    members=("opening", "quota"),
    title=Text("Ada kuota yang ditutup sebelum waktu itu", "A quota closes before that"),
    detail=Text(
        "Kuota `quota` dari pembukaan ini ditutup sebelum waktu yang baru.",
        "The quota `quota` of this opening closes before the new moment.",
    ),
    next=Text(
        "Pilih waktu yang lebih awal, atau ubah `closes_at` kuota itu.",
        "Choose an earlier moment, or change `closes_at` of that quota.",
    ),
)
TOO_MANY_QUOTAS = ProblemType(
    name="too-many-quotas",
    status=409,
    members=("opening",),
    title=Text("Terlalu banyak kuota", "Too many quotas"),
    detail=Text(
        "Pembukaan ini memiliki lebih dari 5000 kuota, yang harus diubah dalam satu langkah.",
        "This opening has more than 5000 quotas, which must change in one step.",
    ),
    next=Text("Tutup kuota tersebut satu per satu.", "Close its quotas one by one."),
)
