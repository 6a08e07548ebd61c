"""Answers that wait for replicas: what a replay on another connection may promise, and that nothing is asked when off."""

import pytest

from loadtest.ha.servers import Servers, running_servers
from reservasi.errors import NotReplicated
from reservasi.ledger.acknowledging import Acks, acks_wanted
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.library import read_library
from reservasi.ledger.primaries import parse_sentinel_url
from reservasi.model import Command, Confirm, Outcome
from tests.ledgers import TOMBSTONE_MS, Ledger, claim, open_ledger, quota_set

ASKED = Acks(replicas=1, timeout_ms=200)


async def _ask(servers: Servers, program: str, command: Command) -> Outcome:
    """A command through a front that has just started."""
    group = GroupCommit(
        LedgerConnection(servers.direct_url, program, read_library(), ASKED),
        batch_items_max=256,
        queue_items_max=5000,
        command_timeout_ms=5000,
        tombstone_ms=TOMBSTONE_MS,
        queue_delay_target_ms=1000,
    )
    group.start()
    try:
        return (await group.submit(command)).outcome
    finally:
        await group.close()


async def test_a_replay_is_no_more_definite_than_its_first_answer(program: str) -> None:
    async with running_servers() as servers, open_ledger(servers.direct_url, program) as ledger:
        await ledger.one(quota_set())
        first = claim()
        assert await _ask(servers, program, first) is Outcome.HELD
        servers.pause(servers.replicas)
        unheard = claim()
        for _ in range(2):  # the second on a connection that wrote nothing: WAIT alone would call it safe
            with pytest.raises(NotReplicated):
                await _ask(servers, program, unheard)
        confirmed = await _ask(servers, program, Confirm(reservation_id=first.reservation_id))
        assert confirmed is Outcome.CONFIRMED, "the records decide whether it is said to be"
        servers.resume(servers.replicas)
        assert await _ask(servers, program, unheard) is Outcome.EXISTS


async def test_nothing_is_asked_when_off(valkey_url: str, program: str) -> None:
    assert acks_wanted(replicas=0, timeout_ms=500, aof="off") is None
    async with open_ledger(valkey_url, program) as ledger:
        await ledger.run(quota_set())
        before = await _calls(ledger)
        await ledger.run(claim(), claim(quota="p.nothing"))
        after = await _calls(ledger)
        assert after.pop("fcall") - before.pop("fcall") == 1
        assert after == before
        assert ledger.connection.safe


async def _calls(ledger: Ledger) -> dict[str, int]:
    stats = await ledger.client.info("commandstats")
    names = ("fcall", "wait", "waitaof", "publish")
    return {name: int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in names}


def test_a_sentinel_address_is_taken_apart() -> None:
    found = parse_sentinel_url("sentinel://u:p%40@h1,[::1]:7/ledger?sentinel_password=s")
    assert found.sentinels == (("h1", 26379), ("::1", 7))
    assert (found.name, found.username, found.password, found.sentinel_password) == ("ledger", "u", "p@", "s")


@pytest.mark.parametrize("url", ["sentinel://h1", "sentinel:///x", "sentinel://h/a/b", "sentinel://h/x?tls=1"])
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sentinel"):
        parse_sentinel_url(url)
