"""One run: plays a seed and judges the result."""

import contextlib
import gc
import logging
import random
from collections.abc import Iterator
from unittest import mock

import msgspec
import structlog

from loadtest.checker.rules import Violation
from reservasi.ledger import group_commit
from reservasi.ledger.journal import recorded_position, stream
from reservasi.ledger.lua.library import Library
from tests.simulation.clients import EntryReader, subscribed
from tests.simulation.loop import run, virtual_time
from tests.simulation.server import Server
from tests.simulation.trace import Trace
from tests.simulation.world import EPOCH_MS, Simulation, sealing

REAP_INTERVAL_S = 0.5  # a group commit looks for late commands less often: looking is a third of a run


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run."""

    seed: int
    digest: str  # of the trace
    lines: list[str]
    violations: list[Violation]
    counts: dict[str, int]  # how often what happened

    def __str__(self) -> str:
        lines = "".join(f"\n  {violation}" for violation in self.violations)
        return f"seed {self.seed}, trace {self.digest}: {len(self.violations)} violations{lines}"


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """What the service draws from everybody's random source comes from the seed; and it logs nothing."""
    state, config = random.getstate(), structlog.get_config()
    random.seed(seed)
    sealing.chance, tokens = random.Random(f"nonces {seed}"), random.Random(f"tokens {seed}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        with (
            mock.patch.object(group_commit, "REAP_INTERVAL_S", REAP_INTERVAL_S),
            mock.patch.object(recorded_position, "subscribed", subscribed),
            mock.patch.object(stream, "EntryReader", EntryReader),
            mock.patch("reservasi.ledger.loading.secrets.token_hex", lambda nbytes: tokens.randbytes(nbytes).hex()),
        ):
            yield
    finally:
        random.setstate(state)
        structlog.configure(**config)


@contextlib.contextmanager
def _collected_afterwards() -> Iterator[None]:
    """Collect garbage after the run, and only the run's own.

    When a collector ends a generator or a task in the midst of a run depends on what else the process has done.
    """
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
        gc.collect()
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def simulate(
    seed: int,
    server: Server,
    library: Library,
    *,
    keep_trace: bool = False,
    hashed: bool = True,
    later_entries: bool = False,
    damage: bool = False,
) -> Result:
    """Play one seed and judge it.

    Without `hashed` its trace has no digest. `later_entries`: a later version of the library writes between this one's
    entries. `damage`: stored values are damaged and mended, and records put back to an older dump.
    """
    trace = Trace(keep=keep_trace, hashed=hashed)
    with _seeded(seed):
        simulation = Simulation(seed, server, library, trace, later_entries=later_entries, damage=damage)
        with _collected_afterwards(), virtual_time(simulation.loop, EPOCH_MS / 1000):
            run(simulation.loop, simulation.play)
    return Result(
        seed=seed,
        digest=trace.digest,
        lines=trace.lines,
        violations=simulation.judge(simulation.ledger),
        counts=simulation.count(simulation.ledger),
    )
