"""The bare handler, and the part of a rival's front that does not depend on its store: decoding, hashes, the answer.

It leaves out what makes ours dearer (full validation, sealed personal data, a journal, metrics), so that a rival is
hard to beat.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
from aiohttp import web

from loadtest.bench.variants.variant import Baseline, Rival
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


class Bare(Rival):
    """The upper bound: it does not even read the request. Other statuses are for answers other than claims."""

    name = "bare"
    title = "bare aiohttp handler, a constant answer of the same size, no store"


async def bare() -> web.Application:
    baseline = Baseline.read()
    body = b'{"padding":"' + b"x" * (baseline.body_bytes - 14) + b'"}'

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=baseline.status, body=body, content_type="application/json")

    app = web.Application()
    if baseline.status == 200:
        app.router.add_get("/v1/availability", answer)
    else:
        app.router.add_post("/v1/reservations", answer)
        app.router.add_post("/v1/openings/{id}/tickets", answer)
    set_aside_what_stays()
    return app


def claim_app(decide: Decide, close: Callable[[], Awaitable[None]]) -> web.Application:
    """A front that decides claims with `decide`."""
    decoder = msgspec.json.Decoder(ClaimBody)
    total_bytes = Baseline.read().body_bytes

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        wanted = decoder.decode(body)
        person = _keyed_hash(b"person", wanted.applicants[0].nik.encode())
        name = _keyed_hash(b"reservation", (person + request.headers["Idempotency-Key"]).encode())
        outcome, deadline_ms = await decide(Claim(name, wanted.quota, person, _keyed_hash(b"fingerprint", body)))
        if outcome not in GRANTED:
            return web.json_response({"outcome": outcome}, status=409)
        fields = {"id": name, "status": "held", "quota": wanted.quota, "hold_expires_at": deadline_ms, "padding": ""}
        text = msgspec.json.encode(fields)
        padded = text[:-2] + b"x" * (total_bytes - len(text)) + b'"}'
        return web.Response(status=201, body=padded, content_type="application/json")

    async def close_store(_app: web.Application) -> None:
        await close()

    app = web.Application()
    app.router.add_post("/v1/reservations", answer)
    app.on_cleanup.append(close_store)
    set_aside_what_stays()
    return app


def _keyed_hash(purpose: bytes, content: bytes) -> str:
    return hmac.digest(KEY, purpose + content, "sha256").hex()[:26]
