"""The texts of the pages in both languages; those that scripts change are in `static/words.js`."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from reservasi.front.api.bodies import OpeningListState
from reservasi.front.api.languages import LANGUAGES, Language, Text

STATES: dict[OpeningListState, Text] = {
    "not-open": Text("Belum dibuka", "Not open yet"),
    "open": Text("Sudah dibuka", "Open"),
    "sold-out": Text("Habis", "Sold out"),
    "closed": Text("Ditutup", "Closed"),
    "paused": Text("Dijeda oleh petugas", "Paused by staff"),
    "ended": Text("Ruang tunggu berakhir", "The waiting room is over"),
    "cancelled": Text("Dibatalkan", "Cancelled"),
}
CALLED_OFF = Text("Pembukaan ini dibatalkan: {}", "This opening was cancelled: {}")
MOVED = Text("Dipindahkan; semula {}.", "Moved; it was {}.")
REASON = Text("Alasan: {}", "Reason: {}")
SIZE = Text("{} tempat", "{} places")
SIZE_OF_ONE = Text("{} tempat", "{} place")

_TEXTS = {
    "service": Text("Reservasi", "Reservations"),
    "skip": Text("Langsung ke isi", "Skip to the content"),
    "navigation": Text("Navigasi", "Navigation"),
    "openings": Text("Pembukaan", "Openings"),
    "about_openings": Text(
        "Semua waktu menurut jam server. Halaman ini tidak memuat apa pun dari pihak lain.",
        "All times are by the server's clock. This page loads nothing from anybody else.",
    ),
    "about_draw": Text(
        "Urutan ditentukan dengan undian yang dapat diperiksa oleh siapa pun.",
        "The order is decided by a draw that anyone can verify.",
    ),
    "demo": Text(
        "Ini adalah demonstrasi. Pemesanan di sini tidak berlaku.",
        "This is a demonstration. Bookings here are not real.",
    ),
    "has_waiting_room": Text("Dengan ruang tunggu.", "With a waiting room."),
    "no_openings": Text("Tidak ada pembukaan yang akan datang.", "There are no upcoming openings."),
    "no_programs": Text("Belum ada program.", "There are no programs yet."),
    "calendars": Text("Kalender untuk ponsel Anda:", "Calendars for your phone:"),
    "all_offices": Text("Semua kantor", "All offices"),
    "opens_at": Text("Dibuka", "Opens"),
    "joins_from": Text("Bergabung mulai", "Joining from"),
    "ends_at": Text("Ruang tunggu berakhir", "Waiting room ends"),
    "places": Text("Jumlah", "Size"),
    "dates": Text("Untuk tanggal", "For the dates"),
    "offices": Text("Kantor", "Offices"),
    "services": Text("Layanan", "Services"),
    "state": Text("Keadaan saat halaman dimuat", "State when this page was loaded"),
    "queue": Text("Ruang tunggu", "Waiting room"),
    "how_it_works": Text(
        "Anda dapat bergabung kapan saja sebelum dibuka; waktu bergabung tidak memengaruhi urutan. Saat dibuka, undian"
        " menentukan nomor setiap orang. Bergabung lagi tidak mengubahnya. Yang"
        " baru bergabung sesudahnya mendapat nomor berikutnya, dan nomor yang lebih besar bila bergabung lagi.",
        "You can join at any time before the opening; joining early gives no advantage. At the opening a draw gives "
        "everybody a "
        "number, and joining again does not change it. People who only join later get the following numbers, and a "
        "higher one if they join again.",
    ),
    "without_script": Text(
        "Pembaruan angka memerlukan JavaScript. Tanpa JavaScript, data dapat dibaca langsung:",
        "Updating the figures needs JavaScript. Without it, read the data directly:",
    ),
    "queue_data": Text("data antrean (JSON)", "the queue's data (JSON)"),
    "queue_state": Text("Antrean", "Queue"),
    "joined": Text("Bergabung sebelum dibuka", "Joined before the opening"),
    "arrived": Text("Bergabung sampai sekarang", "Joined until now"),
    "admitted": Text("Nomor yang boleh memesan", "Numbers that may book"),
    "rate": Text("Kecepatan pemanggilan", "Numbers called"),
    "your_ticket": Text("Tiket Anda", "Your ticket"),
    "keep_ticket": Text(
        "Tiket ini disimpan di peramban ini, juga untuk tab lain. Salin dan simpan tiket Anda; hanya Anda yang dapat "
        "menggunakannya.",
        "This browser keeps the ticket, for other tabs as well. Copy and keep it; only you can use it.",
    ),
    "shared_computer": Text("Ini komputer atau ponsel bersama", "This is a shared computer or phone"),
    "forget_what": Text(
        "Salin tiket terlebih dahulu. Yang bergabung sebelum dibuka akan mendapat tiket yang sama dengan NIK-nya; "
        "yang bergabung "
        "sesudahnya mendapat nomor yang lebih besar.",
        "Copy the ticket first. People who joined before the opening get the same ticket again with their NIK; those "
        "who joined later get a higher number.",
    ),
    "forget_ticket": Text("Hapus tiket dari peramban ini", "Remove the ticket from this browser"),
    "forget_sure": Text("Hapus tiket dari peramban ini?", "Remove the ticket from this browser?"),
    "forget_yes": Text("Hapus", "Remove it"),
    "forget_no": Text("Simpan", "Keep it"),
    "join": Text("Bergabung", "Join"),
    "nik": Text("NIK", "NIK (national identity number)"),
    "nik_hint": Text("16 angka, seperti di KTP. Tidak disimpan.", "16 digits, as on your identity card. Not stored."),
    "birth_date": Text("Tanggal lahir", "Date of birth"),
    "join_now": Text("Bergabung sekarang", "Join now"),
    "have_ticket": Text("Saya sudah memiliki tiket", "I already have a ticket"),
    "ticket": Text("Tiket", "Ticket"),
    "use_ticket": Text("Gunakan tiket ini", "Use this ticket"),
    "draw": Text("Undian", "The draw"),
    "how_drawn": Text(
        "Komitmen adalah SHA-256 dari benih rahasia, diumumkan saat pembukaan ini dibuat. Benih diumumkan saat dibuka."
        " Nomor Anda adalah bagian bulat dari u / 2^64 × jumlah yang bergabung; u adalah 8 byte pertama dari"
        " HMAC-SHA-256 atas id tiket Anda dengan benih sebagai kunci.",
        "The commitment is the SHA-256 of a secret seed, published when this opening was created. The seed is published"
        " at the opening. Your number is the whole part of u / 2^64 × the people who joined; u is the first 8 bytes of"
        " the HMAC-SHA-256 of your ticket's id under the seed.",
    ),
    "commitment": Text("Komitmen", "Commitment"),
    "seed": Text("Benih", "Seed"),
    "beacon": Text("Nilai dari luar", "Value from outside"),
    "beacon_source": Text("Asal nilai itu, seperti diumumkan sebelumnya", "Where it comes from, as announced before"),
    "compute_again": Text("Hitung ulang", "Compute it again"),
    "checked_hint": Text(
        "Kosongkan untuk menggunakan tiket Anda di atas. Perhitungan dilakukan di peramban Anda; tiket tidak dikirim.",
        "Leave it empty to use your ticket above. The computation runs in your browser; the ticket is not sent.",
    ),
    "said_number": Text("Nomor yang diberitahukan kepada Anda (boleh kosong)", "The number you were told (optional)"),
    "compute": Text("Hitung", "Compute"),
}
TEXTS: dict[Language, dict[str, str]] = {
    language: {name: text.to(language) for name, text in _TEXTS.items()} for language in LANGUAGES
}

_WEEKDAYS: dict[Language, tuple[str, ...]] = {
    "id": ("Senin", "Selasa", "Rabu", "Kamis", "Jumat", "Sabtu", "Minggu"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
_MONTHS: dict[Language, str] = {
    "id": "Januari Februari Maret April Mei Juni Juli Agustus September Oktober November Desember",
    "en": "January February March April May June July August September October November December",
}


def spelled_dates(dates: Iterable[date], language: Language) -> str:
    """Dates in words, such as `2 Desember 2026 – 4 Desember 2026, 8 Desember 2026`."""
    runs: list[list[date]] = []
    for day in dates:
        if runs and day - runs[-1][-1] == timedelta(days=1):
            runs[-1][1:] = [day]
        else:
            runs.append([day])
    return ", ".join(" – ".join(_spelled_date(day, language) for day in run) for run in runs)


def _spelled_date(day: date, language: Language) -> str:
    return f"{day.day} {_MONTHS[language].split()[day.month - 1]} {day.year}"


def spelled(at: datetime, language: Language) -> str:
    """A moment in words, such as `Jumat, 27 November 2026, 14:00 WIB`; with seconds if they are not 0."""
    time = f"{at:%H:%M:%S}" if at.second else f"{at:%H:%M}"
    month = _MONTHS[language].split()[at.month - 1]
    return f"{_WEEKDAYS[language][at.weekday()]}, {at.day} {month} {at.year}, {time} {at.tzname()}"
