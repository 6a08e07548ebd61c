"""A draw can be computed again, and later changes are detected."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from reservasi.cli.main import app
from reservasi.sealing import Sealing, create_key_ring, load_key_ring
from reservasi.waiting_room import draw
from reservasi.waiting_room.tickets import Tickets
from reservasi.waiting_room.verification import (
    Claimed,
    DocumentInvalid,
    Problem,
    PublicDraw,
    read_public_draw,
    verify_draw,
)

OPENING = "surabaya-20261201-0800"
SEED = bytes(range(32))
JOINED = 50_000
ENDS_AT_MS = 1_796_000_000_000
SEALING = Sealing(create_key_ring())
TICKETS = Tickets(SEALING.rotating_keys("ticket"))
Json = dict[str, Any]


def ticket_of(person: str, number: int | None = None, opening: str = OPENING, tickets: Tickets = TICKETS) -> str:
    ticket_id = SEALING.ticket_id("surabaya", opening, person)
    return tickets.issue("surabaya", opening, ticket_id, ENDS_AT_MS, number)


def number_of(person: str, beacon: str = "") -> int:
    return draw.number(SEED, SEALING.ticket_id("surabaya", OPENING, person), beacon, JOINED)


def queue(**changes: Any) -> Json:
    document = {
        "state": "open",
        "joined": JOINED,
        "arrived": JOINED + 100,
        "admitted_through": 4000,
        "rate_per_min": 600,
        "opens_at": "2026-12-01T01:00:00Z",
        "ends_at": "2026-12-01T03:00:00Z",
        "commitment": draw.commitment(SEED),
        "seed": SEED.hex(),
    }
    return {name: value for name, value in (document | changes).items() if value is not ...}


def public(**changes: Any) -> PublicDraw:
    return read_public_draw(queue(**changes))


def problems(public: PublicDraw, *claimed: Claimed, **more: Any) -> list[tuple[int, Problem]]:
    return [(each.ticket, each.problem) for each in verify_draw(public, OPENING, claimed, **more).findings]


def test_the_arithmetic_as_it_is_written_down() -> None:
    """The page in the browser and anybody's own program come to the same."""
    assert draw.commitment(SEED) == "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"
    message = b"VP9ENgYCazLqDj2OXwod52\nround 4711"
    u = int.from_bytes(hmac.new(SEED, message, hashlib.sha256).digest()[:8], "big")
    assert draw.number(SEED, "VP9ENgYCazLqDj2OXwod52", "round 4711", JOINED) == u * JOINED // 2**64
    assert draw.number(SEED, "VP9ENgYCazLqDj2OXwod52", "round 4711", JOINED) == KNOWN_WITH_BEACON
    assert draw.number(SEED, "VP9ENgYCazLqDj2OXwod52", "", JOINED) == KNOWN
    for joined in (0, 1):
        assert draw.number(SEED, "VP9ENgYCazLqDj2OXwod52", "", joined) == 0
    assert len({draw.new_seed() for _ in range(100)}) == 100


KNOWN_WITH_BEACON = 41_676
KNOWN = 24_640


def test_an_honest_draw_agrees() -> None:
    claimed = [Claimed(ticket=ticket_of(each), number=number_of(each)) for each in ("siti", "budi", "agus")]
    late = Claimed(ticket=ticket_of("rini", JOINED + 3), number=JOINED + 3)
    untold = Claimed(ticket=ticket_of("dewi"))
    verdict = verify_draw(
        public(), OPENING, [*claimed, late, untold], noted_commitment=draw.commitment(SEED).upper(), reader=TICKETS
    )
    assert verdict.agrees
    assert [each.number for each in verdict.numbers] == [
        *(each.number for each in claimed),
        JOINED + 3,
        number_of("dewi"),
    ]
    assert [each.joined_before_opening for each in verdict.numbers] == [True, True, True, False, True]


def test_a_changed_seed_is_found() -> None:
    other = bytes([SEED[0] ^ 1]) + SEED[1:]
    assert problems(public(seed=other.hex())) == [(0, Problem.COMMITMENT_DIFFERS)]
    # With the commitment changed along, only who noted it beforehand sees it, or who knows a number.
    both = public(seed=other.hex(), commitment=draw.commitment(other))
    assert problems(both) == []
    assert problems(both, noted_commitment=draw.commitment(SEED)) == [(0, Problem.COMMITMENT_DIFFERS)]
    claimed = Claimed(ticket=ticket_of("siti"), number=number_of("siti"))
    assert problems(both, claimed) == [(1, Problem.NUMBER_DIFFERS)]


def test_before_the_opening_there_is_nothing_to_check() -> None:
    claimed = Claimed(ticket=ticket_of("siti"), number=1)
    verdict = verify_draw(public(seed=...), OPENING, [claimed])
    assert [each.problem for each in verdict.findings] == [Problem.NOT_REVEALED]
    assert verdict.numbers[0].number is None


@pytest.mark.parametrize("off", [-1, 1, JOINED])
def test_a_wrong_number_is_found(off: int) -> None:
    right = Claimed(ticket=ticket_of("siti"), number=number_of("siti"))
    wrong = Claimed(ticket=ticket_of("budi"), number=abs(number_of("budi") + off))
    assert problems(public(), right, wrong) == [(2, Problem.NUMBER_DIFFERS)]


def test_a_changed_count_or_beacon_shows_in_the_numbers() -> None:
    right = Claimed(ticket=ticket_of("siti"), number=number_of("siti"))
    assert problems(public(), right) == []
    assert problems(public(joined=JOINED * 2), right) == [(1, Problem.NUMBER_DIFFERS)]
    assert problems(public(beacon="round 4711"), right) == [(1, Problem.NUMBER_DIFFERS)]
    mixed = Claimed(ticket=ticket_of("siti"), number=number_of("siti", "round 4711"))
    assert problems(public(beacon="round 4711"), mixed) == []


def test_a_late_number_before_those_who_waited_is_found() -> None:
    late = Claimed(ticket=ticket_of("rini", JOINED - 1))
    assert problems(public(), late) == [(1, Problem.NUMBER_DIFFERS)]
    assert problems(public(), Claimed(ticket=ticket_of("rini", JOINED), number=5)) == [(1, Problem.NUMBER_DIFFERS)]


def test_a_changed_ticket_is_found() -> None:
    token = ticket_of("siti")
    head, _, signature = token.split(".")
    other_claims = ticket_of("budi").split(".")[1]
    number = number_of("siti")
    assert problems(public(), Claimed(ticket=token[1:], number=number)) == [(1, Problem.TICKET_MALFORMED)]
    swapped = Claimed(ticket=f"{head}.{other_claims}.{signature}", number=number)
    assert problems(public(), swapped) == [(1, Problem.NUMBER_DIFFERS)]
    assert problems(public(), swapped, reader=TICKETS) == [(1, Problem.SIGNATURE_WRONG), (1, Problem.NUMBER_DIFFERS)]
    foreign = Tickets(Sealing(create_key_ring()).rotating_keys("ticket"))
    forged = Claimed(ticket=ticket_of("siti", tickets=foreign), number=number)
    assert problems(public(), forged) == []  # its number is right: only a key tells who signed it
    assert problems(public(), forged, reader=TICKETS) == [(1, Problem.SIGNATURE_WRONG)]
    elsewhere = Claimed(ticket=ticket_of("siti", opening="surabaya-20261202-0800"))
    assert problems(public(), elsewhere) == [(1, Problem.TICKET_FOR_OTHER_OPENING)]


@pytest.mark.parametrize(
    "changes",
    [
        {"joined": ...},
        {"joined": -1},
        {"joined": "5"},
        {"commitment": ...},
        {"commitment": "00"},
        {"seed": "xx"},
        {"seed": "00"},
        {"beacon": 1},
    ],
)
def test_a_document_that_is_no_queue_is_refused(changes: Json) -> None:
    with pytest.raises(DocumentInvalid):
        read_public_draw(queue(**changes))
    with pytest.raises(DocumentInvalid):
        read_public_draw([])


class Service:
    """Something that speaks HTTP and answers what a test says."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = service.answers.get(self.path, (404, b'{"title":"there is no such opening"}'))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def call(self, *words: str) -> Result:
        return CliRunner().invoke(app, ["verify", "draw", "--url", self.url, "--opening", OPENING, *words])

    def report(self, code: int, *words: str) -> Json:
        done = self.call(*words, "--json")
        assert done.exit_code == code, done.output
        document: Json = json.loads(done.stdout)
        return document


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Service()
    made.answers[f"/v1/openings/{OPENING}/queue"] = (200, json.dumps(queue()).encode())
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_the_command_agrees_with_an_honest_draw(service: Service, tmp_path: Path) -> None:
    assert service.report(0)["ok"] is True
    number = number_of("siti")
    report = service.report(0, "--ticket", ticket_of("siti"), "--number", str(number))
    assert [each["number"] for each in report["tickets"]] == [number]
    assert report["findings"] == []
    assert report["commitment"] == draw.commitment(SEED)
    file = tmp_path / "tickets.jsonl"
    lines = [{"ticket": ticket_of(f"p{each}"), "number": number_of(f"p{each}")} for each in range(300)]
    lines.append({"ticket": ticket_of("rini", JOINED + 1), "ticket_id": "as the service answers"})
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    report = service.report(0, "--tickets", str(file), "--commitment", draw.commitment(SEED))
    assert len(report["tickets"]) == 301
    words = service.call("--tickets", str(file))
    assert words.exit_code == 0
    assert "the draw agrees" in words.stdout
    assert "301" in words.stdout


def test_the_command_finds_what_was_changed(service: Service, tmp_path: Path) -> None:
    wrong = service.report(1, "--ticket", ticket_of("siti"), "--number", str(number_of("siti") + 1))
    assert wrong["ok"] is False
    assert [(each["problem"], each["ticket"]) for each in wrong["findings"]] == [("number-differs", 1)]
    file = tmp_path / "tickets.jsonl"
    file.write_text(json.dumps({"ticket": ticket_of("siti"), "number": JOINED}))
    assert service.report(1, "--tickets", str(file))["ok"] is False
    assert [each["problem"] for each in service.report(1, "--commitment", "0" * 64)["findings"]] == [
        "commitment-differs"
    ]
    service.answers[f"/v1/openings/{OPENING}/queue"] = (200, json.dumps(queue(seed="00" * 32)).encode())
    words = service.call()
    assert words.exit_code == 1
    assert "does not agree" in words.stdout
    service.answers[f"/v1/openings/{OPENING}/queue"] = (200, json.dumps(queue(seed=...)).encode())
    words = service.call()
    assert words.exit_code == 1
    assert "before the opening" in words.stdout


def test_with_the_key_ring_at_hand_signatures_count(service: Service, tmp_path: Path) -> None:
    sealing = Sealing(load_key_ring(tmp_path / "secrets.json", create=True))
    own = ticket_of("siti", tickets=Tickets(sealing.rotating_keys("ticket")))
    assert service.report(0, "--ticket", own, "--data-dir", str(tmp_path))["ok"] is True
    report = service.report(1, "--ticket", ticket_of("siti"), "--data-dir", str(tmp_path))
    assert [each["problem"] for each in report["findings"]] == ["signature-wrong"]
    assert "cannot be read" in service.report(1, "--data-dir", str(tmp_path / "elsewhere"))["error"]


def test_what_cannot_be_fetched_or_read_is_said_so(service: Service, tmp_path: Path) -> None:
    path = f"/v1/openings/{OPENING}/queue"
    for answer, words in [
        ((404, b'{"title":"there is no such opening"}'), "404: there is no such opening"),
        ((503, b"[]"), "answers 503"),
        ((200, b"<html>"), "cannot be read"),
        ((200, b"{}"), "not an opening's queue"),
        ((200, b" " * (65 << 10)), "more than 64 KiB"),
    ]:
        service.answers[path] = answer
        assert words in service.report(1)["error"]
    file = tmp_path / "tickets.jsonl"
    file.write_bytes(b'{"ticket":"a"}\n{"number":1}\n')
    assert "line 2" in service.report(1, "--tickets", str(file))["error"]
    assert "cannot be read" in service.report(1, "--tickets", str(tmp_path / "none"))["error"]


@pytest.mark.parametrize(
    "words",
    [
        ("--url", "file:///etc/passwd"),
        ("--url", "localhost:8080"),
        ("--opening", "../../staff"),
        ("--opening", "x"),
        ("--commitment", "xyz"),
        ("--number", "5"),
    ],
)
def test_a_wrong_use_is_refused_before_anything_is_asked(words: tuple[str, ...], service: Service) -> None:
    service.answers.clear()
    assert service.report(2, *words)["error"]


def test_the_document_survives_members_that_come_later() -> None:
    assert read_public_draw(queue(something={"new": 1})) == public()
    assert msgspec.structs.asdict(public())["beacon"] == ""
