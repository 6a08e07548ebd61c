"""One stored value of the ledger at a time is damaged behind its back, and mended a while later."""

import random
from collections.abc import Callable
from typing import Any

from reservasi.ledger import keys
from tests.simulation.processes import PROGRAM
from tests.simulation.server import Server

REMOVABLE = (keys.quotas, keys.facts, keys.names)  # what the ledger misses; who lost their reservation, it cannot know
KEYS = (*REMOVABLE, keys.reservations, keys.persons, keys.openings)
BROKEN = (b"", b"\xc1", b"\xff\xfe\xfd", b"\x91\xc0")


class Damage:
    """A value that is not what was written; nobody may sell from it, and others must not notice."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self._server = server
        key_of: Callable[[str], str] = chance.choice(KEYS)
        self._key = key_of(PROGRAM)
        (fields,) = server.execute([("HKEYS", self._key)])
        self.what = ""
        self.names: set[str] = set()
        if not fields:
            return
        self._field: bytes = chance.choice(sorted(fields))
        (self._before,) = server.execute([("HGET", self._key, self._field)])
        self._after = self._broken(chance, can_go=key_of in REMOVABLE)
        self._put(self._after)
        self.what = f"{self._key} {self._field.decode()}"
        if key_of in (keys.persons, keys.names):  # whose values are a reservation's and a quota's id
            self.names.add(self._before.decode())
        if key_of is not keys.names:
            self.names.add(self._field.decode())

    def _broken(self, chance: random.Random, *, can_go: bool) -> bytes | None:
        ways: list[bytes | None] = [*BROKEN, self._before[: len(self._before) // 2], chance.randbytes(12)]
        return chance.choice([*ways, None] if can_go else ways)

    def _put(self, value: bytes | None) -> None:
        command: tuple[Any, ...] = ("HDEL", self._key, self._field)
        self._server.execute([command if value is None else ("HSET", self._key, self._field, value)])

    def mend(self) -> bool:
        """Put back what stood there; whether the ledger had left it alone."""
        (found,) = self._server.execute([("HGET", self._key, self._field)])
        self._put(self._before)
        return bool(found == self._after)
