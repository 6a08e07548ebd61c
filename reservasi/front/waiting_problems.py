"""The refusals of openings and their waiting rooms; part of the catalogue in `problem_types.py`."""

from reservasi.front.languages import Text
from reservasi.front.problem_type import ProblemType

WAITING_ROOM_REQUIRED = ProblemType(
    name="waiting-room-required",
    status=403,
    title=Text("Tiket antrean diperlukan", "A ticket of the waiting room is required"),
    detail=Text(
        "Kuota ini dibagikan lewat ruang tunggu. {why}", "This quota is given out through a waiting room. {why}"
    ),
    next=Text(
        "Ambil tiket di POST /v1/openings/{id}/tickets untuk `opening`, tunggu giliran, lalu pesan dengan tiket itu.",
        "Get a ticket at POST /v1/openings/{id}/tickets for `opening`, wait for your turn, and claim with that ticket.",
    ),
)
NOT_ADMITTED = ProblemType(
    name="not-admitted",
    status=403,
    title=Text("Belum giliran Anda", "It is not your turn yet"),
    detail=Text(
        "Yang boleh memesan sekarang adalah nomor sampai dengan `admitted_through`.",
        "Numbers up to `admitted_through` may claim now.",
    ),
    next=Text(
        "Ikuti GET /v1/openings/{id}/queue dan pesan begitu `admitted_through` mencapai nomor Anda; "
        "tempat di antrean tidak hilang.",
        "Follow GET /v1/openings/{id}/queue and claim once `admitted_through` has reached your number; "
        "you do not lose your place.",
    ),
)
NO_WAITING_ROOM = ProblemType(
    name="no-waiting-room",
    status=409,
    title=Text("Tanpa ruang tunggu", "No waiting room"),
    detail=Text("Pembukaan ini tidak memakai ruang tunggu.", "This opening has no waiting room."),
    next=Text("Pesan langsung pada waktu `opens_at`.", "Claim directly at `opens_at`; no ticket is needed."),
)
JOINING_CLOSED = ProblemType(
    name="joining-closed",
    status=410,
    title=Text("Ruang tunggu sudah ditutup", "The waiting room has closed"),
    detail=Text("Ruang tunggu pembukaan ini sudah berakhir.", "This opening's waiting room has ended."),
    next=Text(
        "Bila masih ada tempat, pesan tanpa tiket; bila tidak, lihat pembukaan berikutnya di GET /v1/openings.",
        "If places remain, claim without a ticket; if not, see the next openings at GET /v1/openings.",
    ),
)
PROOF_OF_WORK_REQUIRED = ProblemType(
    name="proof-of-work-required",
    status=422,
    title=Text("Bukti kerja diperlukan", "A proof of work is required"),
    detail=Text(
        "Pembukaan ini meminta jawaban tantangan ALTCHA dalam `altcha`.",
        "This opening asks for the solution of an ALTCHA challenge in `altcha`.",
    ),
    next=Text(
        "Ambil tantangan dari GET /v1/openings/{id}/challenge, selesaikan, dan kirim jawabannya.",
        "Get a challenge from GET /v1/openings/{id}/challenge, solve it, and send the solution.",
    ),
)
PROOF_OF_WORK_INVALID = ProblemType(
    name="proof-of-work-invalid",
    status=422,
    title=Text("Bukti kerja tidak berlaku", "The proof of work is not valid"),
    detail=Text(
        "Jawaban itu salah, kedaluwarsa, sudah dipakai, atau untuk pembukaan lain.",
        "The solution is wrong, has expired, was used before, or is for another opening.",
    ),
    next=Text(
        "Ambil tantangan baru dari GET /v1/openings/{id}/challenge dan selesaikan.",
        "Get a new challenge from GET /v1/openings/{id}/challenge and solve it.",
    ),
)
OPENING_EXISTS = ProblemType(
    name="opening-exists",
    status=409,
    title=Text("Pembukaan sudah ada", "The opening exists"),
    detail=Text(
        "Sudah ada pembukaan lain dengan id ini, atau pada saat itu di salah satu kantornya.",
        "There is another opening with this id, or at that moment in one of its offices.",
    ),
    next=Text(
        "Pakai pembukaan itu, atau pilih id, waktu, atau kantor lain.",
        "Use that one, or choose another id, moment or other offices.",
    ),
)
BEACON_FIXED = ProblemType(
    name="beacon-fixed",
    status=409,
    title=Text("Nilai luar sudah tetap", "The outside value is fixed"),
    detail=Text(
        "Nilai luar dimasukkan sekali saja, sebelum pembukaan.",
        "The outside value is entered once, and before the opening.",
    ),
    next=Text("Tidak ada yang dapat diubah lagi.", "Nothing can be changed any more."),
)
