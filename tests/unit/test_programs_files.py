"""A bad program file is refused as a whole: each fault is reported with line and field."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reservasi import programs
from reservasi.errors import ConfigurationError, ProgramFileError
from reservasi.programs import files

SHIPPED = sorted((Path(__file__).parents[2] / "config/programs").glob("*.toml"))

# The lines are counted by the tests below: line 1 is the id.
GOOD = """\
id = "desa"
name = { id = "Antrean desa", en = "Village queue" }
timezone = "Asia/Jakarta"

[policies]
hold_s = 7200
return_delay_min_s = 300
return_delay_max_s = 3600
applicants_max = 5
closes_before_min = 60
cancel_until = { days_before = 1, time = "23:59" }

[opening]
rule = "weekly"
weekday = "fri"
time = "14:00"

[holidays]
country = "ID"
closed_dates = [2026-12-02]
extra_dates = [{ date = 2026-12-05, hours_of = "mon" }]

[[services]]
id = "baru"
name = { id = "Paspor baru", en = "New passport" }

[[channels]]
id = "online"
name = { id = "Daring", en = "Online" }
public = true

[[offices]]
id = "kanim"
name = { id = "Kantor", en = "Office" }
address = "Jl. Satu 1"
kind = "kanim"
slot_minutes = 60
services = ["baru"]

[offices.hours]
mon = { open = "08:00", close = "15:00", break_start = "12:00", break_end = "13:00" }
fri = { open = "08:00", close = "15:00", break_start = "11:00", break_end = "13:00" }

[[offices.quotas]]
service = "baru"
channel = "online"
per_day = 20
"""

WEEKDAY = 'weekday = "fri"'
ROOM = "waiting_room = {"


def findings(tmp_path: Path, text: str | bytes) -> list[tuple[int, str, str]]:
    """What is found wrong, as (line, field, message)."""
    path = tmp_path / "program.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ProgramFileError) as refused:
        files.read_program(path)
    assert str(path) in str(refused.value)
    return [(finding.line, finding.field, finding.message) for finding in refused.value.findings]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, f"{old!r} stands {GOOD.count(old)} times in the good file"
    return GOOD.replace(old, new)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "program.toml"
    path.write_text(GOOD)
    program = files.read_program(path)
    assert program.id == "desa"
    assert program.opening == programs.WeeklyOpening(weekday=programs.Weekday.FRI, time="14:00")
    assert program.holidays.categories == ("public", "government")
    assert program.offices[0].quotas[0].per_day == 20
    assert not program.demo


def test_an_opening_may_have_a_waiting_room(tmp_path: Path) -> None:
    path = tmp_path / "program.toml"
    path.write_text(changed(WEEKDAY, f"{WEEKDAY}\n{ROOM} joins_before_min = 45, adaptive = false }}"))
    opening = files.read_program(path).opening
    assert isinstance(opening, programs.AnnouncedRule)
    assert opening.waiting_room == programs.WaitingRoom(joins_before_min=45, adaptive=False)


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    assert findings(tmp_path, changed("hold_s = 7200", "hold_s = 1").replace("\n", "\r\n"))[0][:2] == (
        6,
        "policies.hold_s",
    )


def test_hours_may_end_at_midnight(tmp_path: Path) -> None:
    file = tmp_path / "program.toml"
    end_of_day = 'close = "24:00", break_start = "23:00", break_end = "24:00"'
    text = changed('close = "15:00", break_start = "11:00", break_end = "13:00"', end_of_day)
    file.write_text(text.replace("per_day = 20", 'per_day = 20\nend = "24:00"'))
    friday = files.read_program(file).offices[0].hours.fri
    assert friday is not None
    assert (friday.close, friday.break_end) == ("24:00", "24:00")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_file_saved_on_windows_is_the_same(tmp_path: Path, path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").decode().encode("utf-8-sig"))
    assert files.read_program(copy) == files.read_program(path)


def test_a_fault_behind_a_byte_order_mark_is_on_its_line(tmp_path: Path) -> None:
    content = changed("hold_s = 7200", "hold_s = 1").replace("\n", "\r\n")
    assert findings(tmp_path, f"\ufeff{content}")[0][:2] == (6, "policies.hold_s")


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_a_file_in_utf_16_says_so(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "program.toml"
    path.write_bytes(mark + GOOD.encode("utf-16-le" if mark == b"\xff\xfe" else "utf-16-be"))
    with pytest.raises(ProgramFileError, match=r"saved as UTF-16 .*save it as UTF-8"):
        files.read_program(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_are_read_and_survive_json(path: Path) -> None:
    program = files.read_program(path)
    assert program.id == path.stem
    assert msgspec.json.decode(msgspec.json.encode(program), type=programs.Program) == program


def test_which_programs_are_shipped() -> None:
    assert [path.stem for path in SHIPPED] == ["batam", "pontianak", "surabaya"]
    assert [files.read_program(path).demo for path in SHIPPED] == [False, False, True]


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "message"),
    [
        # shape
        ('id = "desa"\n', "", 0, "id", "is missing"),
        ("hold_s = 7200\n", "", 5, "policies.hold_s", "is missing"),
        ("hold_s = 7200", "hold_s = 9", 6, "policies.hold_s", "a whole number from 10 to"),
        ("hold_s = 7200", "hold_s = -7200", 6, "policies.hold_s", "-7200 is not allowed"),
        ("hold_s = 7200", 'hold_s = "2 h"', 6, "policies.hold_s", '"2 h" is not allowed'),
        ("hold_s = 7200", "hold_s = true", 6, "policies.hold_s", "is not allowed"),
        ("hold_s = 7200", "hold_s = 1e999", 6, "policies.hold_s", "is not allowed"),
        ("hold_s = 7200", "hold_s = 7200\nholds = 1", 7, "policies.holds", "did you mean hold_s"),
        ("hold_s = 7200", "hold_s = 7200\nzzz = 1", 7, "policies.zzz", "allowed here: hold_s"),
        ("applicants_max = 5", "applicants_max = 6", 9, "policies.applicants_max", "from 1 to 5"),
        ("applicants_max = 5", "applicants_max = 0", 9, "policies.applicants_max", "from 1 to 5"),
        ('time = "23:59"', 'time = "24:00"', 11, "policies.cancel_until.time", 'a time such as "08:00"'),
        ('time = "23:59"', 'time = "23:5٩"', 11, "policies.cancel_until.time", 'a time such as "08:00"'),
        ('rule = "weekly"\n', "", 13, "opening.rule", "is missing; one of weekly, monthly"),
        ('rule = "weekly"', 'rule = "daily"', 14, "opening.rule", '"daily" is unknown; one of weekly'),
        ('rule = "weekly"', "rule = 3", 14, "opening.rule", "3 is unknown"),
        ('rule = "weekly"', 'rule = "now"', 15, "opening.weekday", "is unknown"),
        ('weekday = "fri"', 'weekday = "freitag"', 15, "opening.weekday", "one of mon, tue, wed, thu, fri, sat, sun"),
        ('weekday = "fri"\n', "", 13, "opening.weekday", "is missing"),
        (WEEKDAY, f"{WEEKDAY}\n{ROOM} rate_per_min = 0 }}", 16, "opening.waiting_room.rate_per_min", "from 1 to"),
        (WEEKDAY, f"{WEEKDAY}\n{ROOM} rate_a_min = 9 }}", 16, "opening.waiting_room.rate_a_min", "did you mean"),
        (
            WEEKDAY,
            f"{WEEKDAY}\n{ROOM} rate_per_min = 7000 }}",
            16,
            "opening.waiting_room.rate_max_per_min",
            "6000 is below",
        ),
        (WEEKDAY, f"{WEEKDAY}\nwaiting_room = true", 16, "opening.waiting_room", "must be a table"),
        ("[2026-12-02]", '["2 Dec"]', 20, "holidays.closed_dates[0]", '"2 Dec" is not allowed'),
        ("[2026-12-02]", '["2026-02-30"]', 20, "holidays.closed_dates[0]", "a date, such as 2026-12-24"),
        ("[2026-12-02]", "2026-12-02", 20, "holidays.closed_dates", "must be an array"),
        ('hours_of = "mon"', 'hours_of = "xyz"', 21, "holidays.extra_dates[0].hours_of", "one of mon"),
        ('id = "desa"', 'id = "De sa"', 1, "id", "2 to 32 of a-z, 0-9 and -"),
        ('id = "desa"', 'id = "desa.a"', 1, "id", "2 to 32 of a-z, 0-9 and -"),
        ('id = "desa"', 'id = "desa\\n"', 1, "id", "2 to 32 of a-z, 0-9 and -"),
        ('id = "online"', 'id = "on.line"', 28, "channels[0].id", "2 to 32 of a-z, 0-9 and -"),
        ('id = "kanim"', f'id = "{"k" * 33}"', 33, "offices[0].id", "2 to 32 of a-z, 0-9 and -"),
        ('en = "Office"', 'en = ""', 34, "offices[0].name.en", "1 to 200 characters"),
        (', en = "Office"', "", 34, "offices[0].name.en", "is missing"),
        ('"Jl. Satu 1"', '"Jl. \\u0000"', 35, "offices[0].address", "none of them a control character"),
        ('kind = "kanim"', 'kind = "bank"', 36, "offices[0].kind", "one of kanim, ulp, ukk, mpp"),
        ('services = ["baru"]', "services = []", 38, "offices[0].services", "has 0 items"),
        ('kind = "kanim"', 'kind = "kanim"\nlatitude = 91', 37, "offices[0].latitude", "a number from -90 to 90"),
        ('kind = "kanim"', 'kind = "kanim"\nlatitude = nan', 37, "offices[0].latitude", "is not allowed"),
        ("per_day = 20", "per_day = -1", 47, "offices[0].quotas[0].per_day", "a whole number from 0 to 100000"),
        ("per_day = 20", "per_day = 100001", 47, "offices[0].quotas[0].per_day", "a whole number from 0 to 100000"),
        ("per_day = 20", "per_day = 1.5", 47, "offices[0].quotas[0].per_day", "1.5 is not allowed"),
        ("public = true\n", "", 27, "channels[0].public", "is missing"),
        (
            'open = "08:00", close = "15:00", break_start = "11:00"',
            'open = "24:00"',
            42,
            "offices[0].hours.fri.open",
            "08:00",
        ),
        ('close = "15:00", break_start = "11:00"', 'close = "24:01"', 42, "offices[0].hours.fri.close", '"24:00"'),
        ("per_day = 20", 'per_day = 20\nstart = "24:00"', 48, "offices[0].quotas[0].start", "08:00"),
        ("[offices.hours]", "[offices.week]", 40, "offices[0].week", "is unknown"),
        # meaning
        ("Asia/Jakarta", "Asia/Batavia", 3, "timezone", "is not a time zone"),
        ("Asia/Jakarta", "../etc/passwd", 3, "timezone", "is not a time zone"),
        ("Asia/Jakarta", "Asia", 3, "timezone", "is not a time zone"),
        ("return_delay_max_s = 3600", "return_delay_max_s = 299", 8, "policies.return_delay_max_s", "299 is below"),
        ('country = "ID"', 'country = "XX"', 19, "holidays.country", "no public calendar for"),
        ('country = "ID"', 'country = "ID"\ncategories = ["bank"]', 20, "holidays.categories[0]", "government, public"),
        ("[2026-12-02]", "[2026-12-02, 2026-12-02]", 20, "holidays.closed_dates[1]", "is already"),
        ("[2026-12-02]", "[2026-12-05]", 21, "holidays.extra_dates[0].date", "also one of closed_dates"),
        (
            'services = ["baru"]',
            'services = ["baru", "lama"]',
            38,
            "offices[0].services[1]",
            "not a service of the program",
        ),
        ('services = ["baru"]', 'services = ["baru", "baru"]', 38, "offices[0].services[1]", "is already"),
        ('channel = "online"', 'channel = "phone"', 46, "offices[0].quotas[0].channel", "not a channel of the program"),
        ('service = "baru"', 'service = "lama"', 45, "offices[0].quotas[0].service", "not a service of this office"),
        ("per_day = 20", "per_day = 20\nper_slot = 2", 47, "offices[0].quotas[0].per_day", "exactly one of"),
        ("per_day = 20\n", "", 44, "offices[0].quotas[0].per_day", "is missing; give exactly one of"),
        ("slot_minutes = 60", "slot_minutes = 50", 37, "offices[0].slot_minutes", "50 does not divide the 240 minutes"),
        ("per_day = 20", "per_day = 20\nslot_minutes = 90", 48, "offices[0].quotas[0].slot_minutes", "does not divide"),
        (
            "per_day = 20",
            'per_day = 20\nstart = "07:00"',
            48,
            "offices[0].quotas[0].start",
            "outside the office's hours",
        ),
        ("per_day = 20", 'per_day = 20\nend = "15:01"', 48, "offices[0].quotas[0].end", "not after 15:00"),
        (
            "per_day = 20",
            'per_day = 20\nstart = "10:00"\nend = "09:00"',
            49,
            "offices[0].quotas[0].end",
            "must lie after 10:00",
        ),
        (
            "per_day = 20",
            'per_day = 20\nstart = "12:00"\nend = "13:00"',
            44,
            "offices[0].quotas[0]",
            "lies within the break",
        ),
        (
            'fri = { open = "08:00", close = "15:00", break_start = "11:00"',
            'fri = { open = "08:00", close = "07:00", break_start = "11:00"',
            42,
            "offices[0].hours.fri.close",
            "must be later than open",
        ),
        ('break_start = "11:00", ', "", 42, "offices[0].hours.fri.break_start", "give both ends"),
        (
            'break_start = "11:00", break_end = "13:00"',
            'break_start = "11:00", break_end = "10:00"',
            42,
            "offices[0].hours.fri.break_end",
            "must be later than break_start",
        ),
        (
            'break_start = "11:00", break_end = "13:00"',
            'break_start = "11:00", break_end = "16:00"',
            42,
            "offices[0].hours.fri.break_start",
            "must lie within 08:00 to 15:00",
        ),
        ('kind = "kanim"', 'kind = "kanim"\nlatitude = 1.5', 32, "offices[0].longitude", "give both or neither"),
        ("closes_before_min = 60", "closes_before_min = 4000", 10, "policies.closes_before_min", "less than 3960"),
        (
            'rule = "weekly"\nweekday = "fri"\ntime = "14:00"',
            'rule = "days-before"\ndays = 0\ntime = "08:00"',
            13,
            "opening",
            "after their slot has begun",
        ),
        (
            'rule = "weekly"\nweekday = "fri"\ntime = "14:00"',
            'rule = "monthly"\ndays = [1, 15, 1]\ntime = "14:00"',
            15,
            "opening.days[2]",
            "1 is already opening.days[0]",
        ),
    ],
)
def test_one_fault_is_named_with_line_and_field(
    tmp_path: Path, *, old: str, new: str, line: int, field: str, message: str
) -> None:
    faults = findings(tmp_path, changed(old, new))
    assert (line, field) in [finding[:2] for finding in faults], faults
    assert message in next(finding[2] for finding in faults if finding[:2] == (line, field))
    # a fault may have one consequence, never a flood
    assert len(faults) <= 3, faults


def test_announced_openings_are_checked(tmp_path: Path) -> None:
    text = changed(
        'rule = "weekly"\nweekday = "fri"\ntime = "14:00"',
        'rule = "dates"\nopenings = [\n'
        '  { date = 2026-11-20, time = "09:00", first = 2026-12-01, last = 2026-12-15 },\n'
        '  { date = 2026-11-27, time = "09:00", first = 2026-12-15, last = 2026-12-31 },\n'
        '  { date = 2026-12-20, time = "09:00", first = 2027-01-31, last = 2027-01-01 },\n'
        "]",
    )
    assert [finding[:2] for finding in findings(tmp_path, text)] == [
        (17, "opening.openings[1].first"),
        (18, "opening.openings[2].last"),
    ]


def test_duplicate_ids_are_found_in_every_list(tmp_path: Path) -> None:
    service = '\n[[services]]\nid = "baru"\nname = { id = "x", en = "y" }\n'
    channel = '\n[[channels]]\nid = "online"\nname = { id = "x", en = "y" }\npublic = true\n'
    office = GOOD[GOOD.index("[[offices]]") :]
    quota = office[office.index("[[offices.quotas]]") :]
    faults = findings(tmp_path, GOOD + quota + service + channel + office)
    assert [finding[:2] for finding in faults] == [
        (48, "offices[0].quotas[1]"),
        (54, "services[1].id"),
        (58, "channels[1].id"),
        (62, "offices[1].id"),
    ]


def test_all_faults_are_collected_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = (
        GOOD.replace("hold_s = 7200", "hold_s = 1")
        .replace('weekday = "fri"', 'weekday = "frei"')
        .replace("Asia/Jakarta", "Asia/Batavia")
        .replace('services = ["baru"]', 'services = ["baru", "lama"]')
        .replace('country = "ID"', 'country = "XX"')
        .replace('id = "online"', 'id = "ONLINE"')
    )
    assert [finding[:2] for finding in findings(tmp_path, text)] == [
        (3, "timezone"),
        (6, "policies.hold_s"),
        (15, "opening.weekday"),
        (19, "holidays.country"),
        (28, "channels[0].id"),
        (38, "offices[0].services[1]"),
        (46, "offices[0].quotas[0].channel"),
    ]


def test_a_flood_of_findings_is_cut(tmp_path: Path) -> None:
    faults = findings(tmp_path, GOOD + "".join(f"x{number} = 1\n" for number in range(500)))
    assert len(faults) == files.FINDINGS_MAX + 1
    assert faults[-1] == (0, "file", "400 more findings are not shown")


def test_more_quotas_than_a_program_may_have(tmp_path: Path) -> None:
    office = GOOD[GOOD.index("[[offices]]") :].replace("slot_minutes = 60", "slot_minutes = 5")
    office = office.replace("per_day = 20", "per_slot = 1")
    more = "".join(office.replace('id = "kanim"', f'id = "kanim-{number}"') for number in range(160))
    assert findings(tmp_path, GOOD + more)[0][:2] == (32, "offices")


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ('id = "desa"\nname = \n', 2, "name"),
        ('id = "desa"\n[policies\n', 2, "TOML"),
        ('id = "desa"\n\nid = "kota"\n', 3, "id"),
        ('id = "desa\n', 1, "id"),
        ("d = 2026-02-30\n", 1, "d"),
        ("a = " + "[" * 20_000, 0, "TOML"),
        ("a = " + "9" * 5000, 0, "TOML"),
        (b'id = "desa"\nname = "\xff"\n', 2, "file"),
        (b"#" * (files.FILE_BYTES_MAX + 1), 0, "file"),
        ("", 0, "id"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path, text: str | bytes, line: int, field: str) -> None:
    assert findings(tmp_path, text)[0][:2] == (line, field)


@pytest.mark.parametrize("where", ["", "absent.toml"])
def test_what_is_no_file_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        files.read_program(tmp_path / where)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"#" * (files.FILE_BYTES_MAX + 1), "is larger than 1048576 bytes"),
        (b"\xff\xfei\x00", "is saved as UTF-16 (`Unicode`): save it as UTF-8"),
    ],
)
def test_a_file_of_which_nothing_is_read_is_named_in_one_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "program.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProgramFileError) as refused:
        files.read_program(path)
    assert str(refused.value) == f"{path} {message}; nothing was imported"


def test_a_fault_of_the_whole_file_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "program.toml"
    path.write_text("")
    with pytest.raises(ProgramFileError) as refused:
        files.read_program(path)
    assert "line 0" not in str(refused.value)
    assert f"{path} is refused" in str(refused.value)


def test_a_refusal_reads_well(tmp_path: Path) -> None:
    path = tmp_path / "program.toml"
    path.write_text(changed("hold_s = 7200", "hold_s = 1"))
    with pytest.raises(ProgramFileError) as refused:
        files.read_program(path)
    assert str(refused.value) == (
        f"{path} is refused, nothing was imported:\n"
        "  line 6: policies.hold_s: 1 is not allowed: a whole number from 10 to 1209600"
    )


WRONG_VALUES = ["", "0", "-1", "1e999", "nan", "true", '""', '"08:00"', "[]", "[[]]", "[{}]", "{}", "{id = 1}"]
WRONG_VALUES += ["2026-01-01", "99999999999999999999", "2026-01-01T00:00:00Z", "08:00:00", '"\\u0000"', "[1, {b = []}]"]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    line=st.integers(0, GOOD.count("\n") - 1),
    value=st.sampled_from(WRONG_VALUES),
    cut=st.booleans(),
)
def test_whatever_stands_in_a_file_is_read_or_refused(tmp_path: Path, line: int, value: str, cut: bool) -> None:
    written = GOOD.splitlines()
    key = written[line].partition("=")[0]
    written[line] = "" if cut else f"{key}= {value}"
    path = tmp_path / "program.toml"
    path.write_text("\n".join(written))
    try:
        files.read_program(path)
    except ProgramFileError as refused:
        assert refused.findings  # noqa: PT017 - both ends are right, any other fault is not


def test_texts_for_people_are_tidied(tmp_path: Path) -> None:
    path = tmp_path / "program.toml"
    messy = GOOD.replace('"Jl. Satu 1"', '"\ufeffJl.\u00a0Satu\t1\u200b "').replace('"Kantor"', '"Kan\u200btor\u00a0A"')
    messy = messy.replace('"Daring"', '" Daring\u00a0"').replace('"Asia/Jakarta"', '"Asia/Jakarta\u00a0"')
    path.write_text(messy)
    office = files.read_program(path).offices[0]
    assert (office.address, office.name.id) == ("Jl. Satu 1", "Kantor A")
    path.write_text(GOOD.replace('"Kantor"', '"Kantor A"'))
    tidy = files.read_program(path)
    path.write_text(messy)
    assert files.read_program(path) == tidy


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u200b"])
def test_a_text_of_which_nothing_is_left_is_refused(tmp_path: Path, blank: str) -> None:
    ((line, field, message),) = findings(tmp_path, GOOD.replace('"Jl. Satu 1"', f'"{blank}"'))
    assert (line, field) == (35, "offices[0].address")
    assert "1 to 200 characters" in message


def test_what_is_written_for_machines_is_not_tidied(tmp_path: Path) -> None:
    assert [field for _, field, _ in findings(tmp_path, GOOD.replace('id = "kanim"', 'id = "kanim\u00a0"'))] == [
        "offices[0].id"
    ]
