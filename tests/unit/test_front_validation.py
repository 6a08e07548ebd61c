"""Validation of untrusted input: no crash, every error reported, nothing repeated."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reservasi.front.api.problem_catalogue import INVALID_REQUEST
from reservasi.front.api.problems import FINDINGS_MAX, Refused, problem_body
from reservasi.front.reading.field_checks import (
    APPLICANT,
    CLAIM,
    check_birth_date,
    check_name,
    check_nik,
    parse_moment_ms,
)
from reservasi.front.reading.findings import NOT_TEXT, Field, Findings, has_repeated_keys, read_json, read_object
from reservasi.front.reading.opening_requests import BEACON, JOIN, read_admission, read_beacon, read_join, read_opening
from reservasi.front.reading.reservation_requests import (
    ClaimBodyReader,
    idempotency_key,
    read_confirm,
    read_quota_change,
)
from reservasi.front.views.quota_json import moment

NIK = "3578014107900001"
QUOTA = "surabaya.kanim.baru.20261201.0800.online"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.sampled_from(["quota", "applicants", "contact", "ticket", "nik", "name", "birth_date", "email", "phone"])
CLAIMS = st.recursive(
    JSON, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(FIELDS, inner, max_size=5), max_leaves=20
)


@given(CLAIMS)
def test_any_json_is_read_or_refused(value: Any) -> None:
    refused = refusal_of(lambda: ClaimBodyReader(msgspec.json.encode(value)).read(5, "k"))
    assert refused is None or problem_body(refused, "id")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    refusal_of(lambda: ClaimBodyReader(body).read(5, "k"))
    refusal_of(lambda: read_quota_change(body, QUOTA, 0))
    refusal_of(lambda: read_confirm(body))


def refusal_of(read: Callable[[], object]) -> Refused | None:
    """The refusal, if it is one: an invalid request that names what is wrong. Nothing else may be raised."""
    refused = None
    try:
        read()
    except Refused as error:
        refused = error
    assert refused is None or (refused.kind is INVALID_REQUEST and refused.findings)
    return refused


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{15,17}", fullmatch=True) | st.from_regex(r"\d{16}", fullmatch=True))
def test_nothing_else_is_a_nik(value: str) -> None:
    accepted = check_nik(value) is None
    assert accepted <= (len(value) == 16 and value.isascii() and value.isdigit())


@pytest.mark.parametrize("day", [1, 31, 41, 71])
def test_days_of_men_and_women(day: int) -> None:
    assert check_nik(f"357801{day:02}0190{1:04}") is None


@pytest.mark.parametrize("day", [0, 32, 40, 72, 80, 81, 99])
def test_days_that_are_none(day: int) -> None:
    wrong = check_nik(f"357801{day:02}0190{1:04}")
    assert wrong is not None
    assert wrong.code == "nik-invalid"


@pytest.mark.parametrize("name", ["Siti", "O'Neil", "Ni Luh Putu", "José", "李", "x" * 100])
def test_names(name: str) -> None:
    assert check_name(name) is None


def test_birth_dates_around_today() -> None:
    today = (datetime.now(UTC) + timedelta(hours=9)).date()
    assert check_birth_date(today.isoformat()) is None
    assert check_birth_date((today + timedelta(days=2)).isoformat()) is not None
    assert check_birth_date("1900-01-01") is None


@given(st.integers(946_684_800_000, 4_102_444_799_999))  # the years 2000 to 2099
@example(1_075_593_600_008)  # which is not a whole number of milliseconds as a float of seconds
def test_moments_come_back(at_ms: int) -> None:
    assert parse_moment_ms(moment(at_ms)) == at_ms


@pytest.mark.parametrize(
    "value",
    [
        "2027-02-30T00:00:00Z",
        "2027-02-03",
        "2027-02-03T00:00:00",
        "2027-02-03T24:00:00Z",
        "2027-02-03T00:00:00+25:00",
        "1999-12-31T00:00:00Z",
        "2100-01-01T00:00:00Z",
        "2027-02-03 00:00:00Z",
        "２027-02-03T00:00:00Z",
        "",
    ],
)
def test_moments_that_are_none(value: str) -> None:
    assert parse_moment_ms(value) is None


def test_null_takes_a_time_away_and_absence_keeps_it() -> None:
    change = read_quota_change(b'{"opens_at": null}', QUOTA, 3)
    assert (change.opens_at_ms, change.closes_at_ms, change.capacity, change.closed) == (0, None, None, None)
    assert (change.quota, change.version) == (QUOTA, 3)


def test_the_programs_own_limit_counts() -> None:
    applicants = [{"nik": f"357801410790000{n}", "name": "Siti", "birth_date": "1990-07-01"} for n in range(3)]
    body = msgspec.json.encode({"quota": QUOTA, "applicants": applicants})
    assert len(ClaimBodyReader(body).read(3, "k").applicants) == 3
    with pytest.raises(Refused) as refused:
        ClaimBodyReader(body).read(2, "k")
    assert [f.code for f in refused.value.findings] == ["applicants-count"]


def test_nothing_that_was_sent_comes_back() -> None:
    body = msgspec.json.encode(
        {NIK: 1, "quota": NIK, "applicants": [{"nik": int(NIK), "name": f"{NIK}\n", "birth_date": NIK, NIK: NIK}]}
    )
    with pytest.raises(Refused) as refused:
        ClaimBodyReader(body).read(5, "k")
    assert len(refused.value.findings) == 6
    assert NIK.encode() not in problem_body(refused.value, "id") + problem_body(refused.value, "en")


def test_findings_are_bounded() -> None:
    findings = Findings()
    read_object({f"x{'y' * n}": n for n in range(500)}, APPLICANT, "", findings)
    assert len(findings.all()) == FINDINGS_MAX


@pytest.mark.parametrize("key", ["k", "k" * 255, "a b", "0b7c3a52-6f0e-4a56-9d4e-1f3c8f1f2a10"])
def test_keys(key: str) -> None:
    assert idempotency_key([key]) == key


@pytest.mark.parametrize("keys", [[], [""], ["  "]])
def test_keys_that_are_missing(keys: list[str]) -> None:
    with pytest.raises(Refused, match="idempotency-key-missing"):
        idempotency_key(keys)


@pytest.mark.parametrize("keys", [["k" * 256], ["é"], ["a\x7f"], ["a", "b"], [" a"], ["a "]])
def test_keys_that_are_none(keys: list[str]) -> None:
    with pytest.raises(Refused, match="invalid-request"):
        idempotency_key(keys)


REPEATED = [
    (b'{"quota": "x", "quota": "y"}', "/quota", "quota"),
    (b'{"quota": "x", "\\u0071uota": "x"}', "/quota", "quota"),
    (b'{"applicants": [{}, {"nik": "1", "n\\u0069k" : "2"}]}', "/applicants/1/nik", "nik"),
    (b'{"contact": {"email": "", "phone": "", "email": ""}}', "/contact/email", "email"),
    (b'{"contact": {}, "contact": {}}', "/contact", "contact"),
    (b'{"other": {"deep": [[{"a": 1, "a": 1}]]}}', "/other/deep/0/0/a", "a"),
    (b'{"a": ":::", "a": ":::"}', "/a", "a"),
]


@pytest.mark.parametrize(("body", "pointer", "name"), REPEATED)
def test_a_key_that_is_named_twice_is_named(body: bytes, pointer: str, name: str) -> None:
    for read in (
        lambda: ClaimBodyReader(body).read(5, "k"),
        lambda: read_quota_change(body, QUOTA, 0),
        lambda: read_confirm(body),
        lambda: read_join(body),
        lambda: read_opening(body, 0),
        lambda: read_admission(body),
        lambda: read_beacon(body),
    ):
        refused = refusal_of(read)
        assert refused is not None
        (finding,) = refused.findings
        assert (finding.pointer, finding.code) == (pointer, "repeated-key")
        assert f"`{name}`" in finding.detail.id
        assert f"`{name}`" in finding.detail.en


def test_a_number_that_is_named_twice_does_not_come_back() -> None:
    refused = refusal_of(lambda: read_confirm(f'{{"{NIK}": 1, "{NIK}": 2}}'.encode()))
    assert refused is not None
    assert [(finding.pointer, finding.code) for finding in refused.findings] == [("", "repeated-key")]
    assert NIK.encode() not in problem_body(refused, "id") + problem_body(refused, "en")


@settings(deadline=None)
@given(st.recursive(st.none() | st.text(max_size=3), lambda inner: st.lists(st.tuples(FIELDS, inner), max_size=4)))
def test_repeated_keys_are_found_exactly(pairs: Any) -> None:
    def written(value: Any) -> str:
        if isinstance(value, list):
            return "{" + ", ".join(f"{json.dumps(name)} : {written(inner)}" for name, inner in value) + "}"
        return json.dumps(value)

    def repeats(value: Any) -> bool:
        if not isinstance(value, list):
            return False
        names = [name for name, _ in value]
        return len(names) > len(set(names)) or any(repeats(inner) for _, inner in value)

    body = written(pairs).encode()
    findings = Findings()
    read_json(body, findings)
    assert any(each.code == "repeated-key" for each in findings.all()) == repeats(pairs) == has_repeated_keys(body)


@pytest.mark.parametrize("body", [b'{"payment_reference": ""}', b'{"payment_reference": null}', b"{}", b""])
def test_no_reference_is_none(body: bytes) -> None:
    assert read_confirm(body) == ""


def test_a_reference_is_tidied() -> None:
    body = json.dumps({"payment_reference": " 8202 6112\u00a07001\u200b"}).encode()
    assert read_confirm(body) == "820261127001"


def test_null_is_as_if_left_out() -> None:
    for none in (None, ""):
        assert read_join(msgspec.json.encode({"nik": NIK, "birth_date": "1990-07-01", "altcha": none})).altcha == ""
    assert read_admission(b'{"paused": null, "rate_per_min": 5, "reason": null}') == (None, 5, "")
    change = read_quota_change(b'{"capacity": null, "closed": true}', QUOTA, 3)
    assert (change.capacity, change.closed) == (None, True)
    wanted = {"program": "surabaya", "opens_at": "2026-12-01T00:00:00Z", "from": "2026-12-01", "to": "2026-12-02"}
    optional = ("id", "joins_from", "ends_at", "waiting_room", "proof_of_work", "rate_per_min", "adaptive", "office")
    nulls = {**wanted, **dict.fromkeys(optional)}
    assert read_opening(msgspec.json.encode(nulls), 0) == read_opening(msgspec.json.encode(wanted), 0)


@pytest.mark.parametrize("body", [b'{"capacity": null}', b'{"closed": null}'])
def test_nothing_but_nulls_changes_nothing(body: bytes) -> None:
    refused = refusal_of(lambda: read_quota_change(body, QUOTA, 0))
    assert refused is not None
    assert [finding.code for finding in refused.findings] == ["change-empty"]


@pytest.mark.parametrize("value", [None, True, [], {}])
@pytest.mark.parametrize(
    ("fields", "name"),
    [
        *((fields, name) for fields in (APPLICANT, JOIN) for name in fields if fields[name].required),
        (CLAIM, "quota"),
        (BEACON, "value"),
    ],
)
def test_what_is_neither_text_nor_a_number_is_not_called_a_number(
    fields: dict[str, Field], name: str, value: object
) -> None:
    wrong = fields[name].check(value)
    assert wrong is not None
    assert wrong.code.endswith("-type")
    assert wrong.detail == NOT_TEXT


@pytest.mark.parametrize("number", [int(NIK), 3.5])
def test_a_nik_without_quotation_marks_is_called_a_number(number: float) -> None:
    wrong = check_nik(number)
    assert wrong is not None
    assert (wrong.code, wrong.detail.en) == ("nik-type", "The NIK must be a string, not a number.")


@pytest.mark.parametrize("typed", ["drand:3a7f", " drand:3a7f\u00a0", "\ufeffdrand:3a\u200b7f\r\n"])
def test_a_beacon_is_tidied(typed: str) -> None:
    assert read_beacon(json.dumps({"value": typed}).encode()) == ("drand:3a7f", "")


@pytest.mark.parametrize("typed", ["", " ", "a b", "a\u00a0b", "a\nb", "\u00e9", "x" * 257, None, 7])
def test_what_is_no_beacon_is_refused(typed: Any) -> None:
    refused = refusal_of(lambda: read_beacon(json.dumps({"value": typed}).encode()))
    assert refused is not None
    assert [finding.pointer for finding in refused.findings] == ["/value"]


def test_a_byte_order_mark_is_named() -> None:
    refused = refusal_of(lambda: read_confirm(b"\xef\xbb\xbf{}"))
    assert refused is not None
    (finding,) = refused.findings
    assert finding.code == "invalid-json"
    assert "BOM" in finding.detail.id
    assert "BOM" in finding.detail.en
