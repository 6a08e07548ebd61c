"""`reservasi rebuild` and `reconcile --repair`, killed at each step and run again, end as if run once."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.checker.evidence import read_database
from loadtest.checker.replay import journal_violations
from loadtest.checker.rules import database_violations
from reservasi.ledger import keys
from reservasi.ledger.wire import stored_forms
from reservasi.model import Confirm, Outcome
from reservasi.programs.files import read_program
from reservasi.records import Records
from reservasi.worker.ledger_owner import Ownership
from tests.integration.test_rebuild import SURABAYA, evidence, own, record, regardless_of_epoch, sell
from tests.integration.test_reconcile import ledger, reconcile
from tests.ledgers import QUOTA, Ledger, claim, quota_set
from tests.proxy import Halt, open_proxy

__all__ = ["ledger"]  # a fixture
pytestmark = pytest.mark.timeout(240)  # each starts two processes
TIMEOUT_S = 60
FENCE, OWN, SAY = rb"_fence\r\n", rb"_own\r\n", rb"PUBLISH\r\n"
FORCED, REPAIR = ("rebuild", "--force"), ("reconcile", "--repair")


def step(name: str) -> bytes:
    """A call of `lua/load.lua`, whose step is packed as a short text."""
    return rb"_load\r\n.*" + bytes([0xA0 + len(name)]) + name.encode()


class Commands:
    """Commands of the command line, as processes."""

    def __init__(self, of: Ledger, database: str, data_dir: Path) -> None:
        self.database = database
        self._program = of.program
        self._environment = {**os.environ, "RESERVASI_POSTGRES_DSN": database, "RESERVASI_DATA_DIR": str(data_dir)}
        self._url = of.url

    async def _start(self, words: tuple[str, ...], url: str) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "reservasi.cli", *words, "--json", "--program", self._program]
        environment = {**self._environment, "RESERVASI_REDIS_URL": url}
        return await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)

    async def killed_at(self, halt: Halt, *words: str) -> None:
        """Run one until it is there, and kill it."""
        async with open_proxy(self._url) as proxy:
            proxy.halt = halt
            process = await self._start(words, proxy.url)
            try:
                await asyncio.wait_for(halt.reached.wait(), TIMEOUT_S)
            finally:
                process.kill()
                await process.wait()

    async def run(self, *words: str) -> dict[str, Any]:
        """Run one to its end, which is to be a good one."""
        process = await self._start(words, self._url)
        try:
            output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        except TimeoutError:
            process.kill()
            raise
        assert process.returncode == 0, output
        (report,) = msgspec.json.decode(output)
        assert isinstance(report, dict)
        return report


@pytest.fixture
def commands(ledger: Ledger, database: str, data_dir: Path) -> Commands:
    """Commands that work on this test's ledger and records."""
    return Commands(ledger, database, data_dir)


async def is_as_if_run_once(of: Ledger, records: Records, database: str) -> None:
    """Nothing differs, and what is sold from now on is recorded behind what was."""
    assert (await reconcile(of, records)).drift == ()
    answers = await of.run(quota_set("p.kanim.baru.20261201.1300.online"), *(claim(quota=QUOTA) for _ in range(3)))
    assert {answer.outcome for answer in answers[1:]} == {Outcome.HELD}
    await record(of, records)
    state = await evidence(of)
    recorded = await read_database(database, of.program, state.position)
    assert not [*database_violations(state, recorded), *journal_violations(state, recorded)]


@pytest.mark.parametrize(
    ("halt", "again"),
    [
        (Halt(FENCE, answered=True), "ownable"),
        (Halt(FENCE, rb"XREAD\r\n"), "ownable"),  # before it is recorded what only the ledger knows
        (Halt(step("begin")), "ownable"),  # and after it
        (Halt(step("begin"), answered=True), "loading"),
        (Halt(step("live"), answered=True), "loading"),
        (Halt(SAY), "loading"),  # the records have gone over to the next lineage
        (Halt(step("own")), "loading"),
        (Halt(step("own"), answered=True), "owned"),
    ],
    ids=["fenced", "draining", "drained", "emptied", "loading", "branched", "said", "owned"],
)
async def test_a_rebuild_that_was_killed_is_run_again(
    ledger: Ledger, records: Records, commands: Commands, halt: Halt, again: str
) -> None:
    sold = await sell(ledger)
    await records.save_program(msgspec.structs.replace(read_program(SURABAYA), id=ledger.program))
    before = await evidence(ledger)
    await commands.killed_at(halt, *FORCED)
    report = await commands.run(*FORCED)
    assert (report["found"], report["rebuilt"], report["lost"]) == (again, True, 0)
    assert (report["seq"], report["reservations"]) == (before.position.seq, 2)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)
    assert (await ledger.one(Confirm(reservation_id=sold.held.reservation_id))).outcome is Outcome.CONFIRMED
    await record(ledger, records)
    await is_as_if_run_once(ledger, records, commands.database)


@pytest.mark.parametrize(
    ("halt", "repaired"),
    [
        (Halt(FENCE, answered=True), 1),
        (Halt(step("quotas"), answered=True), 1),
        (Halt(step("own")), 1),
        (Halt(step("own"), answered=True), 0),  # it was done
    ],
    ids=["fenced", "loading", "said", "owned"],
)
async def test_a_repair_that_was_killed_is_run_again(
    ledger: Ledger, records: Records, commands: Commands, halt: Halt, repaired: int
) -> None:
    sold = await sell(ledger)
    await record(ledger, records)
    await records.save_program(msgspec.structs.replace(read_program(SURABAYA), id=ledger.program))
    before = await evidence(ledger)
    await ledger.client.hdel(keys.reservations(ledger.program), sold.group.reservation_id)
    await commands.killed_at(halt, *REPAIR)
    report = await commands.run(*REPAIR)
    assert (report["drift"], report["repaired"], report["lost"]) == ([], repaired, 0)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)
    stored: Any = await ledger.client.hget(keys.recorded(ledger.program), keys.RECORDED_FIELD)
    assert msgspec.json.decode(stored)["epoch"] == report["epoch"], "fronts know how far it is recorded"
    await is_as_if_run_once(ledger, records, commands.database)


async def test_a_rebuild_that_was_killed_as_it_owned_the_ledger_is_run_again(
    ledger: Ledger, records: Records, commands: Commands
) -> None:
    """The ledger is in step, under another run of its server: the epoch is claimed, and never taken up."""
    await sell(ledger)
    await records.save_program(msgspec.structs.replace(read_program(SURABAYA), id=ledger.program))
    before = await evidence(ledger)
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{'0' * 40}")
    await commands.killed_at(Halt(OWN), "rebuild")
    assert [row.epoch for row in await records.epochs(ledger.program)] == [1, 2]
    report = await commands.run("rebuild")
    assert (report["found"], report["rebuilt"]) == ("ownable", False)
    assert await own(ledger, records) is Ownership.OWNED
    assert regardless_of_epoch(await evidence(ledger)).reservations == before.reservations
    await record(ledger, records)
    await is_as_if_run_once(ledger, records, commands.database)
