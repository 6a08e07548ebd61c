"""Damages one stored value of the ledger at a time."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from reservasi.ledger import keys
from tests.simulation.processes import PROGRAM
from tests.simulation.server import Server

KeyOf = Callable[[str], str]
REMOVABLE = (keys.quotas, keys.facts, keys.names)  # what the ledger misses; who lost their reservation, it cannot know
HASHES = (*REMOVABLE, keys.reservations, keys.persons, keys.openings)
INDEXES = (keys.timers, keys.due, keys.tombstones)  # sorted sets
PLACE = ("epoch", "seq", "chain", "at", "numbers")  # of `meta`: where the ledger is, and what it has numbered so far
BROKEN = (b"", b"\xc1", b"\xff\xfe\xfd", b"\x91\xc0")
TIMER_NUMBER, TIMER_HEAD = 6, 17  # digits of a timer before its time, and before what it is for
LATER = ("1900000000000", "+inf")  # scores beyond every moment of a run


class Damage(ABC):
    """A value that is not what was written; nobody may sell from it, and others must not notice."""

    can_be_put_back = False  # else only a rebuild mends it, since the ledger goes on beside it

    def __init__(self, server: Server, what: str, names: set[str]) -> None:
        self.server = server
        self.what = what
        self.names = names  # of whom and of what it was

    @abstractmethod
    def happen(self) -> None:
        """Damage it."""

    def is_left_alone(self) -> bool:
        """Whether the ledger has written nothing over what it cannot read."""
        return True

    def put_back(self) -> None:
        """Undo it, where that mends it."""
        raise AssertionError("only a rebuild mends it")

    def end(self) -> None:
        """It was mended."""
        self.server.believes_meta = True


class DamagedValue(Damage):
    """Of a hash."""

    can_be_put_back = True

    def __init__(self, server: Server, chance: random.Random, key_of: KeyOf, field: bytes) -> None:
        self._key, self._field = key_of(PROGRAM), field
        (self._before,) = server.execute([("HGET", self._key, field)])
        names = set() if key_of is keys.names else {field.decode()}
        if key_of in (keys.persons, keys.names):  # whose values are a reservation's and a quota's id
            names.add(self._before.decode())
        super().__init__(server, f"{self._key} {field.decode()}", names)
        self._after = _broken(chance, self._before, can_go=key_of in REMOVABLE)

    def happen(self) -> None:
        self._put(self._after)

    def _put(self, value: bytes | None) -> None:
        command: tuple[Any, ...] = ("HDEL", self._key, self._field)
        self.server.execute([command if value is None else ("HSET", self._key, self._field, value)])

    def is_left_alone(self) -> bool:
        (value,) = self.server.execute([("HGET", self._key, self._field)])
        return bool(value == self._after)

    def put_back(self) -> None:
        self._put(self._before)


class DamagedIndex(Damage):
    """A member of a sorted set that is another one, is gone, or comes later."""

    def __init__(self, server: Server, chance: random.Random, key_of: KeyOf, member: bytes, score: bytes) -> None:
        key = key_of(PROGRAM)
        super().__init__(server, f"{key} {member.decode()}", _names(server, key_of, member))
        after = _broken(chance, member, can_go=True)
        self._commands: list[tuple[Any, ...]] = [("ZREM", key, member)]
        if key_of is not keys.timers and chance.random() < 0.3:
            self._commands.append(("ZADD", key, chance.choice(LATER), member))
        elif after is not None:
            self._commands.append(("ZADD", key, score, after))

    def happen(self) -> None:
        self.server.execute(self._commands)


class DamagedPlace(Damage):
    """What `meta` says of where the ledger is."""

    def __init__(self, server: Server, chance: random.Random, field: bytes, before: bytes) -> None:
        self._key, self._field = keys.meta(PROGRAM), field
        super().__init__(server, f"{self._key} {field.decode()}", set())
        ways = (None, _broken(chance, before, can_go=True), str(chance.randrange(1000)).encode())
        self._after = chance.choice(ways)

    def happen(self) -> None:
        self.server.believes_meta = False
        command: tuple[Any, ...] = ("HDEL", self._key, self._field)
        self.server.execute([command if self._after is None else ("HSET", self._key, self._field, self._after)])


def drawn(server: Server, chance: random.Random) -> Damage | None:
    """Damage of a value that is there; None where there is none of the kind that was drawn."""
    key_of: KeyOf = chance.choice((*HASHES, *INDEXES, keys.meta))
    key = key_of(PROGRAM)
    if key_of in INDEXES:
        (members,) = server.execute([("ZRANGE", key, 0, -1, "WITHSCORES")])
        at = 2 * chance.randrange(len(members) // 2) if members else 0
        return DamagedIndex(server, chance, key_of, *members[at : at + 2]) if members else None
    if key_of is keys.meta:
        field = chance.choice(PLACE)
        (before,) = server.execute([("HGET", key, field)])
        return DamagedPlace(server, chance, field.encode(), before or b"")
    (fields,) = server.execute([("HKEYS", key)])
    return DamagedValue(server, chance, key_of, chance.choice(sorted(fields))) if fields else None


def _broken(chance: random.Random, before: bytes, *, can_go: bool) -> bytes | None:
    ways: list[bytes | None] = [*BROKEN, before[: len(before) // 2], chance.randbytes(12)]
    return chance.choice([*ways, None] if can_go else ways)


def _names(server: Server, key_of: KeyOf, member: bytes) -> set[str]:
    """A reservation or a quota; of a timer both."""
    if key_of is not keys.timers:
        return {member.decode()}
    (quota,) = server.execute([("HGET", keys.names(PROGRAM), int(member[:TIMER_NUMBER], 16))])
    return {member[TIMER_HEAD:].decode(), *([quota.decode()] if quota else [])}
