"""A short run of every command that a program's ledger has, with the answers that callers get."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from loadtest.stage.program import open_terms
from reservasi.errors import ReservasiError
from reservasi.ledger.group_commit import GroupCommit
from reservasi.model import (
    IMPORT_ACTOR,
    Admit,
    Command,
    Join,
    MoveOpening,
    OpeningTerms,
    QuotaTerms,
    Retire,
    RetireOpening,
    SetOpening,
    SetQuota,
    Sweep,
)
from reservasi.reservations import Reservations
from tests.trials.callers import Callers

HOLD_MS = 250  # where holds expire
RETURN_MS = 200  # where places come back late
OPENS_IN_MS = 300
CLOSES_IN_MS = 120_000  # less than holds last
LONG_AGO_MS = 1
FAR_AHEAD_MS = 4_000_000_000_000
CONFIRMS_MAX = 20  # tries to be quicker than HOLD_MS
RANDOM_ROUNDS, AT_ONCE = 8, 6
RANDOM_PEOPLE = range(900, 920)
OPENING = "opening"
OVER_DATE, OVER_MS = "2020-01-06", 1_578_279_600_000  # of a window that may be retired: 10:00 in UTC+7
# Quotas by what is special about them.
WINDOWS = ("busy", "short", "late", "ahead", "closed", "fixed", "closing", "over", "next", "moved")


class Trial:
    """One program under one library."""

    def __init__(
        self,
        program: str,
        seed: int,
        reservations: Reservations,
        group: GroupCommit,
        clock: Callable[[], Awaitable[int]],
    ) -> None:
        self.program = program
        self.callers = Callers(reservations, seed)
        self._chance = random.Random(seed)
        self._group = group
        self._clock = clock

    def quota(self, window: str) -> str:
        return f"{self.program}.kanim.baru.20301201.{8 + WINDOWS.index(window):02d}00.online"

    async def play(self) -> None:
        """Everything, in an order that does not depend on how fast the machine is."""
        await self._set_up()
        await self._busy()
        await self._refused_by_terms()
        await self._retired()
        await self._short()
        await self._late()
        await self._closing()
        await self._waiting_room()
        await self._moved()
        await self._retired_openings()
        await self._at_random()
        await self._sweep()

    # -- the scenes ----------------------------------------------------------------------------------------------

    async def _set_up(self) -> None:
        late = {"return_min_ms": RETURN_MS, "return_max_ms": RETURN_MS + 50}
        await self._set("busy", open_terms(capacity=4))
        await self._set("short", open_terms(capacity=CONFIRMS_MAX + 6, hold_ms=HOLD_MS))
        await self._set("late", open_terms(capacity=2, **late))
        await self._set("ahead", open_terms(capacity=2, opens_at_ms=FAR_AHEAD_MS))
        await self._set("closed", open_terms(capacity=2, closed=True))
        await self._set("fixed", open_terms(capacity=2, cancel_until_ms=LONG_AGO_MS))
        await self._set("closing", open_terms(capacity=6, closes_at_ms=await self._clock() + CLOSES_IN_MS))
        await self._set("next", open_terms(capacity=2))
        await self._set("over", open_terms(capacity=4, date=OVER_DATE, start="09:00", end="10:00"))

    async def _busy(self) -> None:
        """More people than places; repeats, seconds, companions, and places that find somebody else."""
        held = await asyncio.gather(*(self.claim(number, "busy") for number in range(1, 7)))
        inside = [number for number, id_ in enumerate(held, 1) if id_]
        outside = [number for number, id_ in enumerate(held, 1) if not id_]
        ids = dict(enumerate(held, 1))
        if len(inside) < 3:
            return
        await self.claim(90, "busy")
        for number in inside[:2]:
            await self.claim(number, "busy")  # again: the same answer
            await self.claim(number, "fixed", key=f"{number}-busy")  # the same key for another quota
            await self.claim(number, "fixed", key=f"{number}-second")
        await self.claim(91, "fixed", companions=inside[-1:])
        await self.callers.confirm(inside[0], ids)
        await self.callers.confirm(inside[0], ids)
        await self.claim(inside[0], "busy")
        await self.callers.confirm(inside[1], ids)
        await self._ask(SetQuota(quota=self.quota("busy"), capacity=1))
        for closes_at_ms, actor in ((FAR_AHEAD_MS, IMPORT_ACTOR), (FAR_AHEAD_MS + 1, "staff:trial")):
            await self._ask(SetQuota(quota=self.quota("fixed"), closes_at_ms=closes_at_ms, actor=actor))
        await self.callers.cancel(inside[1], ids)
        await self.claim(inside[1], "busy")  # still the first answer, whatever became of it
        await self.claim(inside[1], "fixed", key=f"{inside[1]}-again")
        await self.callers.cancel(inside[2], ids)
        for number in (*outside, 92):
            await self.claim(number, "busy", key=f"{number}-later")
        await self.claim(93, "busy")

    async def _refused_by_terms(self) -> None:
        for number, window in ((20, "ahead"), (21, "closed")):
            await self.claim(number, window)
        id_ = await self.claim(22, "fixed")
        await self.callers.confirm(22, {22: id_})
        await self.callers.cancel(22, {22: id_})

    async def _retired(self) -> None:
        """A window that is over goes once nobody holds a place in it; those who were there may book again."""
        ids = {number: await self.claim(number, "over") for number in (30, 31, 32)}
        ids[33] = await self.claim(33, "next")
        for number in (30, 31, 33):
            await self.callers.confirm(number, ids)
        await self._retire("next", ids[33])
        await self._retire("over", ids[33], ids[30])
        await self._retire("over", ids[30], ids[31])
        await self.callers.cancel(32, ids)
        await self._retire("over", ids[31])
        await self._retire("over")
        await self.claim(30, "over")  # the first answer
        await self.callers.confirm(30, ids)
        await self.claim(31, "busy", key="31-again")
        await self.claim(34, "over")

    async def _short(self) -> None:
        """Holds that are confirmed in time, and holds that are not."""
        for number in range(40, 40 + CONFIRMS_MAX):
            id_ = await self.claim(number, "short")
            if await self.callers.confirm(number, {number: id_}) in (200, 202):
                break
        ids = {number: await self.claim(number, "short") for number in (60, 61, 62)}
        await self._after(HOLD_MS)
        await self.callers.confirm(60, ids)
        await self.callers.cancel(61, ids)
        await self._sweep()
        await self.claim(62, "short")  # the first answer
        await self.claim(62, "short", key="62-second")
        await self._after(HOLD_MS)
        await self._sweep()

    async def _late(self) -> None:
        """Places that come back after a while, and only once."""
        ids = {number: await self.claim(number, "late") for number in (70, 71)}
        await self.callers.cancel(70, ids)
        await self.claim(72, "late")
        await self._after(RETURN_MS + 50)
        await asyncio.gather(self._sweep(), self._sweep())
        await self._sweep()
        await self.claim(72, "late", key="72-later")
        await self.claim(73, "late")
        # Nobody claims meanwhile, who on a slow machine would find the place returned.
        await self.callers.cancel(71, ids)
        await self._after(RETURN_MS + 50)
        await asyncio.gather(self._sweep(), self._sweep())

    async def _closing(self) -> None:
        """Holds end with the closing of their quota, wherever staff move it."""
        quota = self.quota("closing")
        ids = {number: await self.claim(number, "closing") for number in (80, 81, 82)}
        await self.callers.confirm(80, ids)
        await self._ask(SetQuota(quota=quota, closes_at_ms=LONG_AGO_MS))
        await self.callers.confirm(81, ids)
        await self._ask(SetQuota(quota=quota, closes_at_ms=FAR_AHEAD_MS))
        await self.callers.cancel(82, ids)
        await self._ask(SetQuota(quota=quota, closed=True))
        ids[83] = await self.claim(83, "closing")
        await self._ask(SetQuota(quota=quota, closed=False))
        ids[84] = await self.claim(84, "closing")
        await self._ask(SetQuota(quota=quota, closed=True))
        await self.callers.confirm(84, ids)  # a hold may still be paid after staff closed the quota

    async def _waiting_room(self) -> None:
        """People join before and after the opening, and the mark goes as far as they are."""
        opens_at_ms = await self._clock() + OPENS_IN_MS
        terms = _opening_terms(opens_at_ms)
        await self._ask(SetOpening(opening=OPENING, terms=terms))
        for name, offices in (("second", ("kanim",)), ("third", ())):  # an opening over the same quotas is refused
            await self._ask(SetOpening(opening=name, terms=msgspec.structs.replace(terms, offices=offices)))
        await self._join(range(5))
        await self._admit()
        await self._after(OPENS_IN_MS)
        await self._admit()
        await self._join(range(5, 8))
        await self._after(10)
        await self._admit()
        await self._join(range(8, 10))
        await self._admit()
        await self._ask(SetOpening(opening=OPENING, paused=True))
        await self._admit()
        await self._after(10)
        await self._ask(SetOpening(opening=OPENING, paused=False))
        await self._admit()

    async def _moved(self) -> None:
        """An opening is moved and called off; its quota goes with it, and nowhere by itself."""
        opens_at_ms = await self._clock() + 100 * OPENS_IN_MS
        await self._set("moved", open_terms(capacity=2, opens_at_ms=opens_at_ms))
        await self._ask(SetOpening(opening="moved", terms=_opening_terms(opens_at_ms)))
        await self._ask(MoveOpening(opening="moved", opens_at_ms=opens_at_ms + OPENS_IN_MS))
        await self._ask(SetQuota(quota=self.quota("moved"), opens_at_ms=0))
        await self.claim(80, "moved")
        await self._ask(MoveOpening(opening="moved", cancelled=True, reason="a flood"))
        await self._ask(MoveOpening(opening="moved", opens_at_ms=opens_at_ms))
        await self._ask(SetOpening(opening="moved", paused=True))
        await self.claim(81, "moved")

    async def _retired_openings(self) -> None:
        """What has ended goes, its name may be given again, and what goes on or is paused stays."""
        ended = msgspec.structs.replace(_opening_terms(LONG_AGO_MS), ends_at_ms=LONG_AGO_MS + 1)
        again = msgspec.structs.replace(ended, commitment="d" * 64)
        await self._ask(SetOpening(opening="ended", terms=ended))
        await self._ask(RetireOpening(opening="ended"))
        await self._ask(SetOpening(opening="ended", terms=again, paused=True))
        for opening in ("ended", OPENING, "nowhere"):
            await self._ask(RetireOpening(opening=opening))

    async def _at_random(self) -> None:
        """What nobody thought of, the same for the same seed."""
        ids: dict[int, str] = {}
        for _ in range(RANDOM_ROUNDS):
            numbers = self._chance.sample(RANDOM_PEOPLE, AT_ONCE)
            await asyncio.gather(*(self._something(number, ids) for number in numbers))
            await self._sweep()

    async def _something(self, number: int, ids: dict[int, str]) -> None:
        act = self._chance.choice(("claim", "claim", "pair", "repeat", "confirm", "confirm", "cancel"))
        if act in ("confirm", "cancel"):
            await (self.callers.confirm if act == "confirm" else self.callers.cancel)(number, ids)
            return
        window = self._chance.choice(WINDOWS[:3])
        key = f"{number}-{window}" if act == "repeat" else f"{number}-{self._chance.getrandbits(32)}"
        companions = (self._chance.choice(RANDOM_PEOPLE),) if act == "pair" else ()
        id_ = await self.claim(number, window, key=key, companions=[each for each in companions if each != number])
        if id_:
            ids[number] = id_

    async def claim(self, number: int, window: str, *, key: str = "", companions: Sequence[int] = ()) -> str:
        return await self.callers.claim(number, self.quota(window), key or f"{number}-{window}", companions)

    # -- what the service itself asks ----------------------------------------------------------------------------

    async def _ask(self, command: Command) -> None:
        """Carry it out; a refusal is judged by what it leaves, not by what it says."""
        with contextlib.suppress(ReservasiError):
            await self._group.submit(command)

    async def _set(self, window: str, terms: QuotaTerms) -> None:
        await self._ask(SetQuota(quota=self.quota(window), terms=terms))

    async def _retire(self, window: str, *ids: str) -> None:
        named = tuple(filter(None, ids))
        await self._ask(Retire(quota=self.quota(window), ends_at_ms=OVER_MS, reservations=named))

    async def _sweep(self) -> None:
        await self._ask(Sweep(items_max=500))

    async def _join(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            await self._ask(Join(opening=OPENING, ticket_id=f"ticket-{number}"))

    async def _admit(self) -> None:
        await self._ask(Admit(opening=OPENING, controller="trial", lease_ms=1000))

    async def _after(self, wait_ms: int) -> None:
        until_ms = await self._clock() + wait_ms
        while await self._clock() <= until_ms:  # noqa: ASYNC110 - a server has no event to wait for
            await asyncio.sleep(0.02)


def _opening_terms(opens_at_ms: int) -> OpeningTerms:
    return OpeningTerms(
        opens_at_ms=opens_at_ms,
        joins_from_ms=0,
        ends_at_ms=FAR_AHEAD_MS,
        waiting_room=True,
        proof_of_work=False,
        rate_per_min=60_000,
        rate_max_per_min=60_000,
        adaptive=False,
        commitment="c" * 64,
        sealed_seed="k1.sealed",
    )
