"""`reservasi ledger compare` guides an operator through a double failover and changes nothing."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reservasi.bootstrap.commands import open_operations
from reservasi.cli.invocation import run
from reservasi.cli.output import masked
from reservasi.embedded.valkey import EmbeddedValkey
from reservasi.model import Confirm
from reservasi.settings import load
from reservasi.worker.ledger_owner import Ownership, own_ledger
from reservasi.worker.sides import Side, recommend
from tests.acceptance.test_cli import Deployment, deployment
from tests.ledgers import Ledger, claim, open_ledger

__all__ = ["deployment"]  # a fixture
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def other(data_dir: Path) -> Iterator[str]:
    """The address of a second server."""
    server = EmbeddedValkey(data_dir, 60)
    run(server.start())
    yield server.url
    run(server.stop())


@asynccontextmanager
async def both(of: Deployment, url: str) -> AsyncIterator[tuple[Ledger, Ledger]]:
    """The program's ledger here, and on the other server."""
    here = load().redis_url or ""
    async with open_ledger(here, of.program, owned=False) as this, open_ledger(url, of.program, owned=False) as there:
        yield this, there


def fail_over_twice(of: Deployment, url: str, quota: str) -> None:
    """The other server takes over and sells; then the old primary is back and serves again, and has sold as well."""

    async def work() -> None:
        async with both(of, url) as (this, there), open_operations(load()) as operations:
            for key, value in (await this.dump()).items():
                await there.client.restore(key, 0, value or b"", replace=True)
            lost = claim(quota=quota, reservation_id="only-here")
            await this.run(lost, Confirm(reservation_id="only-here"), claim(quota=quota))
            owned = await own_ledger(of.program, there.connection, there.journal, operations.records)
            assert owned is Ownership.OWNED
            await there.run(claim(quota=quota, reservation_id="only-there"))

    run(work())


def stored_everywhere(of: Deployment, url: str) -> list[Any]:
    async def work() -> list[Any]:
        async with both(of, url) as (this, there), open_operations(load()) as operations:
            epochs = await operations.records.epochs(of.program)
            return [await this.dump(), await there.dump(), epochs, await operations.records.position(of.program)]

    return run(work())


def test_it_leads_to_the_side_that_was_owned_last(deployment: Deployment, other: str) -> None:
    quota = deployment.imported()
    deployment.confirmed(quota)
    deployment.recorded()
    fail_over_twice(deployment, other, quota)
    assert "superseded" in deployment.finding(f"program {deployment.program}")
    before = stored_everywhere(deployment, other)

    (alone,) = deployment.ok("ledger", "compare")
    assert [each["verdict"] for each in alone["sides"]] == ["superseded"]
    assert "--other-redis-url" in alone["command"]
    assert [row["epoch"] for row in alone["owned"]] == [1, 2]
    assert alone["owned"][1]["at_ms"] > alone["owned"][0]["at_ms"] > 0

    (comparison,) = deployment.ok("ledger", "compare", "--other-redis-url", other)
    this, there = comparison["sides"]
    assert (this["verdict"], this["epoch"], this["confirmed"], this["held"]) == ("superseded", 1, 2, 1)
    assert (this["confirmed_not_recorded"], this["confirmed_only_here"], this["named"]) == (1, 1, ["only-here"])
    assert (there["verdict"], there["epoch"], there["held_only_here"]) == ("owned", 2, 1)
    assert there["run_id"] == comparison["owned"][1]["run_id"]
    assert "make it the primary" in comparison["recommendation"]
    assert comparison["command"] == f"reservasi doctor --redis-url {masked(other)}"

    (gone,) = deployment.ok("ledger", "compare", "--other-redis-url", "redis://127.0.0.1:1")
    assert "does not answer" in gone["sides"][1]["error"]
    assert gone["command"] == f"reservasi rebuild --program {deployment.program} --discard --discard-confirmed"
    output = " ".join(deployment.call("ledger", "compare", "--other-redis-url", other).stdout.split())
    assert f"Next: {comparison['command']}" in output
    assert "only-here" in output
    assert stored_everywhere(deployment, other) == before, "it changes nothing"

    deployment.ok("rebuild", "--discard", "--discard-confirmed")
    (kept,) = deployment.ok("ledger", "compare", "--program", deployment.program)
    assert kept["sides"][0]["verdict"] == "owned"
    assert kept["command"] == f"reservasi reconcile --program {deployment.program}"


def side(verdict: Ownership | None, name: str = "this", **fields: Any) -> Side:
    return Side(side=name, verdict=verdict, **fields)


@pytest.mark.parametrize(
    ("this", "other", "command"),
    [
        (side(None, error="gone"), None, "reservasi doctor"),
        (side(Ownership.OWNED), None, "reservasi reconcile --program p"),
        (side(Ownership.OWNABLE), None, "reservasi doctor"),
        (side(Ownership.BEHIND), None, "reservasi rebuild --program p"),
        (side(Ownership.LOADING), None, "reservasi rebuild --program p"),
        (side(Ownership.RECORDS_OLD), None, "reservasi rebuild --from-ledger --program p"),
        (side(Ownership.UNREADABLE), None, "reservasi version"),
        (side(Ownership.DIVERGED), None, "reservasi ledger compare --program p --other-redis-url redis://HOST:PORT"),
        (side(Ownership.SUPERSEDED), side(Ownership.OWNED, "other"), "reservasi doctor --redis-url u"),
        (side(None), side(Ownership.OWNABLE, "other"), "reservasi doctor --redis-url u"),
        (side(Ownership.BEHIND), side(Ownership.OWNABLE, "other"), "reservasi doctor --redis-url u"),
        (side(Ownership.OWNED), side(Ownership.SUPERSEDED, "other"), "reservasi reconcile --program p"),
        (side(Ownership.OWNABLE, epoch=2, seq=9), side(Ownership.OWNABLE, "other", epoch=2, seq=7), "reservasi doctor"),
        (side(Ownership.SUPERSEDED), side(Ownership.BEHIND, "other"), "reservasi rebuild --program p --discard"),
        (
            side(Ownership.SUPERSEDED),
            side(Ownership.RECORDS_OLD, "other"),
            "reservasi rebuild --from-ledger --program p --redis-url u",
        ),
        (
            side(Ownership.DIVERGED, confirmed_not_recorded=2),
            side(Ownership.SUPERSEDED, "other"),
            "reservasi rebuild --program p --discard --discard-confirmed",
        ),
    ],
)
def test_each_state_has_its_next_command(this: Side, other: Side | None, command: str) -> None:
    words, next_command = recommend("p", this, other, (), url="u")
    assert next_command == command
    assert words.endswith(".")
