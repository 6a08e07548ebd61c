"""A proxy that loses answers on command: the request is carried out, its answer never arrives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loadtest.stage.proxy import Connect, Link, Proxy


class LosingProxy(Proxy):
    """Loses only answers to what contains the mark."""

    def __init__(self, connect: Connect, mark: bytes) -> None:
        super().__init__(connect)
        self.lost = 0  # answers so far
        self.all_lost = asyncio.Event()  # of those that were to be lost
        self._to_lose = 0
        self._mark = mark
        self._asked: set[Link] = set()  # connections by which such a request is under way

    def lose(self, count: int) -> None:
        self._to_lose = count
        self.all_lost.clear()

    async def upwards(self, link: Link, chunk: bytes) -> bool:
        if self._mark in chunk:
            self._asked.add(link)
        return True

    async def downwards(self, link: Link, chunk: bytes) -> bool:
        if link not in self._asked:
            return True
        self._asked.discard(link)
        if not chunk or not self._to_lose:
            return True
        self._to_lose -= 1
        self.lost += 1
        if not self._to_lose:
            self.all_lost.set()
        return False


@asynccontextmanager
async def open_proxy(connect: Connect, mark: bytes) -> AsyncIterator[LosingProxy]:
    proxy = LosingProxy(connect, mark)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
