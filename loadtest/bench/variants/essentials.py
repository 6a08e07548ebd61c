"""What every rival does with a claim, apart from its store: decode, keyed hashes, an answer of the common size.

It leaves out what makes ours dearer (full validation, sealed personal data, a journal, metrics), so that a rival is
hard to beat.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
from aiohttp import web

from loadtest.bench.variants.variant import Baseline
from reservasi.front.process.garbage_collector import set_aside_what_stays

HOLD_MS = 7_200_000
KEY = b"a key of the benchmark alone"
GRANTED = ("held", "exists")


class Applicant(msgspec.Struct):
    nik: str
    name: str
    birth_date: str


class ClaimBody(msgspec.Struct):
    quota: str
    applicants: list[Applicant]
    contact: dict[str, str]


class Claim(NamedTuple):
    reservation_id: str
    quota: str
    person: str
    fingerprint: str


class Verdict(NamedTuple):
    outcome: str  # "held", "exists", or why not
    deadline_ms: int  # 0 when refused


Decide = Callable[[Claim], Awaitable[Verdict]]


def keyed_hash(purpose: bytes, content: bytes) -> str:
    return hmac.digest(KEY, purpose + content, "sha256").hex()[:26]


def claim_of(quota: str, nik: str, idempotency_key: str, body: bytes) -> Claim:
    person = keyed_hash(b"person", nik.encode())
    reservation_id = keyed_hash(b"reservation", (person + idempotency_key).encode())
    return Claim(reservation_id, quota, person, keyed_hash(b"fingerprint", body))


def answer_body(claim: Claim, deadline_ms: int, total_bytes: int) -> bytes:
    """The body of a 201, padded to `total_bytes`."""
    answer = {"id": claim.reservation_id, "status": "held", "quota": claim.quota, "hold_expires_at": deadline_ms}
    text = msgspec.json.encode({**answer, "padding": ""})
    return text[:-2] + b"x" * (total_bytes - len(text)) + b'"}'


def claim_app(decide: Decide, close: Callable[[], Awaitable[None]]) -> web.Application:
    """A front that answers what `decide` says."""
    decoder = msgspec.json.Decoder(ClaimBody)
    total_bytes = Baseline.read().body_bytes

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        wanted = decoder.decode(body)
        claim = claim_of(wanted.quota, wanted.applicants[0].nik, request.headers["Idempotency-Key"], body)
        outcome, deadline_ms = await decide(claim)
        if outcome not in GRANTED:
            return web.json_response({"outcome": outcome}, status=409)
        text = answer_body(claim, deadline_ms, total_bytes)
        return web.Response(status=201, body=text, content_type="application/json")

    async def close_store(_app: web.Application) -> None:
        await close()

    app = web.Application()
    app.router.add_post("/v1/reservations", answer)
    app.on_cleanup.append(close_store)
    set_aside_what_stays()
    return app
