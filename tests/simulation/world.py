"""One seed's deployment, people and faults, from an empty ledger to a quiet one, and the judgement."""

import asyncio
import contextlib
import random
from collections import Counter
from unittest import mock

import msgpack

from loadtest.checker.check import judge
from loadtest.checker.evidence import LedgerEvidence, read_ledger
from loadtest.checker.rules import Rule, Violation
from reservasi.events import chain_hash
from reservasi.ledger import keys
from reservasi.ledger.lua.library import Library
from reservasi.ledger.wire import stored_forms
from reservasi.model import IMPORT_ACTOR, MoveOpening, Outcome, SetOpening, SetQuota
from reservasi.waiting_room import draw
from reservasi.worker.ledger_owner import Ownership
from tests.ledgers import opening_terms, terms
from tests.simulation.clients import Client, open_connection
from tests.simulation.loop import Host, VirtualLoop
from tests.simulation.mending import Mending
from tests.simulation.network import Network, Weather
from tests.simulation.people import Crowd
from tests.simulation.processes import PROGRAM, Deployment, Front, SeededSealing
from tests.simulation.records import RECORDER
from tests.simulation.server import Server
from tests.simulation.trace import Trace

EPOCH_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
WINDOW_END_MS = 1_796_115_600_000  # of the quotas' terms, 2026-12-01T09:00 in UTC
OPENING = f"{PROGRAM}-1"
PEOPLE_TIMEOUT_S = 240.0
STORM_S = (6.0, 12.0)  # at most
DAMAGED_STORM_S = (3.0, 7.0)  # the same; one fault more at a time, so as much happens
RECORDED_TIMEOUT_S = 60.0
SETTLE_S = 1.2  # in which views hear the last change, and the sweeper looks at all
SETTLE_TRIES_MAX = 50  # while the sweeper still finds something; holds last 20 s at the most

sealing = SeededSealing()


class Simulation:
    """One seed's deployment, people and faults."""

    def __init__(
        self,
        seed: int,
        server: Server,
        library: Library,
        trace: Trace,
        *,
        later_entries: bool = False,
        damage: bool = False,
    ) -> None:
        """With `later_entries` a later version of the library writes entries between those of this one.

        With `damage` stored values are damaged and mended as well, and records put back to an older copy.
        """
        self._seed = seed
        self._later_entries = later_entries
        self._server = server
        self._trace = trace
        self._shift_ms = 0
        self.loop = VirtualLoop(seed)
        self.counts: Counter[str] = Counter()
        chance = self._chance_of("world")
        self._chance = chance
        self._weather = Weather.drawn(self._chance_of("weather"))
        network = Network(server, Weather(latency_s=self._weather.latency_s, weights={}), trace, self._chance_of("net"))
        self._deployment = Deployment(
            network,
            library,
            sealing,
            self._chance_of("processes"),
            operators_chance=self._chance_of("operators"),
            batch_items_max=chance.choice((3, 256)),
            retire_after_ms=self._retire_after_ms(),
            clock_ms=self._retirement_ms,
        )
        self._is_settling = False
        self._stands_at_ms: int | None = None  # the ledger's clock, while it stands still
        self._quotas = [f"{PROGRAM}.o.s.20261201.{8 + at:02d}00.online" for at in range(chance.randint(1, 3))]
        has_room = chance.random() < 0.3
        self._opens_at_ms = EPOCH_MS + chance.choice((1500, 3000)) if has_room or chance.random() < 0.2 else 0
        self._crowd = Crowd(self._deployment, self._chance_of("people"), self._quotas, OPENING if has_room else "")
        self._calm = asyncio.Event()
        self._damages = damage
        self._mending = Mending(
            server, self._deployment, self._chance_of("damage"), calm=self._calm, note=self._note, fence=self._fence
        )
        server.begin(PROGRAM, library, self.ledger_ms)

    def _chance_of(self, what: str) -> random.Random:
        return random.Random(f"{what} {self._seed}")

    def _retire_after_ms(self) -> int:
        """So that windows are over in the middle of the run, near its end, or never."""
        chance = self._chance_of("retirement")
        return EPOCH_MS - WINDOW_END_MS + chance.choice((3000, 8000, 4 * HOUR_MS, 4 * HOUR_MS))

    def _retirement_ms(self) -> int:
        """The clock of retirement, which stands still at the end: nothing is to change after the last look."""
        return 0 if self._is_settling else self.ledger_ms()

    def ledger_ms(self) -> int:
        """The ledger's clock, which may be moved, and stands still for the last look."""
        if self._stands_at_ms is not None:
            return self._stands_at_ms
        return EPOCH_MS + self._shift_ms + int(self.loop.now_s * 1000)

    async def play(self) -> None:
        """From an empty ledger to a quiet one."""
        deployment, chance, crowd = self._deployment, self._chance, self._crowd
        await deployment.start_worker()
        await self._own()
        await deployment.start_front()
        await self._set_up()
        for _ in range(chance.choice((0, 1, 1, 2))):
            await deployment.start_front()
        if chance.random() < 0.3:
            await deployment.start_worker()
        stormy = chance.random() < 0.8
        if stormy:
            deployment.network.weather = self._weather
            crowd.loss, deployment.faults[0] = chance.choice((0.0, 0.05, 0.2)), chance.choice((0.0, 0.03, 0.2))
        faults = [asyncio.create_task(self._staff())] + ([asyncio.create_task(self._break())] if stormy else [])
        if self._later_entries:
            faults.append(asyncio.create_task(self._write_later_entries()))
        faults += [asyncio.create_task(self._mending.run(self._pause))] if self._damages else []
        people = [asyncio.create_task(visitor.live()) for visitor in crowd.people()]
        _, pending = await asyncio.wait(
            people, timeout=chance.uniform(*(DAMAGED_STORM_S if self._damages else STORM_S))
        )
        self._calm.set()
        await asyncio.gather(*faults)
        await self._heal()
        if pending:
            await asyncio.wait(pending, timeout=PEOPLE_TIMEOUT_S)
        for person in people:
            person.result()
        if chance.random() < 0.5:
            self._shift_ms += 2 * HOUR_MS
        await self._settle()

    async def _own(self) -> None:
        for _ in range(100):
            if await self._deployment.workers[-1].own() is Ownership.OWNED:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"seed {self._seed}: the ledger was not owned")

    async def _set_up(self) -> None:
        chance, closing, front = self._chance, self._chance_of("closings"), self._deployment.fronts[0]
        for quota in self._quotas:
            of_quota = terms(
                chance.randint(1, 4),
                opens_at_ms=self._opens_at_ms,
                hold_ms=chance.choice((2000, 20_000)),
                return_max_ms=chance.choice((0, 0, 1000)),
                cancel_until_ms=chance.choice((0, 0, EPOCH_MS + 5000)),
                closes_at_ms=closing.choice((0, 0, 0, 0, 0, EPOCH_MS + 8000)),
            )
            answer = await front.reservations.set_quota(SetQuota(quota=quota, terms=of_quota))
            assert answer.outcome is Outcome.QUOTA_SET, answer
        if self._crowd.opening:
            seed = chance.randbytes(32)
            ends_at_ms = self._opens_at_ms + self._chance_of("end of the opening").choice((4 * HOUR_MS, HOUR_MS, 4000))
            of_opening = opening_terms(
                ends_at_ms=ends_at_ms,
                opens_at_ms=self._opens_at_ms,
                rate_per_min=chance.choice((60, 600)),
                adaptive=chance.random() < 0.5,
                commitment=draw.commitment(seed),
                sealed_seed=sealing.seal(OPENING, seed.hex().encode()),
            )
            answer = await front.room.set_opening(PROGRAM, SetOpening(opening=OPENING, terms=of_opening))
            assert answer.outcome is Outcome.OPENING_SET, answer

    # -- what goes wrong -----------------------------------------------------------------------------------------

    async def _break(self) -> None:
        chance = self._chance
        kinds = (self._kill_front, self._kill_worker, self._move_clock, self._end_session, self._fence)
        weights = [chance.random() for _ in kinds]
        weights[-1] *= 0.3
        while await self._pause(chance.uniform(0.1, 3.0)):
            await chance.choices(kinds, weights)[0]()

    async def _pause(self, seconds: float) -> bool:
        """Whether it is still stormy after so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._calm.wait()
        return not self._calm.is_set()

    async def _kill_front(self) -> None:
        alive = [front for front in self._deployment.fronts if front.host.alive]
        if alive:
            victim = self._chance.choice(alive)
            self._note(victim.host.name, "is killed", "front killed")
            await victim.host.kill()
            self._deployment.fronts.remove(victim)
        await self._pause(self._chance.uniform(0.0, 1.0))
        await self._deployment.start_front()

    async def _kill_worker(self) -> None:
        victim = self._chance.choice(self._deployment.workers)
        self._note(victim.host.name, "is killed", "worker killed")
        await victim.host.kill()
        self._deployment.workers.remove(victim)
        await self._pause(self._chance.uniform(0.0, 1.0))
        await self._deployment.start_worker()

    async def _move_clock(self) -> None:
        by_ms = self._chance.choice((1000, 3000, 30_000, 30_000, -4000))
        self._shift_ms += by_ms
        self._note("valkey", f"clock moves by {by_ms} ms", "clock moved")

    async def _end_session(self) -> None:
        """PostgreSQL has ended the session that held the lock; whoever led has not noticed."""
        self._deployment.database.locks[RECORDER] = None
        self._note("postgres", "ends the recorder's session", "session ended")

    async def _fence(self) -> None:
        """The ledger's server starts again, with all that it had."""
        self._server.execute([("HSET", keys.meta(PROGRAM), "run_id", f"{stored_forms.FORM}:another")])
        self._note("valkey", "starts again", "ledger restarted")
        await self._pause(self._chance.uniform(0.0, 2.0))
        await self._try_to_own()

    async def _write_later_entries(self) -> None:
        """Events of kinds that this version does not know, alone or several, each entry in one step of the server."""
        chance = self._chance_of("later entries")
        while await self._pause(chance.uniform(0.2, 2.0)):
            events = [["z", "future-kind", at] for at in range(chance.choice((1, 1, 3, 20)))]
            ((epoch, seq, chain),) = self._server.execute([("HMGET", keys.meta(PROGRAM), "epoch", "seq", "chain")])
            first, last, at_ms = int(seq) + 1, int(seq) + len(events), self.ledger_ms()
            payload: bytes = msgpack.packb(events, use_bin_type=False)
            after = chain_hash(chain.decode(), int(epoch), first, at_ms, payload)
            fields = ("first", first, "at", at_ms, "chain", after, "events", payload)
            self._server.execute(
                [
                    ("XADD", keys.journal(PROGRAM), f"{int(epoch)}-{last}", *fields),
                    ("HSET", keys.meta(PROGRAM), "seq", last, "chain", after),
                ]
            )
            self.counts["later events"] += len(events)
            self._note("valkey", f"has {len(events)} events of a later version", "later entry")

    async def _try_to_own(self) -> None:
        if not self._deployment.workers:  # the only one was killed a moment ago
            return
        with contextlib.suppress(Exception):
            await self._deployment.workers[-1].own()

    def _note(self, who: str, what: str, kind: str) -> None:
        self._trace(who, what)
        self.counts[kind] += 1

    async def _staff(self) -> None:
        """Staff change capacities, never below what is taken, since the ledger refuses that; now and then a closing."""
        closing, moving = self._chance_of("closings moved"), self._chance_of("openings moved")
        while await self._pause(self._chance.uniform(0.5, 8.0)):
            front = await self._crowd.front()
            quota, capacity = self._chance.choice(self._quotas), self._chance.randint(0, 5)
            closes_at_ms = closing.choice((None, None, None, 0, self.ledger_ms() + closing.choice((-500, 1500))))
            actor = IMPORT_ACTOR if capacity % 2 else "staff:someone"
            command = SetQuota(quota=quota, capacity=capacity, closes_at_ms=closes_at_ms, actor=actor)
            self.counts["closing moved"] += bool(closes_at_ms)
            await self._submit(front, command)
            if self._crowd.opening and moving.random() < 0.3:
                opens_at_ms = self.ledger_ms() + moving.choice((-500, 300, 1500))
                await self._submit(await self._crowd.front(), MoveOpening(opening=OPENING, opens_at_ms=opens_at_ms))
                self.counts["opening moved"] += 1

    async def _submit(self, front: Front, command: SetQuota | MoveOpening) -> None:
        """As staff whose front may die: nobody hears what became of it."""
        setting = front.host.spawn(front.group.submit(command))
        await asyncio.wait([setting])
        if not setting.cancelled():
            setting.exception()

    # -- the end -------------------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """Nothing goes wrong any more; what was sent in the storm arrives, and the ledger is owned."""
        self._trace("all", "heals")
        self._crowd.loss, self._deployment.faults[0] = 0.0, 0.0
        await self._deployment.network.heal()
        await self._mending.mend()
        await self._own()

    async def _settle(self) -> None:
        """Until nothing changes any more, and all of it is recorded.

        The ledger's clock stands still while that is found out: no hold may expire between it and the last look.
        """
        self._is_settling = True
        far = terms(1, date="2099-12-31")  # a quota whose window is over might be retired after the last look
        last = SetQuota(quota=f"{PROGRAM}.o.s.20991231.2300.online", terms=far)
        answer = await (await self._crowd.front()).reservations.set_quota(last)  # so that the last epoch has a change
        assert answer.outcome is Outcome.QUOTA_SET, answer
        for _ in range(SETTLE_TRIES_MAX):
            self._stands_at_ms = self.ledger_ms()
            await asyncio.sleep(SETTLE_S)
            await self._until_recorded()
            seq = self._server.seq
            await asyncio.sleep(SETTLE_S)
            if self._server.seq == seq:
                break
            self._stands_at_ms = None
        self.views = {
            front.host.name: {
                id_: quota.counts for id_, quota in front.availability._followers[PROGRAM].view.quotas.items()
            }
            for front in self._deployment.fronts
        }
        hosts = [front.host for front in self._deployment.fronts] + [each.host for each in self._deployment.workers]
        for host in hosts:
            await host.kill()
        self.ledger = await self._look()

    async def _until_recorded(self) -> None:
        """What never is, is for the rules to tell."""
        deadline = self.loop.now_s + RECORDED_TIMEOUT_S
        while self.loop.now_s < deadline and not self._is_recorded():  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.2)

    async def _look(self) -> LedgerEvidence | None:
        """What the ledger holds, as the checker reads it."""
        network, library, host = self._deployment.network, self._deployment.library, Host("checker")
        connection = open_connection(network, host, PROGRAM, library)
        with (
            mock.patch("loadtest.checker.evidence.open_client", return_value=Client(network, host)),
            mock.patch("loadtest.checker.evidence.LedgerConnection", return_value=connection),
        ):
            try:
                return await read_ledger(self._server.url, PROGRAM)
            except (ValueError, KeyError, TypeError) as error:  # something is damaged, and was not mended
                self.loop.failures.append(f"the ledger cannot be read: {error!r}")
                return None

    def _is_recorded(self) -> bool:
        ((seq,),) = self._server.execute([("HMGET", keys.meta(PROGRAM), "seq")])
        position = self._deployment.database.position
        return position is not None and position.seq == int(seq)

    def judge(self, ledger: LedgerEvidence | None) -> list[Violation]:
        """Everything that was promised and not kept."""
        violations = list(self._crowd.violations)
        violations += [
            Violation(Rule.REPLAY_DIFFERS, what, "written while it was damaged") for what in self._mending.altered
        ]
        violations += [Violation(Rule.REPLAY_DIFFERS, "a callback", failure) for failure in self.loop.failures]
        if ledger is None:
            return [*violations, Violation(Rule.FENCED, PROGRAM, "nobody owns the ledger")]
        judged = judge(PROGRAM, ledger, self._deployment.database.evidence(), self._crowd.history).violations
        kept = [each for each in judged if not _outlived_while_damaged(each, self._mending.names)]
        violations += [each for each in kept if not (self._later_entries and _is_of_a_later_version(each))]
        dead = len(self._deployment.database.dead)
        if self._later_entries and dead != self.counts["later events"]:
            detail = f"{dead} of {self.counts['later events']} events of a later version"
            violations.append(Violation(Rule.DEAD_LETTER, PROGRAM, detail))
        counts = {id_: quota.counts for id_, quota in ledger.quotas.items()}
        violations += [
            Violation(Rule.COUNTS_DIFFER, front, f"its view has {view}, the ledger {counts}")
            for front, view in self.views.items()
            if view != counts
        ]
        return violations

    def count(self, ledger: LedgerEvidence | None) -> dict[str, int]:
        """How much of what happened."""
        self.counts.update(self._deployment.network.counts)
        self.counts["admitted"] = self._crowd.admitted
        self.counts["requests"] = len(self._crowd.history)
        self.counts.update(f"{each.call} {each.outcome}" for each in self._crowd.history)
        self.counts.update(record.state.value for record in (ledger.reservations.values() if ledger else ()))
        self.counts["events"] = self._deployment.database.position.seq if self._deployment.database.position else 0
        self.counts["opening retired"] = bool(self._crowd.opening and not self._deployment.database.tables.openings)
        self.counts["steps"] = self.loop.steps
        return dict(self.counts)


def _is_of_a_later_version(violation: Violation) -> bool:
    """What the checker rightly says of an event that nobody here can read."""
    phrases = {Rule.REPLAY_DIFFERS: "'z' cannot be followed", Rule.DEAD_LETTER: "Unreadable("}
    return phrases.get(violation.rule, "\0") in str(violation)


def _outlived_while_damaged(violation: Violation, damaged: set[str]) -> bool:
    """Whether a hold ended late because what is stored of it could not be read: it waits until that is mended."""
    is_late = violation.rule is Rule.TIME_DIFFERS and "outlived its closing" in violation.detail
    return is_late and any(name in f"{violation.subject} {violation.detail}" for name in damaged)
