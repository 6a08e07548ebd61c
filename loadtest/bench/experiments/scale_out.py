"""`make scale-out`: how much work a claim costs with more primaries, replicas and followers, and larger batches.

Each case claims in new programs, directly in a real cluster without HTTP, and checks every program afterwards.
"""

import asyncio
import itertools
import multiprocessing
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from operator import sub
from typing import Any, TypeAlias

import uvloop

from loadtest.bench.command import carry_out, parser_of
from loadtest.bench.figures import Say, by_turns
from loadtest.bench.own_ledger import OwnLedger, confirmations, own_ledger, until_rewritten
from loadtest.stage.cluster import LocalCluster, local_cluster
from loadtest.stage.cores import Cores, pinned, ran_s
from loadtest.stage.tables import Table
from reservasi import logs
from reservasi.availability import Availability, follower
from reservasi.ledger import keys
from reservasi.ledger.acknowledging import acks_wanted
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.cluster import SLOTS, slot_of
from reservasi.ledger.topology.servers import Servers
from reservasi.model import Claim, Outcome
from reservasi.settings import Settings

PROGRAMS = 6
ONE = (1,)  # a single program, which cannot be split
UNEVEN = (50, 20, 10, 10, 5, 5)  # one office that half the country wants
IN_FLIGHT_BATCHES = 4  # batches in flight in a program, so that a full one waits for each call
ACK_TIMEOUT_MS = 5000
IDLE_FRONTS = 16
IDLE = "idle"
COLUMNS = {
    "per_call": "per call",
    "valkey_us": "Valkey",  # of all primaries together
    "busiest_us": "busiest",  # of the primary that worked most
    "front_us": "front",  # of the process that claims
    "replica_us": "replica",  # of one replica of each primary
    "follower_us": "follower",  # of one follower of everything
    "file_bytes": "file",
    "link_bytes": "link",
    "journal_bytes": "journal",
}
NOTES = (
    "Medians of the rounds, for one claim or confirmation. Per call: claims or confirmations in one call.",
    "Valkey to follower: microseconds of processor time. File, link, journal: bytes.",
    "Valkey: all primaries. Busiest: the primary that worked most. Front: group commit and connections, without HTTP.",
    "Replica, follower: one of them. File: append-only file. Link: sent to each replica.",
    "Journal: in memory until it is recorded and trimmed.",
    "Of base: Valkey's time as a ratio to the first line in the same round; min-max: the least and greatest ratio.",
    f"Unequal: shares of {', '.join(map(str, UNEVEN))} %.",
)
IDLE_COLUMNS = ("valkey_us", "follower_us")
IDLE_NOTES = (
    "Microseconds of processor time.",
    f"{PROGRAMS} programs on one primary, followed by {IDLE_FRONTS} fronts.",
    "1,000,000 divided by a figure is how many programs times fronts fill a primary's core, or programs a front's.",
)
STALE_MS = Settings.model_fields["view_stale_ms"].default
TOO_MANY = 1_000_000_000
WANT_INTERVAL_S = 1.0
VIEW_TIMEOUT_S = 60.0
VIEW_POLL_S = 0.01
_numbers = itertools.count(1)

Work: TypeAlias = dict[str, float]  # for each claim or confirmation; at rest a second for each program and front


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the tables: programs, servers and followers, and how the claims are batched."""

    name: str
    group: str
    primaries: int = 1
    replicas: int = 0  # of each primary
    acks: int = 0  # replicas that must have a claim before it is promised
    followers: int = 0  # fronts that follow every program, in addition to the one that claims
    shares: tuple[int, ...] = (1,) * PROGRAMS  # of the claims, by program; the programs lie on the primaries in turn
    batch: int = 64  # claims in one call
    confirms: bool = False  # the confirmations are measured, not the claims before them
    wanted: bool = True  # whether people keep asking the followers for places


def _alone(batch: int, what: str = "claim") -> Case:
    name = f"1 program, {batch} {what}{'s' * (batch > 1)} a call"
    return Case(name=name, group="batches", shares=ONE, batch=batch, confirms=what == "confirmation")


# Every case differs from the base in one respect.
BASE = Case(name="6 programs, 1 primary, 64 claims a call", group="base")
CASES = (
    BASE,
    Case(name="2 primaries", group="primaries", primaries=2),
    Case(name="3 primaries", group="primaries", primaries=3),
    Case(name="3 primaries, unequal programs", group="primaries", primaries=3, shares=UNEVEN),
    *(_alone(batch) for batch in (256, 128, 32, 8, 1)),
    *(_alone(batch, "confirmation") for batch in (256, 32, 1)),
    Case(name="1 replica", group="replicas", replicas=1),
    Case(name="1 replica, which must acknowledge", group="replicas", replicas=1, acks=1),
    Case(name="2 replicas", group="replicas", replicas=2),
    Case(name="2 replicas, which must acknowledge", group="replicas", replicas=2, acks=2),
    *(Case(name=f"followed by {count} more", group="followers", followers=count) for count in (1, 4, 16)),
    Case(name="at rest", group=IDLE, followers=IDLE_FRONTS, wanted=False),
    Case(name="sold out and still asked for", group=IDLE, followers=IDLE_FRONTS),
)
GROUPS = ("primaries", "batches", "replicas", "followers", IDLE)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    rounds: int
    claims: int = 24_000  # in one measurement, about
    calls_max: int = 3000  # of a program's claims, which bounds what single claims take
    quotas: int = 50  # in each program
    idle_s: float = 4.0  # length of a measurement at rest


SMOKE = Sizes(rounds=1, claims=300, calls_max=50, quotas=10, idle_s=0.5)


@dataclass
class Found:
    rounds: list[dict[str, Work]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    def tables(self) -> list[Table]:
        measured = [case for case in CASES if self.rounds and case.name in self.rounds[0]]
        claiming, idle = ([case for case in measured if (case.group == IDLE) is at_rest] for at_rest in (False, True))
        tables = []
        if claiming:
            title = "Work of a claim, by programs, primaries, batches, replicas and fronts"
            rows = tuple((*self._row(case, COLUMNS), *self._of_base(case)) for case in claiming)
            columns = ("", *COLUMNS.values(), "of base", "min-max")
            tables.append(Table(title=title, columns=columns, rows=rows, notes=NOTES))
        if idle:
            title = "Nobody claims: work a second for each program that a front follows"
            rows = tuple(self._row(case, IDLE_COLUMNS) for case in idle)
            columns = ("", *(COLUMNS[figure] for figure in IDLE_COLUMNS))
            tables.append(Table(title=title, columns=columns, rows=rows, notes=IDLE_NOTES))
        return tables

    def as_json(self) -> dict[str, Any]:
        return {"rounds": self.rounds}

    def _row(self, case: Case, figures: Iterable[str]) -> tuple[str, ...]:
        medians = ((name, statistics.median(works[case.name][name] for works in self.rounds)) for name in figures)
        return case.name, *(f"{value:.{name.endswith('_us'):d}f}" if value else "-" for name, value in medians)

    def _of_base(self, case: Case) -> tuple[str, str]:
        ratios = [works[case.name]["valkey_us"] / works[BASE.name]["valkey_us"] for works in self.rounds]
        return f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}"


class Followers:
    """The views of `count` fronts of each program, in one other process; no process for 0.

    With `wanted`, people keep asking for more places than there are.
    """

    def __init__(self, url: str, ledgers: Sequence[OwnLedger], count: int, *, wanted: bool = True) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, url, count, wanted, [ledger.program for ledger in ledgers])
        self._process = context.Process(target=_run, args=arguments, daemon=True)
        self._count = count

    async def __aenter__(self) -> "Followers":
        if self._count:
            self._process.start()
        await self.reach(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._count:
            self._process.kill()
            self._process.join()

    def cpu_s(self) -> float:
        return ran_s(self._process.pid) if self._process.pid else 0.0

    async def reach(self, places: int) -> None:
        """Wait until every view counts this many taken places in all programs together."""
        if self._count:
            self._pipe.send(places)
            if not await asyncio.to_thread(self._pipe.poll, VIEW_TIMEOUT_S):
                raise TimeoutError("the followers do not see what was claimed")
            self._pipe.recv()


def _run(pipe: Connection, url: str, count: int, wanted: bool, programs: Sequence[str]) -> None:
    logs.configure("warning", "console")
    if not wanted:
        follower.IDLE_AFTER_S = 0.0  # at rest at once
    uvloop.run(_follow(pipe, [Servers(url) for _ in range(count)], wanted, programs))


async def _follow(pipe: Connection, servers: Sequence[Servers], wanted: bool, programs: Sequence[str]) -> None:
    """Receive numbers of places, and send each one back when every view counts that many taken."""
    fronts = [_front(each, programs) for each in servers]
    wanting = asyncio.create_task(_want(fronts)) if wanted else None  # noqa: F841 - kept from the collector
    while True:
        places = await asyncio.to_thread(pipe.recv)
        while any(_taken(front) < places for front in fronts):  # noqa: ASYNC110 - a view has no event
            await asyncio.sleep(VIEW_POLL_S)
        pipe.send(places)


def _front(servers: Servers, programs: Sequence[str]) -> Availability:
    library = read_library()
    front = Availability(
        lambda program: LedgerConnection(servers.of(program), program, library),
        lambda program: Journal(servers.client_of(program), program),
        server_of=servers.name_of,
        stale_ms=STALE_MS,
    )
    for program in programs:
        front.follow(program)
    return front


def _taken(front: Availability) -> int:
    """Taken places that these views count; -1 while they are not in step."""
    return sum(quota.counts.taken for quota in front.changed_since(0)) if front.ready else -1


async def _want(fronts: Sequence[Availability]) -> None:
    """Keep asking for more places than there are, like a crowd after a quota is sold out."""
    while True:
        for front in fronts:
            for quota in front.changed_since(0):
                front.is_sold_out(quota.id, TOO_MANY, "")
        await asyncio.sleep(WANT_INTERVAL_S)


@dataclass
class Meter:
    """Measures cases. A cluster of each shape is started at its first use and kept for the whole run."""

    sizes: Sizes
    cores: Cores
    stack: AsyncExitStack
    by_shape: dict[tuple[int, int], LocalCluster] = field(default_factory=dict)

    async def measure(self, case: Case) -> Work:
        """One measurement in new programs, which are deleted afterwards."""
        return await (self._rest(case) if case.group == IDLE else self._claim(case))

    async def _claim(self, case: Case) -> Work:
        places = [self._places(case, share) for share in case.shares]
        done = sum(places)
        async with (
            self._opened(case, places) as (cluster, ledgers),
            Followers(cluster.url, ledgers, case.followers, wanted=case.wanted) as followers,
        ):
            crowd = [(ledger, ledger.claims(count)) for ledger, count in zip(ledgers, places, strict=True)]
            if case.confirms:
                await _carry_out(crowd, case, confirm=False)
            sums, used_s, front_s = await _sums(cluster, ledgers), _used_s(cluster, followers), time.process_time()
            with pinned(self.cores.front):
                await _carry_out(crowd, case, confirm=case.confirms)
            front_s = time.process_time() - front_s
            await _replicated(cluster)
            await followers.reach(done)
            used_us = [spent_s / done * 1e6 for spent_s in map(sub, _used_s(cluster, followers), used_s)]
            each = {name: (now - sums[name]) / done for name, now in (await _sums(cluster, ledgers)).items()}
            for ledger, claims in crowd:
                await ledger.check(claims, confirmed=case.confirms)
        primaries_us = used_us[: case.primaries]
        return {
            "done": done,
            "per_call": (2 if case.acks else 1) / each["calls"],  # `touch` follows each acknowledged call
            "valkey_us": sum(primaries_us),
            "busiest_us": max(primaries_us),
            "front_us": front_s / done * 1e6,
            "replica_us": sum(used_us[case.primaries : -1]) / max(1, case.replicas),
            "follower_us": used_us[-1] / max(1, case.followers),
            "file_bytes": each["file"],
            "link_bytes": each["link"] if case.replicas else 0.0,
            "journal_bytes": each["journal"],
        }

    async def _rest(self, case: Case) -> Work:
        """The cost of fronts while nobody claims: each of them polls every program's position."""
        followed = case.followers * PROGRAMS
        async with self._opened(case, [self.sizes.quotas] * PROGRAMS) as (cluster, ledgers):
            alone_us, _ = await self._a_second(cluster, Followers(cluster.url, ledgers, 0))
            async with Followers(cluster.url, ledgers, case.followers, wanted=case.wanted) as followers:
                valkey_us, followers_us = await self._a_second(cluster, followers)
        return {"valkey_us": (valkey_us - alone_us) / followed, "follower_us": followers_us / followed}

    async def _a_second(self, cluster: LocalCluster, followers: Followers) -> list[float]:
        """Processor time of the server and of the followers, in microseconds a second."""
        started_s, used_s = time.perf_counter(), _used_s(cluster, followers)
        await asyncio.sleep(self.sizes.idle_s)
        took_s = time.perf_counter() - started_s
        return [spent_s / took_s * 1e6 for spent_s in map(sub, _used_s(cluster, followers), used_s)]

    def _places(self, case: Case, share: int) -> int:
        """A program's share of the places, the same number in each quota."""
        wanted = self.sizes.claims * share / sum(case.shares)
        quotas = self.sizes.quotas
        return max(1, round(min(wanted, self.sizes.calls_max * case.batch) / quotas)) * quotas

    @asynccontextmanager
    async def _opened(self, case: Case, counts: Sequence[int]) -> AsyncIterator[tuple[LocalCluster, list[OwnLedger]]]:
        """Programs with these numbers of places, deleted from memory and files at the end."""
        cluster, quotas = await self._cluster(case), self.sizes.quotas
        acks = acks_wanted(replicas=case.acks, timeout_ms=ACK_TIMEOUT_MS, aof="off")
        try:
            async with AsyncExitStack() as stack:
                opened = [
                    own_ledger(cluster.url, name, quotas=quotas, capacity=count // quotas, batch=case.batch, acks=acks)
                    for name, count in zip(new_names(case.primaries), counts, strict=False)
                ]
                yield cluster, [await stack.enter_async_context(ledger) for ledger in opened]
        finally:
            for node in cluster.primaries:
                await node.ask("FLUSHALL", "SYNC")
            await _replicated(cluster)
            for node in cluster.nodes:
                await node.ask("BGREWRITEAOF")
            for node in cluster.nodes:
                await until_rewritten(node.client)

    async def _cluster(self, case: Case) -> LocalCluster:
        """The cluster of a case. Its files are rewritten between two measurements only."""
        shape = (case.primaries, case.replicas)
        if shape not in self.by_shape:
            cluster = await self.stack.enter_async_context(local_cluster(case.primaries, replicas=case.replicas))
            for node in cluster.nodes:
                await node.ask("CONFIG", "SET", "auto-aof-rewrite-percentage", 0)
            self.by_shape[shape] = cluster
        return self.by_shape[shape]


def _used_s(cluster: LocalCluster, followers: Followers) -> list[float]:
    """Processor time so far, of each server, primaries first, and of the followers."""
    return [*(node.cpu_s() for node in cluster.nodes), followers.cpu_s()]


async def _sums(cluster: LocalCluster, ledgers: Sequence[OwnLedger]) -> dict[str, float]:
    """Function calls, bytes of append-only files and of replication streams so far, and of journals in memory."""
    infos = [await node.client.info("everything") for node in cluster.primaries]
    journals = [await ledger.client.memory_usage(keys.journal(ledger.program), samples=0) for ledger in ledgers]
    return {
        "calls": sum(info.get("cmdstat_fcall", {}).get("calls", 0) for info in infos),
        "file": sum(info["aof_current_size"] for info in infos),
        "link": sum(info["master_repl_offset"] for info in infos),
        "journal": sum(size or 0 for size in journals),
    }


def new_names(primaries: int) -> Iterator[str]:
    """New program names, whose slots lie on the first primary, the second, and so on in turn."""
    for at in itertools.cycle(range(primaries)):
        first, end = SLOTS * at // primaries, SLOTS * (at + 1) // primaries
        yield next(name for name in map("kanim-{}".format, _numbers) if first <= slot_of(name) < end)


async def _carry_out(crowd: Sequence[tuple[OwnLedger, Sequence[Claim]]], case: Case, *, confirm: bool) -> None:
    """Claim or confirm in all programs at once, with claims in flight by share, so that all end together."""
    most = max(len(claims) for _, claims in crowd)

    async def in_one(ledger: OwnLedger, claims: Sequence[Claim]) -> None:
        in_flight = -(-IN_FLIGHT_BATCHES * case.batch * len(claims) // most)
        commands = confirmations(claims) if confirm else claims
        await ledger.submit(commands, Outcome.CONFIRMED if confirm else Outcome.HELD, in_flight)

    await asyncio.gather(*(in_one(ledger, claims) for ledger, claims in crowd))


async def _replicated(cluster: LocalCluster) -> None:
    """Wait until every replica has caught up with its primary."""

    async def caught_up() -> bool:
        offsets = [(await node.client.info("replication"))["master_repl_offset"] for node in cluster.nodes]
        return all(offset >= offsets[at % len(cluster.primaries)] for at, offset in enumerate(offsets))

    await cluster.until(caught_up)


async def measure_all(results: Found, groups: frozenset[str], sizes: Sizes, cores: Cores, say: Say) -> None:
    cases = [case for case in CASES if case.group in groups or (case is BASE and groups != {IDLE})]
    async with AsyncExitStack() as stack:
        meter = Meter(sizes, cores, stack)
        for counts, ordered in by_turns(cases, sizes.rounds, say, warm_up=sizes is not SMOKE):
            works = {case.name: await meter.measure(case) for case in ordered}
            results.rounds += [works] if counts else []


def main(argv: list[str] | None = None) -> int:
    arguments = parser_of("loadtest.bench.experiments.scale_out", __doc__, GROUPS, "5").parse_args(argv)
    results, sizes = Found(), SMOKE if arguments.smoke else Sizes(rounds=arguments.rounds or 5)

    def measure(cores: Cores, say: Say) -> None:
        with pinned(cores.rest):
            uvloop.run(measure_all(results, arguments.only, sizes, cores, say))

    return carry_out(results, measure, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
