"""The quota view: every program's quotas in memory, updated from the journal.

Reads and sold-out answers are served from the view without a ledger call. The view may lag by milliseconds. It never
grants a place; it only refuses, and only while it is fresh.
"""

import asyncio
import time
from collections.abc import Callable, Container, Iterator

from reservasi.availability.alternatives import NEVER_MS, Offer, Tally
from reservasi.availability.follower import PAUSE_MIN_S, Follower
from reservasi.availability.groups import Group, GroupKey, Summary
from reservasi.availability.prover import Prover
from reservasi.availability.view import ProgramView
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.stream import Journal
from reservasi.metrics import VIEW_READY
from reservasi.model import Opening, Position, Quota
from reservasi.programs import program_of

__all__ = ["Availability", "ProgramView", "QuotaState"]


KNOWN_IDS_MAX = 2_000_000  # reservation ids remembered; above it every claim asks the ledger
PROOFS_MIN = 3  # proofs of completeness within the time in which a view may refuse
CLOCK_MARGIN_MS = 1000  # assumed error of this process about the ledger's clock
# The event loop's clock. Calling `get_running_loop()` for each claim would ask the kernel for the process id.
_loop_time_s = time.monotonic


class Availability:
    """The views of all programs, from which a front answers reads."""

    def __init__(
        self,
        open_connection: Callable[[str], LedgerConnection],
        open_journal: Callable[[str], Journal],
        *,
        server_of: Callable[[str], str] = lambda _: "",
        stale_ms: int,
    ) -> None:
        """`server_of` names a program's server. A view older than `stale_ms` refuses nothing; 0 disables refusals."""
        self._open_connection = open_connection
        self._open_journal = open_journal
        self._stale_s = stale_ms / 1000
        self._followers: dict[str, Follower] = {}
        self._prover = Prover(open_connection, server_of, busy_s=self._stale_s / PROOFS_MIN)
        self._version = 0
        self._left_removals = 0  # of programs that are no longer followed, so that `removals` never decreases
        self._left_tickets_changes = 0
        self._changed = asyncio.Event()

    def follow(self, program: str) -> None:
        """Begin to follow a program; repeating it has no effect."""
        if program not in self._followers:
            follower = self._followers[program] = Follower(
                program,
                self._open_connection(program),
                self._open_journal(program),
                note_change=self._note_change,
                hurry=self._prover.hurry,
            )
            self._prover.add(follower)

    async def unfollow(self, program: str) -> None:
        """Stop following a program and show nothing of it; repeating it has no effect."""
        follower = self._followers.pop(program, None)
        if follower is None:
            return
        self._prover.remove(follower)
        self._left_removals += follower.view.removals + 1
        self._left_tickets_changes += follower.view.tickets_changes + 1
        self._note_change()
        await follower.close()
        VIEW_READY.labels(program).set(1)  # a removed program must not lower the gauge

    async def close(self) -> None:
        await self._prover.close()
        await asyncio.gather(*(follower.close() for follower in self._followers.values()))

    @property
    def ready(self) -> bool:
        """Whether every program's view is in step with its journal."""
        return all(follower.ready for follower in self._followers.values())

    def missing(self) -> dict[str, str]:
        """The reason for each program whose view is not in step with its journal."""
        return {program: each.fault for program, each in self._followers.items() if not each.ready}

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` until every view is in step; returns whether they are."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not self.ready and loop.time() < deadline:
            await self.wait_change(self._version, min(PAUSE_MIN_S, deadline - loop.time()))
        return self.ready

    @property
    def version(self) -> int:
        """Grows with every change to any view in this process."""
        return self._version

    def _note_change(self) -> int:
        """Wake the tasks that wait for a change, and return the new version."""
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()
        return self._version

    async def wait_change(self, version: int, timeout_s: float) -> int:
        """Wait until the version differs from `version`, at most `timeout_s`; returns the version."""
        if self._version == version:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return self._version

    def now_ms(self, program: str = "") -> int:
        """The ledger's clock, as estimated by this process."""
        follower = self._followers.get(program) or next(iter(self._followers.values()), None)
        offset_ms = follower.clock_offset_ms if follower else 0.0
        return int(_loop_time_s() * 1000 + offset_ms)

    def quota(self, quota_id: str) -> Quota | None:
        """One quota, or None if no followed program has it."""
        follower = self._followers.get(program_of(quota_id))
        return follower.view.quotas.get(quota_id) if follower else None

    def is_damaged(self, quota_id: str) -> bool:
        """Whether the ledger has the quota but cannot read it, so that it must not be reported as unknown."""
        follower = self._followers.get(program_of(quota_id))
        return follower is not None and quota_id in follower.view.damaged_quotas

    def opening(self, opening_id: str, program: str | None = None) -> Opening | None:
        """One opening of a program, or of any program; None if there is none."""
        program = program or self.program_of_opening(opening_id)
        follower = self._followers.get(program) if program else None
        return follower.view.openings.get(opening_id) if follower else None

    def openings(self, program: str) -> list[Opening]:
        """The openings of a program, ordered by their moment."""
        follower = self._followers.get(program)
        openings = follower.view.openings.values() if follower else ()
        return sorted(openings, key=lambda opening: (opening.terms.opens_at_ms, opening.id))

    @property
    def tickets_version(self) -> int:
        """Grows when the opening that covers a quota changes, or when an opening changes so that tickets may be
        needed.
        """
        followed = sum(follower.view.tickets_changes for follower in self._followers.values())
        return self._left_tickets_changes + followed

    def all_openings(self) -> Iterator[Opening]:
        return (opening for follower in self._followers.values() for opening in follower.view.openings.values())

    def program_of_opening(self, opening_id: str) -> str | None:
        """The program of an opening, or None if no followed program has it.

        Opening ids are unique. If an earlier version gave the same id twice, the program with the longest id counts.
        """
        programs = [program for program, each in self._followers.items() if opening_id in each.view.openings]
        return max(programs, key=len, default=None) if len(programs) != 1 else programs[0]

    def opening_of(self, quota: Quota) -> Opening | None:
        """The opening with which a quota opens, by its moment and office; there is at most one."""
        follower = self._followers.get(program_of(quota.id))
        if follower is None:
            return None
        opening_id = follower.view.opening_ids.get(quota.id)
        return None if opening_id is None else follower.view.openings[opening_id]

    def quotas_of_opening(self, program: str, opening_id: str) -> list[Quota]:
        """The quotas that an opening covers, unordered."""
        follower = self._followers.get(program)
        if follower is None:
            return []
        return [follower.view.quotas[quota_id] for quota_id in follower.view.covered.get(opening_id, ())]

    def groups_between(self, program: str, first_ms: int, until_ms: int) -> Iterator[GroupKey]:
        """The groups of a program that open from `first_ms` until before `until_ms`, ordered by moment and opening."""
        follower = self._followers.get(program)
        return follower.view.groups.between(first_ms, until_ms) if follower else iter(())

    def group(
        self, program: str, key: GroupKey, office: str | None = None, channels: Container[str] | None = None
    ) -> Group | None:
        """Quotas that open together, as `Groups.get` has them; None if there are none."""
        follower = self._followers.get(program)
        return follower.view.groups.get(key, office, channels) if follower else None

    def summary(self, program: str, group: Group, *, cancelled: bool) -> Summary:
        """What a group of the program offers, or offered until its opening was cancelled."""
        return group.summary(self._followers[program].view.quotas, cancelled=cancelled)

    def has_reservation(self, reservation_id: str, program: str) -> bool:
        """Whether the journal has named the reservation, so that a claim under its id may be a replay."""
        follower = self._followers.get(program)
        return follower is not None and reservation_id in follower.view.known_ids

    def when_complete(self, program: str, resolve: Callable[[], None]) -> None:
        """Call `resolve` once the view contains everything that has happened by now, or if that cannot be determined.

        Check `knows` then. Takes one ledger call and one read of the journal, at most their time limits.
        """
        follower = self._followers.get(program)
        if follower is None:
            resolve()
        else:
            follower.when_complete(resolve)

    async def complete(self, program: str) -> None:
        complete = asyncio.Event()
        self.when_complete(program, complete.set)
        await complete.wait()

    def position(self, program: str) -> Position:
        """The position in its journal up to which the program's view has followed."""
        follower = self._followers.get(program)
        return follower.view.position if follower else Position(epoch=0, seq=0)

    def knows(self, program: str) -> bool:
        """Whether the program's view is in step, so that a quota that it lacks does not exist."""
        follower = self._followers.get(program)
        return follower is not None and follower.ready

    def is_fresh(self, program: str) -> bool:
        """Whether the view is young enough to refuse from.

        Answers about freed places are delayed by `stale_ms`, so that a fresh view contains every place that was
        reported.
        """
        follower = self._followers.get(program)
        return follower is not None and _loop_time_s() - follower.fresh_at <= self._stale_s

    def has_view(self, program: str | None = None) -> bool:
        """Whether there is a view to show, in step or not, of the program or of all followed programs."""
        followers = self._followers.values() if program is None else filter(None, [self._followers.get(program)])
        shown = [follower.view.position.epoch > 0 for follower in followers]
        return all(shown) and (program is None or bool(shown))

    def is_sold_out(self, quota_id: str, places: int, reservation_id: str) -> bool:
        """Whether a claim can be refused as sold out without asking the ledger.

        Only while the view is fresh, the quota is open, and the reservation id is new: a replay must get its first
        answer.
        """
        follower = self._followers.get(program_of(quota_id))
        if follower is None or not follower.ready:
            return False
        view = follower.view
        quota = view.quotas.get(quota_id)
        if quota is None or quota.remaining >= places:
            return False
        if len(view.known_ids) > KNOWN_IDS_MAX or reservation_id in view.known_ids:
            return False
        now_s = follower.needed_at = _loop_time_s()
        if now_s - follower.fresh_at > self._stale_s:
            follower.hurry()
            return False
        # Clocks differ: close to an opening, a closing or a deadline the ledger is asked.
        now_ms = int(now_s * 1000 + follower.clock_offset_ms)
        due_at_ms = view.due_at_ms(quota_id)
        if due_at_ms is not None and due_at_ms <= now_ms + CLOCK_MARGIN_MS:
            return False
        terms = quota.terms
        is_open = not terms.closed and terms.opens_at_ms < now_ms - CLOCK_MARGIN_MS
        return is_open and (terms.closes_at_ms == 0 or terms.closes_at_ms > now_ms + CLOCK_MARGIN_MS)

    def quotas(self, program: str) -> list[Quota]:
        follower = self._followers.get(program)
        return list(follower.view.quotas.values()) if follower else []

    def programs(self) -> list[str]:
        return sorted(self._followers)

    def select(
        self,
        program: str | None = None,
        *,
        office: str | None = None,
        service: str | None = None,
        channel: str | None = None,
        first: str | None = None,
        last: str | None = None,
    ) -> list[Quota]:
        """The quotas that match, ordered by program, date, start and id; `first` and `last` are ISO dates, both
        included.
        """
        quotas: list[Quota] = []
        for name in [program] if program else sorted(self._followers):
            if name in self._followers:
                view = self._followers[name].view
                quotas += map(view.quotas.__getitem__, view.dates.between(office, first, last))
        if service is None and channel is None:
            return quotas
        return [
            quota
            for quota in quotas
            if service in (None, quota.terms.service) and channel in (None, quota.terms.channel)
        ]

    @property
    def removals(self) -> int:
        """Grows when quotas may have left a view."""
        return self._left_removals + sum(follower.view.removals for follower in self._followers.values())

    def changed_since(self, version: int) -> list[Quota]:
        """The quotas that changed after `version`, for live pages."""
        return [quota for follower in self._followers.values() for quota in follower.view.changed_since(version)]

    def alternatives(self, quota: Quota, places: int, limit: int, now_ms: int) -> Offer:
        """Open quotas of the same service and channel with enough places: the same office first, then the nearest in
        time.

        The result stays the same until the view changes or the clock reaches `alternatives_turn_ms`.
        """
        follower = self._followers.get(program_of(quota.id))
        return follower.view.alternatives.near(quota, places, limit, now_ms) if follower else Offer((), Tally())

    def offered(self, offer: Offer) -> list[Quota]:
        """The quotas of an offer as they are now."""
        return [quota for quota in map(self.quota, offer.ids) if quota is not None]

    def alternatives_turn_ms(self, program: str) -> int:
        """The next moment at which `alternatives` may change because of the clock."""
        follower = self._followers.get(program)
        return follower.view.alternatives.turn_ms if follower else NEVER_MS
