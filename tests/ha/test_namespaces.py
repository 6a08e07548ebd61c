"""A network partition in the kernel: packets between hosts are dropped, under the same load and checks."""

import asyncio
import os
import subprocess
from collections.abc import Iterable

import pytest

from loadtest.ha.namespaces import Namespaces, obstacle, open_namespaces
from loadtest.ha.runs import ALL, NOBODY, PART_WITH_REPLICA, run
from loadtest.ha.servers import running_servers

SILENT_S = 0.5
ARRIVES_S = 10.0  # TCP doubles its pauses


@pytest.fixture(scope="module", autouse=True)
def _able() -> None:
    """Skips only where nobody can make namespaces, or this account cannot."""
    if reason := obstacle():
        pytest.skip(reason)


async def test_what_is_cut_off_vanishes_and_arrives_when_all_is_mended() -> None:
    async with running_servers(open_namespaces, hasty=True) as servers:
        address, port = servers.first.host.address, servers.first.port
        reader, writer = await asyncio.open_connection(address, port)
        servers.part()
        writer.write(b"PING\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), SILENT_S)
        with pytest.raises(TimeoutError):  # rather than refused
            await asyncio.wait_for(asyncio.open_connection(address, port), SILENT_S)
        servers.network.join()
        assert await asyncio.wait_for(reader.readline(), ARRIVES_S) == b"+PONG\r\n"
        writer.close()


async def test_a_partition_loses_no_promise_that_both_replicas_or_the_records_had(postgres_dsn: str) -> None:
    outcomes = await run(PART_WITH_REPLICA, ALL, postgres_dsn, open_network=open_namespaces, hasty=True)
    assert (outcomes.apart, outcomes.lost, outcomes.oversold, outcomes.others) == (0, 0, 0, ())
    assert outcomes.confirmed > 0
    assert outcomes.refused > 0, "the front that stayed must have been asked"


async def test_it_loses_promises_that_waited_for_nobody(postgres_dsn: str) -> None:
    outcomes = await run(PART_WITH_REPLICA, NOBODY, postgres_dsn, open_network=open_namespaces, hasty=True)
    assert outcomes.apart > 0, "the front that stayed must have gone on"
    assert outcomes.lost > 0, "the method must see losses"
    assert outcomes.oversold == 0


async def test_nothing_stays_behind_a_failure() -> None:
    ours, networks = _where(), []

    async def fail() -> None:
        async with open_namespaces() as network:
            networks.append(network)
            await network.add_ledger()
            assert _where() != ours
            assert _there(network.names) == set(network.names)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert _where() == ours
    assert not _there(networks[0].names)


async def test_nothing_stays_behind_a_host_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    networks: list[Namespaces] = []

    def fail(network: Namespaces, number: int) -> None:
        networks.append(network)
        raise ZeroDivisionError

    monkeypatch.setattr(Namespaces, "_add_host", fail)
    with pytest.raises(ZeroDivisionError):
        async with open_namespaces():
            pytest.fail("half a network")
    (network,) = networks
    assert network.names
    assert not _there(network.names)


def _where() -> str:
    """The namespace that we are in."""
    return os.readlink("/proc/thread-self/ns/net")


def _there(names: Iterable[str]) -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in listed.splitlines() if line} & set(names)
