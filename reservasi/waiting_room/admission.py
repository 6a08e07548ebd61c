"""Moves an opening's mark: admits numbers at a rate that staff set or that follows the load.

Every worker runs a controller for each program. The ledger lets one of them lead, by a lease, and stores the mark, so
that another controller continues from the same number. Only the ledger computes how far the mark moves: a controller
reports that it is alive, and the rate. While no opening is near, it only reads the openings once a second.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable

import msgspec

from reservasi.availability import Availability
from reservasi.errors import LedgerFault, Unavailable
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.opening_watch import OpeningWatch
from reservasi.logs import get_sparing_logger
from reservasi.metrics import ADMISSION_RATE, ADMITTED_THROUGH, OPENING_JOINED
from reservasi.model import Admit, Answer, Opening, Outcome, Quota
from reservasi.waiting_room.state import places_of

log = get_sparing_logger()

ADMIT_INTERVAL_S = 0.2  # between two moves of the mark
LOOK_INTERVAL_S = 1.0  # between two reads of the openings, and two changes of the rate
LEASE_MS = 1500  # after which another controller may lead
GROWTH_PERCENT = 10  # of an adaptive rate, per second


def next_rate(rate: int, delay_ms: float | None, target_ms: float, most: int) -> int:
    """The rate after one second in which claims waited `delay_ms` (None: not reported).

    It halves above the target, grows by a tenth below half of it, and is never below 1 nor above `most`. A
    multiplicative decrease lets such a control settle (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms
    for Congestion Avoidance in Computer Networks", 1989). Their additive increase makes many senders fair to each
    other; here is only one sender, so that the increase is multiplicative, which reaches a high rate as fast as a low
    one.
    """
    if delay_ms is not None and delay_ms > target_ms:
        rate //= 2
    elif delay_ms is not None and delay_ms < target_ms / 2:
        rate += max(1, rate * GROWTH_PERCENT // 100)
    return max(1, min(rate, most))


class AdmissionController:
    """Moves the marks of one program's openings while this controller leads."""

    def __init__(
        self,
        program: str,
        group: GroupCommit,
        watch: OpeningWatch,
        open_view: Callable[[], Availability],
        *,
        delay_target_ms: int,
        is_public: Callable[[Quota], bool] = lambda _quota: True,
    ) -> None:
        """`is_public` says whether people may claim from a quota: others keep no place for those who wait."""
        self.name = secrets.token_hex(8)
        self._program = program
        self._group = group
        self._watch = watch
        self._open_view = open_view
        self._delay_target_ms = delay_target_ms
        self._is_public = is_public
        self._view: Availability | None = None  # followed while an opening is live: shows when no place remains
        self._live: dict[str, Opening] = {}
        self._rates: dict[str, int] = {}  # opening -> rate to send with the next move, if it changes
        self._quotas: dict[str, list[str]] = {}  # opening -> quotas that it covers
        self._remains: dict[str, tuple[int, bool]] = {}  # opening -> (version of the view, whether a place remains)
        self._ahead_ms = 0.0  # ledger's clock minus the event loop's
        self._look_at_s = float("-inf")

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                pause_s = await self._turn_safely()
                try:
                    async with asyncio.timeout(pause_s):
                        await stop.wait()
                except TimeoutError:
                    continue
        finally:
            await self._attend([])

    async def _turn_safely(self) -> float:
        """One turn; an error must not stop the controller."""
        try:
            return await self._turn()
        except Exception:
            log.exception("admission_turn_failed", program=self._program)
            return LOOK_INTERVAL_S

    async def _turn(self) -> float:
        """Read the openings if due, and move every mark; returns the time until the next turn."""
        loop = asyncio.get_running_loop()
        looks = loop.time() >= self._look_at_s
        if looks:
            self._look_at_s = loop.time() + LOOK_INTERVAL_S
            await self._read_openings()
        moves = [opening for opening in self._live.values() if self._is_due(opening, counts=looks)]
        if moves:
            await asyncio.gather(*(self._move(opening) for opening in moves))
        return self._pause_s(self._look_at_s - loop.time())

    def _pause_s(self, until_look_s: float) -> float:
        """Until the next read, move or opening, whichever comes first."""
        now_ms = self._now_ms()
        pauses_s = [until_look_s]
        for opening in self._live.values():
            ahead_s = (opening.terms.opens_at_ms - now_ms) / 1000
            pauses_s.append(ahead_s if ahead_s > 0 else ADMIT_INTERVAL_S)
        return max(0.001, min(pauses_s))

    async def _read_openings(self) -> None:
        try:
            seen = await self._watch.read()
        except (Unavailable, LedgerFault) as error:
            log.debug("openings_not_read", program=self._program, error=str(error))
            return
        self._follow_clock(seen.now_ms)
        now_ms = seen.now_ms
        await self._attend(each for each in seen.openings if is_live(each, now_ms) or awaits_draw(each, now_ms))
        for opening in self._live.values():
            self._adapt(opening, seen.delay_ms)

    async def _attend(self, openings: Iterable[Opening]) -> None:
        """Take these openings as the live ones: follow the program while there are any, and keep metrics of no
        others.
        """
        live = {opening.id: opening for opening in openings}
        for gone in self._live.keys() - live.keys():
            for gauge in (ADMITTED_THROUGH, OPENING_JOINED, ADMISSION_RATE):
                gauge.remove(self._program, gone)
        self._live = live
        self._rates = {name: rate for name, rate in self._rates.items() if name in live}
        self._remains = {name: entry for name, entry in self._remains.items() if name in live}
        for opening in live.values():
            self._set_gauges(opening)
        if live and self._view is None:
            self._view = self._open_view()
            self._view.follow(self._program)
        elif not live and self._view is not None:
            view, self._view = self._view, None
            await view.close()
        self._quotas = _by_opening(self._view, self._program, live.values()) if self._view is not None else {}

    def _adapt(self, opening: Opening, delay_ms: float | None) -> None:
        """Let the rate follow the delay after the opening, and increase it only while people wait."""
        terms = opening.terms
        if not terms.adaptive or opening.rate_fixed or opening.paused or not opening.drawn:
            return
        rate = next_rate(opening.rate_per_min, delay_ms, self._delay_target_ms, terms.rate_max_per_min)
        in_use = opening.admitted_through < opening.arrived
        if rate != opening.rate_per_min and (in_use or rate < opening.rate_per_min):
            self._rates[opening.id] = rate

    def _is_due(self, opening: Opening, *, counts: bool) -> bool:
        """Whether its mark must move now, or `counts` is set and joins must be counted.

        If no place remains, the mark stays once the draw is made.
        """
        if opening.drawn:
            return self._remains_any(opening.id)
        return counts or self._now_ms() >= opening.terms.opens_at_ms

    def _remains_any(self, opening_id: str) -> bool:
        """Whether a place may remain that can be claimed; also True while the view does not know."""
        view, quotas = self._view, self._quotas.get(opening_id)
        if view is None or not view.ready or not quotas:
            return True
        cached = self._remains.get(opening_id)
        if cached is not None and cached[0] == view.version:
            return cached[1]
        quotas_now = [quota for quota_id in quotas if (quota := view.quota(quota_id)) is not None]
        remains = places_of(filter(self._is_public, quotas_now), int(self._now_ms())).left
        self._remains[opening_id] = (view.version, remains)
        return remains

    async def _move(self, opening: Opening) -> None:
        command = Admit(
            opening=opening.id,
            controller=self.name,
            lease_ms=LEASE_MS,
            rate_per_min=self._rates.pop(opening.id, 0),
        )
        try:
            answer = await self._group.submit(command)
        except (Unavailable, LedgerFault) as error:
            log.debug("admission_failed", program=self._program, opening=opening.id, error=str(error))
            return
        self._follow_clock(answer.now_ms)
        if answer.outcome is Outcome.ADVANCED and opening.id in self._live:
            self._live[opening.id] = _after(opening, answer)
            self._set_gauges(self._live[opening.id])

    def _set_gauges(self, opening: Opening) -> None:
        ADMITTED_THROUGH.labels(self._program, opening.id).set(opening.admitted_through)
        OPENING_JOINED.labels(self._program, opening.id).set(opening.arrived)
        ADMISSION_RATE.labels(self._program, opening.id).set(0 if opening.paused else opening.rate_per_min)

    def _follow_clock(self, now_ms: int) -> None:
        self._ahead_ms = now_ms - asyncio.get_running_loop().time() * 1000

    def _now_ms(self) -> float:
        return asyncio.get_running_loop().time() * 1000 + self._ahead_ms


def is_live(opening: Opening, now_ms: float) -> bool:
    """Whether people may join or wait for it now, or within a second."""
    terms = opening.terms
    if not terms.waiting_room or opening.cancelled or opening.ended(int(now_ms)):
        return False
    return terms.joins_from_ms - LOOK_INTERVAL_S * 1000 <= now_ms


def awaits_draw(opening: Opening, now_ms: float) -> bool:
    """Whether it ended while no controller ran: it is drawn late, so that its seed is public as it was promised."""
    return opening.terms.waiting_room and not opening.cancelled and not opening.drawn and opening.ended(int(now_ms))


def _after(opening: Opening, answer: Answer) -> Opening:
    return msgspec.structs.replace(
        opening,
        drawn=answer.now_ms >= opening.terms.opens_at_ms,
        joined=answer.joined,
        arrived=answer.arrived,
        admitted_through=answer.admitted_through,
        rate_per_min=answer.rate_per_min,
    )


def _by_opening(view: Availability, program: str, openings: Iterable[Opening]) -> dict[str, list[str]]:
    """The ids of the quotas that each opening covers."""
    return {each.id: [quota.id for quota in view.quotas_of_opening(program, each.id)] for each in openings}
