"""One run of one fault: service, crowd, strike, healing, and what the checker says afterwards."""

import asyncio
import random
import sys
import time
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadtest.checker.check import Finding, check
from loadtest.checker.evidence import Moving, read_database
from loadtest.checker.history import Exchange, server_errors
from loadtest.checker.rules import LOST, OVERSOLD, Rule
from loadtest.crowd.crowd import Crowd, take_what_is_left
from loadtest.crowd.scenario import GREEDY, Plan, Result
from loadtest.faults.fault import Fault, LosingProxy, Missed, Scene, open_proxy
from loadtest.faults.start import WORLD_VARIABLE, World
from loadtest.stage.program import PROGRAM
from loadtest.stage.service import NOTHING, Part, Service, running_service
from loadtest.stage.shims import Shim, Shims, built
from reservasi.errors import ReservasiError
from reservasi.events import Held
from reservasi.ledger.journal.stream import START

ROOT = Path(__file__).parents[2]
QUOTAS = 10
THINK_S_MAX = 1.0
HEAL_TIMEOUT_S = 30.0
CROWD_TIMEOUT_S = 300.0
HOLD_ENDED = 410
SHOWN_MAX = 5  # violations that a run names
REPLAYED = frozenset({Rule.JOURNAL_GAP, Rule.REPLAY_DIFFERS, Rule.ORDER_DIFFERS})  # what wants every entry


class Run(msgspec.Struct, frozen=True, kw_only=True):
    fault: str
    seed: int
    operations: int = 0  # requests that were answered or lost, but for availability
    lost: int = 0  # acknowledged, and not there
    unrecorded: int = 0  # holds that were not in the records when the ledger was gone: not promised, not among the lost
    oversold: int = 0  # places sold twice, people with two
    took_s: float = 0.0
    note: str = ""
    wrong: tuple[str, ...] = ()  # why the run counts as failed, lost and oversold apart


@dataclass(frozen=True, kw_only=True)
class Stage:
    service: Service
    shims: Shims
    proxy: LosingProxy | None

    async def run(self, fault: Fault, seed: int, program: str = PROGRAM) -> Run:
        """Let the fault strike while a crowd claims the places of a new program, and judge."""
        begun_s = time.monotonic()
        places = fault.places // QUOTAS
        await asyncio.to_thread(self.service.import_program, program, quotas=QUOTAS, places=places, hold_s=fault.hold_s)
        plan = Plan(program=program, people=fault.people, seed=seed, think_s_max=THINK_S_MAX)
        scene = Scene(
            service=self.service,
            crowd=Crowd(self.service.url, plan, at_once=fault.at_once),
            program=program,
            capacity=QUOTAS * places,
            chance=random.Random(f"{fault.name}/{seed}"),
            shims=self.shims,
            proxy=self.proxy,
        )
        run = await _judged(fault, seed, scene)
        return msgspec.structs.replace(run, took_s=time.monotonic() - begun_s)


@asynccontextmanager
async def open_stage(
    shims: tuple[Shim, ...],
    *,
    processes: int = 1,
    through_proxy: bool = False,
    settings: Mapping[str, str] = NOTHING,
    log_copy: Path | None = None,
) -> AsyncIterator[Stage]:
    """A service whose servers stand on these shims, until the block ends."""
    async with AsyncExitStack() as stack:
        inserted = stack.enter_context(built(shims))
        address = inserted.directory / "ledger"  # a file that the service writes the ledger's own address to
        proxy, redis_url = None, ""
        if through_proxy:
            opening = open_proxy(lambda: asyncio.open_unix_connection(address.read_text()), b"FCALL")
            proxy = await stack.enter_async_context(opening)
            redis_url = f"redis://127.0.0.1:{proxy.port}"
        world = World(servers=inserted.environment, redis_url=redis_url, address_file=str(address))
        running = running_service(
            processes=processes,
            log_copy=log_copy,
            command=(sys.executable, "-m", "loadtest.faults.start"),
            environment={**settings, WORLD_VARIABLE: msgspec.json.encode(world).decode(), "PYTHONPATH": str(ROOT)},
        )
        # Started and stopped in a thread, since the proxy must serve meanwhile.
        service = await asyncio.to_thread(running.__enter__)
        stack.push_async_callback(asyncio.to_thread, running.__exit__, None, None, None)
        for part in (Part.VALKEY, Part.POSTGRES):
            inserted.check_under(service.pids(part)[0])
        yield Stage(service=service, shims=inserted, proxy=proxy)


async def run_fault(fault: Fault, seed: int, log_copy: Path | None = None) -> Run:
    async with open_stage(
        fault.shims,
        processes=fault.processes,
        through_proxy=fault.through_proxy,
        settings=fault.settings,
        log_copy=log_copy,
    ) as stage:
        return await stage.run(fault, seed)


async def run_together(faults: Sequence[Fault], seed: int, log_copy: Path | None = None) -> AsyncIterator[Run]:
    """One fault after another on the same service with one front, each with a program of its own, to save time."""
    shims = tuple(sorted({shim for fault in faults for shim in fault.shims}))
    async with open_stage(shims, log_copy=log_copy) as stage:
        for number, fault in enumerate(faults):
            yield await stage.run(fault, seed + number, f"{PROGRAM}-{number}")


async def _judged(fault: Fault, seed: int, scene: Scene) -> Run:
    """The crowd, the strike in its middle, those who come afterwards, and the verdict."""
    struck = asyncio.Event()
    if not fault.alone:
        struck.set()
    visits = asyncio.create_task(_come(scene.crowd, struck))
    note, wrong = await _strike(fault, scene)
    struck.set()
    try:
        async with asyncio.timeout(CROWD_TIMEOUT_S):
            await visits
    except TimeoutError:
        wrong.append(f"the crowd was not served within {CROWD_TIMEOUT_S:g} s after the fault")
    try:
        await scene.until(lambda: scene.service.get_admin("/readyz"), HEAL_TIMEOUT_S, "it does not heal")
    except TimeoutError:
        wrong.append(f"not ready {HEAL_TIMEOUT_S:g} s later")
    latecomers = await take_what_is_left(scene.service, scene.crowd)
    history = [*scene.crowd.history, *latecomers.history]
    operations = sum(exchange.call != "availability" for exchange in history)
    run = Run(fault=fault.name, seed=seed, operations=operations, note=note)
    try:
        finding, gone, concerned = await _checked(fault, scene, history)
    except (Moving, Missed, ReservasiError, OSError) as error:
        return msgspec.structs.replace(run, wrong=(*wrong, f"cannot be checked: {error}"))
    wrong += _unserved(fault, history, scene.crowd.results + latecomers.results, concerned)
    if fault.recorded_only:
        run = msgspec.structs.replace(run, note=f"{note}; {unrecorded_holds(gone)}")
    if scene.planted:
        kept = tuple(each for each in finding.violations if not str(each).startswith(scene.planted))
        if len(kept) == len(finding.violations):
            wrong.append(f"the checker does not say {scene.planted}")
        finding = msgspec.structs.replace(finding, violations=kept)
    return _counted(fault, run, finding, wrong, gone)


async def _strike(fault: Fault, scene: Scene) -> tuple[str, list[str]]:
    try:
        async with asyncio.timeout(fault.timeout_s):
            return await fault.strike(scene), []
    except (Missed, ReservasiError) as missed:
        return "", [str(missed)]
    except TimeoutError as error:
        return "", [f"the fault did not end: {error}"]
    except Exception as error:
        traceback.print_exc()
        return "", [f"the fault broke off: {type(error).__name__}: {error}"]


async def _come(crowd: Crowd, when: asyncio.Event) -> None:
    await when.wait()
    await crowd.run()


async def _checked(fault: Fault, scene: Scene, history: Sequence[Exchange]) -> tuple[Finding, int, set[int]]:
    """What the checker finds, how many holds a ledger that is gone took along, and whom these were promised to.

    The checker is not asked about them, and these people may be surprised: also one whose repeated claim made the hold
    anew, since its deadline is another one.
    """
    gone: frozenset[str] = frozenset()
    concerned: set[int] = set()
    if fault.recorded_only:
        await scene.drained()
        held_at_ms = await _held_at_ms(scene)
        gone = _unrecorded(scene, held_at_ms)
        former = [e for e in history if _reservation_of(e) in gone or _is_of_the_former(e, scene, held_at_ms)]
        concerned = {exchange.person for exchange in former}
        history = [e for e in history if e not in former and not _is_on_its_way(e, scene)]
    (finding,) = await check(scene.service.redis_url, scene.service.postgres_dsn, history, [scene.program])
    return finding, len(gone), concerned


def _is_on_its_way(exchange: Exchange, scene: Scene) -> bool:
    """Whether it says of a change that it is on its way into the records, out of a ledger that is gone.

    A repeated request makes another change, and the checker would take the first answer for that one's. The answer may
    come after the rebuild, since a front waits for the record a while.
    """
    return exchange.outcome == 202 and exchange.sent_ms <= scene.lost_until_ms


def _is_of_the_former(exchange: Exchange, scene: Scene, held_at_ms: Mapping[str, int]) -> bool:
    """Whether it tells of a hold that is gone with its ledger, and was made anew by the same claim afterwards."""
    is_before = exchange.answered_ms <= scene.lost_until_ms
    return is_before and exchange.answered_ms < held_at_ms.get(_reservation_of(exchange), 0)


async def _held_at_ms(scene: Scene) -> dict[str, int]:
    database = await read_database(scene.service.postgres_dsn, scene.program, START)
    return {e.reservation_id: entry.at_ms for entry in database.journal for e in entry.events if isinstance(e, Held)}


def unrecorded_holds(count: int) -> str:
    return (
        "1 hold that nobody had recorded is gone" if count == 1 else f"{count} holds that nobody had recorded are gone"
    )


def _unrecorded(scene: Scene, held_at_ms: Mapping[str, int]) -> frozenset[str]:
    """The holds that a ledger that is gone acknowledged, and the records do not have."""
    before = [exchange for exchange in scene.crowd.history if exchange.answered_ms <= scene.lost_until_ms]
    return frozenset(_reservation_of(e) for e in before if (e.call, e.outcome) == ("claim", 201)) - held_at_ms.keys()


def _reservation_of(exchange: Exchange) -> str:
    return exchange.reservation_id or str(exchange.body.get("id", ""))


def _unserved(
    fault: Fault, history: Sequence[Exchange], results: Mapping[Result, int], concerned: set[int]
) -> list[str]:
    wrong = [f"{count} answers {status}" for status, count in server_errors(history).items() if status != 503]
    met = {result: results.get(result, 0) for result in (Result.SURPRISED, Result.UNANSWERED, Result.CONFIRMING)}
    met[Result.SURPRISED] -= len(concerned | {e.person for e in history if fault.surprises and _tells_of_an_end(e)})
    return wrong + [f"{count} people {result}" for result, count in met.items() if count > 0 and not fault.control]


def _tells_of_an_end(exchange: Exchange) -> bool:
    """Whether it shows that the person's hold has ended: by its status, or by a place that they got beside it.

    That they did not have both at a time is left to the checker.
    """
    return exchange.outcome == HOLD_ENDED or (exchange.outcome == 201 and exchange.key.startswith(GREEDY))


def _counted(fault: Fault, run: Run, finding: Finding, wrong: list[str], unrecorded: int) -> Run:
    violations = [each for each in finding.violations if not (fault.journal_gap and each.rule in REPLAYED)]
    lost = {violation.subject for violation in violations if violation.rule in LOST}
    oversold = {violation.subject for violation in violations if violation.rule in OVERSOLD}
    others = [violation for violation in violations if violation.rule not in LOST | OVERSOLD]
    if not fault.control:
        wrong += map(str, violations[:SHOWN_MAX])
        if not others and (left := finding.capacity - finding.held - finding.confirmed):
            wrong.append(f"{left} of {finding.capacity} places are nobody's, though people were left without one")
    return msgspec.structs.replace(
        run, lost=len(lost), unrecorded=unrecorded, oversold=len(oversold), wrong=tuple(wrong)
    )
