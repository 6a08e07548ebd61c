"""The ceiling: an aiohttp handler that looks at nothing and answers constant bytes of the same size as ours."""

import os
from typing import ClassVar

from aiohttp import web

from loadtest.bench.ground import Ground
from loadtest.bench.serving import Baseline, body_bytes
from loadtest.bench.variants.variant import Rival

STATUS_VARIABLE = "BENCH_BARE_STATUS"
ROUTES = {200: ("GET", "/v1/availability")}  # by the status of the answer; others answer claims
CLAIMS = ("POST", "/v1/reservations")
JOINS = ("POST", "/v1/openings/{id}/tickets")


class Bare(Rival):
    """The bare handler, for claims that succeed or, with another status, for what is measured beside them."""

    name: ClassVar[str] = "bare"
    title: ClassVar[str] = "bare aiohttp handler, a constant answer of the same size, no store"

    def __init__(self, ground: Ground, status: int = 201) -> None:
        super().__init__(ground)
        self._front.env = {**self._front.env, STATUS_VARIABLE: str(status)}


async def make_app() -> web.Application:
    status = int(os.environ[STATUS_VARIABLE])
    body = b'{"padding":"' + b"x" * (body_bytes(status=status) - 14) + b'"}'

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, content_type="application/json")

    app = web.Application()
    for route in [ROUTES[status]] if status in ROUTES else [CLAIMS, JOINS]:
        app.router.add_route(*route, answer)
    return app


if __name__ == "__main__":
    Baseline(make_app).run()
