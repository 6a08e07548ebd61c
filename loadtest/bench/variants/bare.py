"""The ceiling: an aiohttp handler that looks at nothing and answers constant bytes of the same size as ours."""

from aiohttp import web

from loadtest.bench.variants.variant import Baseline, Rival
from reservasi.front.process.garbage_collector import set_aside_what_stays


class Bare(Rival):
    """The bare handler, for claims that succeed or, with another status, for what is measured beside them."""

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
