"""The fast reader of claims accepts only what the full one accepts, with the same result."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reservasi.front.api.problems import Refused
from reservasi.front.reading.field_checks import APPLICANT
from reservasi.front.reading.reservation_requests import ClaimBodyReader, idempotency_key, plain_claim
from reservasi.reservations import Applicant, ClaimRequest

QUOTA = "surabaya.kanim.baru.20261201.0800.online"
NIK = "3578014107900001"
ODD: list[Any] = [None, 0, 1.5, True, "", " ", "\n", [], {}, ["x"], {"a": 1}]
OTHER_DATES = [
    "1990-7-01",
    "+1990-07-01",
    "1990-07-01T00:00:00Z",
    "1990-07-01 ",
    "1990-182",
    "1990-W26-7",
    "0000-01-01",
]
quotas = st.sampled_from([QUOTA, QUOTA, f"{QUOTA}\n", f" {QUOTA}", "x", QUOTA.upper(), *ODD])
niks = st.sampled_from(
    [
        NIK,
        "3578014107900002",
        "3578 0141 0790 0003",
        f"{NIK}\u200b",
        f"{NIK}\n",
        f"{NIK[:8]}\r\n{NIK[8:]}",
        "３５７８０１４１０７９００００１",
        "0000000000000000",
        NIK[:-1],
        *ODD,
    ]
)
names = st.sampled_from(
    ["Siti", "José", "Jose\u0301", " Siti\u00a0\tA ", "x" * 100, "x" * 101, "a\nb", "a:b", "\u202e", "\U0001f600", *ODD]
)
dates = st.sampled_from(
    [
        "1990-07-01",
        "1990-02-30",
        "2999-01-01",
        "1899-12-31",
        "1990-07-01\n",
        "\u200b 1990-07-01",
        "１９９０-07-01",
        "19900701",
        *OTHER_DATES,
        *ODD,
    ]
)
emails = st.sampled_from(
    ["siti@example.id", "siti@example.id\n", " o\u2019brien@X.id\u200b", "siti..r@x.id", "\u200b", "x", "@", *ODD]
)
phones = st.sampled_from(["+62 812 3456 7890", "(021) 555-1234", "0812345", "1", "+62812\n", "\u00a0", *ODD])


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly whole objects, sometimes with a field too few or too many, sometimes something else."""
    whole = st.fixed_dictionaries(fields)
    return st.one_of(
        whole,
        st.fixed_dictionaries({}, optional={**fields, "more": st.just(1)}),
        st.sampled_from(ODD),
    )


applicants = st.one_of(
    st.lists(objects(nik=niks, name=names, birth_date=dates), max_size=6),
    st.lists(
        st.fixed_dictionaries({"nik": niks, "name": st.just("Siti"), "birth_date": st.just("1990-07-01")}), max_size=3
    ),
    st.sampled_from(ODD),
)
contacts = objects(email=emails, phone=phones)
bodies = st.one_of(
    objects(quota=quotas, applicants=applicants),
    objects(quota=quotas, applicants=applicants, contact=contacts, ticket=st.sampled_from(["t", "x" * 2049, *ODD])),
)
keys = st.sampled_from(["k", "a b", "k" * 255, "k" * 256, "a\x7f", " a", "a ", "", "é"])


def long_way(body: bytes, key: str) -> ClaimRequest | None:
    try:
        return ClaimBodyReader(body).read(5, idempotency_key([key]))
    except Refused:
        return None


def short_way(body: bytes, key: str) -> ClaimRequest | None:
    """As the front asks: a quota that it does not know is read with care, whatever its id looks like."""
    claim = plain_claim(body, key)
    return claim if claim is not None and claim.quota == QUOTA else None


GOOD = {"quota": QUOTA, "applicants": [{"nik": NIK, "name": "Siti", "birth_date": "1990-07-01"}]}


@given(body=bodies, key=keys)
@example(body={**GOOD, "quota": f"{QUOTA}\n"}, key="k")
@example(body={**GOOD, "quota": "x"}, key="k")
@example(body={**GOOD, "contact": {"email": "siti@example.id"}, "ticket": ""}, key="k")
@example(body={**GOOD, "contact": {"phone": ""}}, key="k")
@example(body={**GOOD, "contact": {}, "ticket": ""}, key="k")
def test_both_ways_read_the_same(body: Any, key: str) -> None:
    encoded = json.dumps(body).encode()
    assert short_way(encoded, key) == long_way(encoded, key)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(GOOD).encode(),
        json.dumps({**GOOD, "contact": {"email": "siti@example.id"}}).encode(),
        json.dumps({**GOOD, "contact": {}}).encode(),
        json.dumps(GOOD).encode().replace(b"Siti", b"Si\xff"),
        json.dumps(GOOD).encode().replace(b"Siti", b"Si\\ud800"),
        b'{"quota":"x",' + json.dumps(GOOD).encode()[1:],
        b'{"\\u0071uota":"x",' + json.dumps(GOOD).encode()[1:],
        json.dumps(GOOD).encode().replace(b'"name"', b'"na\\u006de" : "a", "name"'),
        json.dumps({**GOOD, "ticket": "a:b:c"}).encode(),
        json.dumps({**GOOD, "ticket": None, "contact": {"email": None}}).encode(),
        json.dumps(GOOD).encode()[:-1] + b',"contact":null,"contact":{}}',
        json.dumps(GOOD).encode()[:-1] + b',"ticket":"a","ticket":"a"}',
        json.dumps(GOOD).encode()[:-1] + b',"contact":{"email":"","email":"","phone":null}}',
        json.dumps({**GOOD, "contact": None}).encode("utf-16"),
        json.dumps(GOOD).encode() + b" ",
        json.dumps(GOOD).encode() + b"x",
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
        b"[" * 10_000,
        b"",
        b"null",
    ],
)
def test_both_ways_read_the_same_bytes(body: bytes) -> None:
    assert short_way(body, "k") == long_way(body, "k")


def test_no_field_is_read_on_the_short_way_alone() -> None:
    """What a person's data gain for other reasons must not be taken from strangers unchecked."""
    assert set(Applicant.__struct_fields__) == APPLICANT.keys()


def test_what_is_good_is_read_on_the_short_way() -> None:
    assert plain_claim(json.dumps(GOOD).encode(), "k") is not None


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        {**GOOD, "contact": None, "ticket": None},
        {**GOOD, "contact": {"email": "", "phone": None}, "ticket": ""},
        {**GOOD, "contact": {"email": " ", "phone": "\u200b"}},
        {**GOOD, "contact": {}},
    ],
)
def test_what_is_empty_is_as_if_left_out(body: Any) -> None:
    assert plain_claim(json.dumps(body).encode(), "k") == plain_claim(json.dumps(GOOD).encode(), "k")


def test_messy_and_plain_are_one_request() -> None:
    contact = {"email": "o'brien@x.id", "phone": "+622155551234"}
    plain = {
        **GOOD,
        "applicants": [{"nik": NIK, "name": "Siti Ma'ruf", "birth_date": "1990-07-01"}],
        "contact": contact,
    }
    messy = {
        **GOOD,
        "applicants": [
            {
                "nik": "3578 0141 0790\u00a00001",
                "name": "\ufeff Siti\u00a0\u200bMa\u2019ruf\t",
                "birth_date": "1990-07-01",
            }
        ],
        "contact": {"email": " o\u2019brien@X.ID\u200b", "phone": "\u202a+62 (21) 5555-1234\u202c"},
    }
    for way in (short_way, long_way):
        assert way(json.dumps(messy).encode(), "k") == way(json.dumps(plain).encode(), "k") is not None
