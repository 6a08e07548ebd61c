// Texts that scripts show, in both languages. Texts that never change are in the page itself.

const WORDS = {
  id: {
    days: "hari",
    opened: "Sudah dibuka",
    in_days: "Dibuka dalam {n} hari lagi",
    in_hours: "Dibuka dalam {n} jam lagi",
    in_minutes: "Dibuka dalam {n} menit lagi",
    in_a_minute: "Dibuka dalam kurang dari satu menit",
    state_announced: "Belum dapat bergabung",
    state_joining: "Dapat bergabung; belum dibuka",
    state_open: "Dibuka: nomor dipanggil berurutan",
    state_paused: "Dijeda oleh petugas; nomor Anda tetap",
    state_closed: "Ditutup oleh kantor",
    state_sold_out: "Semua tempat habis",
    state_ended: "Selesai",
    state_cancelled: "Dibatalkan",
    called_off: "Pembukaan ini dibatalkan: {reason}",
    moved_to: "Pembukaan ini dipindahkan ke {at}. Tiket Anda tetap berlaku.",
    because: "Alasan: {reason}",
    useless: "Pembukaan ini dibatalkan, sehingga tiket ini tidak berlaku lagi. Silakan lihat pembukaan lain.",
    nobody: "belum ada",
    through: "0 sampai {n}",
    per_minute: "{n} per menit",
    no_answer: "Antrean belum dapat dibaca. Halaman ini akan mencoba kembali secara otomatis; nomor Anda tidak hilang.",
    no_ticket: "Belum ada tiket di peramban ini.",
    bad_ticket: "Teks ini bukan tiket. Salin seluruh tiket, tanpa spasi.",
    other_opening: "Tiket ini untuk pembukaan lain.",
    have_ticket: "Anda sudah memiliki tiket. Nomor Anda ditentukan dengan undian saat dibuka.",
    your_number: "Nomor Anda {n}.",
    before_you: "Nomor sebelum nomor Anda: {n}. Jumlah tempat: {places}.",
    likely_gone: "Jumlah itu melebihi jumlah tempat: tempat mungkin habis sebelum giliran Anda.",
    your_turn: "Giliran Anda. Silakan pesan sekarang dengan tiket ini.",
    soon: "Giliran Anda dalam waktu kurang dari satu menit.",
    wait_minutes: "Perkiraan waktu tunggu {n} menit dengan kecepatan saat ini. Kecepatan dapat berubah.",
    wait_unknown: "Waktu tunggu belum dapat diperkirakan.",
    all_closed: "Kantor telah menutup semua tempat. Tiket tetap berlaku jika tempatnya dibuka kembali.",
    all_gone: "Semua tempat habis. Silakan lihat pembukaan berikutnya.",
    over: "Antrean sudah selesai. Tiket tidak diperlukan lagi.",
    needs_https: "Peramban ini hanya dapat menghitung undian pada halaman HTTPS. Gunakan perintah reservasi verify draw.",
    join_needs_https: "Untuk bergabung diperlukan halaman HTTPS: peramban ini tidak dapat menghitung bukti kerja.",
    no_seed: "Benih diumumkan saat dibuka. Sebelum itu, nomor tidak dapat dihitung oleh siapa pun.",
    seed_good: "✓ Benih cocok dengan komitmen yang diumumkan sebelumnya.",
    seed_bad: "✗ Benih TIDAK cocok dengan komitmen. Harap laporkan kepada kantor.",
    number_is: "✓ Dihitung dari data umum: nomor {n} dari {joined} orang.",
    number_late: "Bergabung sesudah dibuka: nomor {n} tertulis di tiket, setelah semua nomor undian.",
    number_differs: "✗ Dihitung dari data umum: nomor {n}, bukan {said}. Harap laporkan kepada kantor.",
    joining: "Sedang bergabung …",
    solving: "Memeriksa bahwa Anda bukan mesin. Harap tunggu beberapa detik …",
    joined: "Anda sudah bergabung. Simpan tiket ini.",
    try_again: "Tidak ada jawaban. Silakan coba kembali; bergabung dua kali tidak mengubah apa pun.",
  },
  en: {
    days: "days",
    opened: "Open now",
    in_days: "Days until it opens: {n}",
    in_hours: "Hours until it opens: {n}",
    in_minutes: "Minutes until it opens: {n}",
    in_a_minute: "Opens in less than a minute",
    state_announced: "Joining has not begun",
    state_joining: "You can join; not open yet",
    state_open: "Open: numbers are called in order",
    state_paused: "Paused by staff; you keep your number",
    state_closed: "Closed by the office",
    state_sold_out: "All places are taken",
    state_ended: "Over",
    state_cancelled: "Cancelled",
    called_off: "This opening was cancelled: {reason}",
    moved_to: "This opening was moved to {at}. Your ticket stays valid.",
    because: "Reason: {reason}",
    useless: "This opening was cancelled, so this ticket is no longer valid. See the other openings.",
    nobody: "none yet",
    through: "0 to {n}",
    per_minute: "{n} a minute",
    no_answer: "The queue cannot be read yet. This page tries again automatically; you do not lose your number.",
    no_ticket: "There is no ticket in this browser yet.",
    bad_ticket: "This text is not a ticket. Copy all of the ticket, without spaces.",
    other_opening: "This ticket is for another opening.",
    have_ticket: "You have a ticket. The draw at the opening decides your number.",
    your_number: "Your number is {n}.",
    before_you: "Numbers before yours: {n}. Places: {places}.",
    likely_gone: "That is more than the number of places: they may be taken before your turn.",
    your_turn: "It is your turn: book now with this ticket.",
    soon: "Your turn comes in less than a minute.",
    wait_minutes: "About {n} min to wait at the current rate. This is an estimate: the rate may change.",
    wait_unknown: "The waiting time cannot be estimated yet.",
    all_closed: "The office has closed all places. A ticket stays valid if they are reopened.",
    all_gone: "All places are taken. See the next openings.",
    over: "The queue is over. A ticket is no longer needed.",
    needs_https: "This browser computes the draw on HTTPS pages only. Use the command reservasi verify draw.",
    join_needs_https: "Joining here needs an HTTPS page: this browser cannot compute the proof of work.",
    no_seed: "The seed is published at the opening; before that nobody can compute a number.",
    seed_good: "✓ The seed agrees with the commitment that was published before.",
    seed_bad: "✗ The seed does NOT agree with the commitment. Please report this to the office.",
    number_is: "✓ Computed from public data: number {n} of {joined} people.",
    number_late: "Joined after the opening: number {n} is written in the ticket, after all drawn numbers.",
    number_differs: "✗ Computed from public data: number {n}, not {said}. Please report this to the office.",
    joining: "Joining …",
    solving: "Checking that you are not a machine; this takes a few seconds …",
    joined: "You have joined. Keep this ticket.",
    try_again: "No answer. Try again; joining twice changes nothing.",
  },
};

/** @typedef {keyof typeof WORDS.id} Word */

const language = document.documentElement.lang === "en" ? "en" : "id";
const figures = new Intl.NumberFormat(language);

/**
 * A text in the page's language, with its placeholders filled and numbers formatted for that language.
 * @param {Word} word
 * @param {Record<string, number | string>} [values]
 * @returns {string}
 */
export function say(word, values = {}) {
  return WORDS[language][word].replace(/\{(\w+)\}/g, (_, name) => count(values[name]));
}

/** @param {number | string} value @returns {string} */
export function count(value) {
  return typeof value === "number" ? figures.format(value) : value;
}
