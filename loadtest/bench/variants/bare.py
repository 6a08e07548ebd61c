"""The ceiling: an aiohttp handler that looks at nothing and answers a constant 201 of the same size."""

from typing import ClassVar

from aiohttp import web

from loadtest.bench.ground import Ground
from loadtest.bench.ports import free_port
from loadtest.bench.serving import Baseline, body_bytes
from loadtest.bench.variants.variant import baseline_front, pid_of, start_on


class Bare:
    """The bare handler."""

    name: ClassVar[str] = "bare"
    title: ClassVar[str] = "bare aiohttp handler, a constant 201 of the same size, no store"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.port = free_port()
        self._front = baseline_front(ground, __name__, self.port)

    @property
    def pids(self) -> dict[str, int]:
        return {"front": pid_of(self._front)}

    async def start(self) -> None:
        await start_on(self._front, self._ground.cores.front)

    async def stop(self) -> None:
        await self._front.stop()

    async def settle(self) -> None:
        """Nothing is left to do."""

    async def held(self) -> int | None:
        return None


async def make_app() -> web.Application:
    body = b'{"padding":"' + b"x" * (body_bytes() - 14) + b'"}'

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=201, body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/reservations", answer)
    return app


if __name__ == "__main__":
    Baseline(make_app).run()
