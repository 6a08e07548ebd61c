"""The ceiling: an aiohttp handler that looks at nothing and answers constant bytes of the same size as ours."""

from aiohttp import web

from loadtest.bench.serving import Baseline, Gunicorn
from loadtest.bench.variants.variant import Rival

ROUTES = {200: ("GET", "/v1/availability")}  # by the status of the answer; others answer claims and joins
CLAIMS = ("POST", "/v1/reservations")
JOINS = ("POST", "/v1/openings/{id}/tickets")


class Bare(Rival):
    """The bare handler, for claims that succeed or, with another status, for what is measured beside them."""

    name = "bare"
    title = "bare aiohttp handler, a constant answer of the same size, no store"


async def make_app() -> web.Application:
    baseline = Baseline.read()
    body = b'{"padding":"' + b"x" * (baseline.body_bytes - 14) + b'"}'

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=baseline.status, body=body, content_type="application/json")

    app = web.Application()
    for route in [ROUTES[baseline.status]] if baseline.status in ROUTES else [CLAIMS, JOINS]:
        app.router.add_route(*route, answer)
    return app


if __name__ == "__main__":
    Gunicorn(make_app).run()
