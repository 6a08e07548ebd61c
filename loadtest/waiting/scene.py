"""An opening with a waiting room at a service that runs, and what its key ring is needed for afterwards."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from loadtest.stage.program import PROGRAM
from loadtest.stage.service import Service, wait_for
from reservasi.bootstrap.commands import open_operations, open_program
from reservasi.cli.opening_creation import Selection, create_opening
from reservasi.model import SetOpening
from reservasi.programs import WaitingRoom
from reservasi.sealing import Sealing
from reservasi.settings import load
from reservasi.waiting_room.creation import new_terms

OPENING = f"{PROGRAM}-waiting"
LASTS_MS = 3_600_000
BEACON = "load-test:4f1d"
SEEN_TIMEOUT_S = 30.0


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    opening: str
    opens_at_ms: int
    commitment: str
    sealing: Sealing

    def person(self, nik: str) -> str:
        return self.sealing.person(PROGRAM, nik)


@asynccontextmanager
async def announced(service: Service, room: WaitingRoom, opens_in_s: float) -> AsyncIterator[Scene]:
    """Let all quotas of the service open together in so many seconds; people may join at once."""
    async with open_operations(load(data_dir=service.data_dir)) as operations:
        now_ms = int(time.time() * 1000)
        opens_at_ms = now_ms + int(opens_in_s * 1000)
        ends_at_ms = opens_at_ms + LASTS_MS
        terms = new_terms(
            operations.sealing, OPENING, opens_at_ms, room, joins_from_ms=now_ms - 1000, ends_at_ms=ends_at_ms
        )
        await create_opening(operations, PROGRAM, OPENING, terms, Selection())
        async with open_program(operations, PROGRAM) as group:
            await group.submit(SetOpening(opening=OPENING, beacon=BEACON))

        def is_seen() -> bool:  # with the beacon, the opening as well; several fronts have the same journal
            queue = service.get(f"/v1/openings/{OPENING}/queue")
            return bool(queue) and queue.get("beacon") == BEACON

        wait_for(is_seen, SEEN_TIMEOUT_S, "the fronts do not know the opening")
        yield Scene(opening=OPENING, opens_at_ms=opens_at_ms, commitment=terms.commitment, sealing=operations.sealing)
