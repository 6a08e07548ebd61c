"""What a store holds is not what was written: emptied, an old copy, a damaged value, an entry that cannot be read."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import redis.asyncio as redis_asyncio

from loadtest.checker.rules import Rule
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.stage.service import Part
from reservasi.cli.output import EXIT_DRIFT
from reservasi.ledger import keys
from reservasi.worker.ledger_owner import Ownership

REBUILT_TIMEOUT_S = 30.0  # for the worker to rebuild it without being asked, and for its server to come back before
FENCED_TIMEOUT_S = 20.0
GONE_TIMEOUT_S = 20.0
COPIED_SHARE = 0.1  # of the places that are taken when a copy is made
DAMAGED_S = 2.0  # in which places are sold from what is damaged
CUT_BYTES = 20
QUOTAS = 10

Damage = Callable[[Scene, redis_asyncio.Redis], Awaitable[str]]


# -- the ledger is emptied, or an old copy: the worker rebuilds it by itself ---------------------------------------
# What is promised then is every confirmation and every cancellation that was answered 200. A hold is the ledger's word
# until then: one that nobody had recorded is gone with the ledger, and the note counts them.


async def _flush(scene: Scene) -> str:
    await scene.mid_sale()
    rebuilds = len(scene.log_lines("ledger_rebuilt"))
    async with scene.ledger() as client:
        await client.flushall()
    return f"emptied by FLUSHALL, {await _rebuilt(scene, rebuilds)}"


async def _restore_old_ledger(scene: Scene) -> str:
    """A copy that was made early is put back while the server is down, as from yesterday's backup."""
    await scene.taken(COPIED_SHARE)
    directory = scene.places.valkey
    copy = Path(f"{directory}.old")
    await asyncio.to_thread(shutil.copytree, directory, copy)
    await scene.taken(COPIED_SHARE + scene.chance.uniform(0.2, 0.4))
    rebuilds = len(scene.log_lines("ledger_rebuilt"))
    with scene.unsupervised():
        scene.kill(Part.VALKEY)
        for file in scene.append_only_files():
            old = copy / file.relative_to(directory)
            with file.open("r+b") as current:  # its owner stays
                current.truncate(0)
                current.write(old.read_bytes())
    return f"an old append-only file came back, {await _rebuilt(scene, rebuilds)}"


async def _rebuilt(scene: Scene, before: int) -> str:
    """Wait until the worker has rebuilt the ledger once more than before; the checker sees whether it owns it."""
    begun_s = time.monotonic()
    await scene.until(
        lambda: len(scene.log_lines("ledger_rebuilt")) > before, REBUILT_TIMEOUT_S, "nobody has rebuilt the ledger"
    )
    scene.lost_until_ms = time.time() * 1000
    return f"rebuilt by itself within {time.monotonic() - begun_s:.1f} s"


# -- the records are an old copy: what the ledger still has is recorded again ----------------------------------------
# People confirm and cancel between the copy and its return: nothing that was answered 200 may be lost.


async def _restore_old_records(scene: Scene) -> str:
    at_copy, before = await _put_back_old_records(scene)
    drained_s = await scene.drained()
    return f"the records went back from seq {before} to {at_copy}, and were complete again {drained_s:.1f} s later"


async def _restore_older_records(scene: Scene) -> str:
    """The journal does not reach back to the copy any more: the ledger alone knows what the records lack."""
    at_copy, before = await _put_back_old_records(scene, forgets_journal=True)
    await scene.until(lambda: _verdicts(scene, Ownership.RECORDS_OLD), FENCED_TIMEOUT_S, "nobody calls the records old")
    await scene.command("rebuild", "--from-ledger")
    await scene.drained()
    return f"the records went back from seq {before} to {at_copy}, and were recorded anew from the ledger"


async def _put_back_old_records(scene: Scene, *, forgets_journal: bool = False) -> tuple[int, int]:
    """Let the records be an old copy; the seq that they have then, and the one that they had.

    Where the journal forgets, it has nothing that was recorded, as after an hour of a large opening.
    """
    await scene.taken(COPIED_SHARE)
    directory = scene.places.postgres
    copy = Path(f"{directory}.old")
    with scene.unsupervised():
        at_copy = await scene.recorded_seq()
        scene.kill(Part.POSTGRES)
        await _copy(directory, copy)
    await scene.taken(COPIED_SHARE + scene.chance.uniform(0.2, 0.4))
    await scene.drained()
    with scene.unsupervised():
        before = await scene.recorded_seq()
        scene.kill(Part.POSTGRES)
        if forgets_journal:
            async with scene.ledger() as client:
                epoch: Any = await client.hget(keys.meta(scene.program), "epoch")
                await client.xtrim(keys.journal(scene.program), minid=f"{int(epoch)}-{before}", approximate=False)
        await asyncio.to_thread(shutil.rmtree, directory)
        await _copy(copy, directory)
    if before <= at_copy:
        raise Missed(f"nothing was recorded between the copy, at seq {at_copy}, and its return")
    return at_copy, before


async def _copy(source: Path, target: Path) -> None:
    await asyncio.to_thread(subprocess.run, ["cp", "-a", str(source), str(target)], check=True)  # its owner stays


def _verdicts(scene: Scene, verdict: Ownership) -> int:
    return sum(f'"{verdict}"' in line for line in scene.log_lines("ledger_ownership"))


# -- one damaged value, or a key that is gone: a comparison finds it, a repair mends it from the records ------------


async def _damage(damage: Damage, scene: Scene) -> str:
    await scene.mid_sale()
    async with scene.ledger() as client:
        note = await damage(scene, client)
    meanwhile = await scene.served_in(DAMAGED_S)
    if not meanwhile:
        raise Missed(f"{note}, and nobody got a place in {DAMAGED_S:g} s")
    (report,) = await scene.command("reconcile", code=EXIT_DRIFT)
    (repaired,) = await scene.command("reconcile", "--repair")
    if repaired["drift"] or not repaired["repaired"] or repaired["lost"]:
        raise Missed(f"the repair says {repaired}")
    await scene.drained()
    return f"{note}; {meanwhile} reservations meanwhile, found as {found_as(report['kinds'])}, repaired"


def found_as(kinds: Mapping[str, int]) -> str:
    """The differences by kind, such as `1 quota, 10 timers`; the names of the kinds are plurals."""
    return ", ".join(
        f"{count} {kind.removesuffix('s') if count == 1 else kind}" for kind, count in sorted(kinds.items())
    )


async def _flip_a_bit(scene: Scene, client: redis_asyncio.Redis) -> str:
    key = keys.reservations(scene.program)
    field = scene.chance.choice(sorted(await client.hkeys(key)))
    stored = bytearray(await _stored(client, key, field))
    at, bit = scene.chance.randrange(len(stored)), scene.chance.randrange(8)
    stored[at] ^= 1 << bit
    await client.hset(key, field, bytes(stored))
    return f"bit {bit} of byte {at} of a reservation flipped"


async def _cut_a_quota(scene: Scene, client: redis_asyncio.Redis) -> str:
    key = keys.quotas(scene.program)
    quota = scene.chance.choice(await scene.quotas_left())
    await client.hset(key, quota, (await _stored(client, key, quota))[:CUT_BYTES])
    return f"a quota cut to {CUT_BYTES} bytes"


async def _remove_timers(scene: Scene, client: redis_asyncio.Redis) -> str:
    count = await client.zcard(keys.timers(scene.program))
    await client.unlink(keys.timers(scene.program))
    return f"the key of {count} timers removed"


async def _stored(client: redis_asyncio.Redis, key: str, field: bytes | str) -> bytes:
    value: Any = await client.hget(key, field)
    if value is None:
        raise Missed(f"{key} has no {field!r}")
    return bytes(value)


# -- a journal entry that this version cannot understand, or that nobody can read -----------------------------------

# As lua/committing.lua appends an entry, with whatever its events are.
APPEND = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'chain')
local seq, time = string.format('%d', meta[2] + 1), redis.call('TIME')
local at = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local chain = redis.sha1hex(meta[3] .. ':' .. meta[1] .. ':' .. seq .. ':' .. at .. ':' .. ARGV[1])
redis.call('XADD', KEYS[2], meta[1] .. '-' .. seq, 'first', seq, 'at', at, 'chain', chain, 'events', ARGV[1])
redis.call('HSET', KEYS[1], 'seq', seq, 'chain', chain)
return seq
"""
LATER = msgpack.packb([["z", "future-kind", 1]])
UNREADABLE = b"\xc1"  # which msgpack never writes


async def _append(scene: Scene, events: bytes) -> int:
    async with scene.ledger() as client:
        return int(await client.eval(APPEND, 2, keys.meta(scene.program), keys.journal(scene.program), events))


async def _later_entry(scene: Scene) -> str:
    """An event of a later version that was here becomes a dead letter, and all else is recorded."""
    await scene.mid_sale()
    seq = await _append(scene, LATER)
    meanwhile = await scene.served_in(DAMAGED_S)
    await scene.drained()
    if not meanwhile:
        raise Missed(f"nobody got a place in {DAMAGED_S:g} s")
    (letter,) = await scene.command("dead-letters", "list")
    if letter["seq"] != seq:
        raise Missed(f"the dead letter is {letter}, not that of seq {seq}")
    settle = ("dead-letters", "settle", str(letter["id"]), "--reason", "of a version that is gone")
    await scene.command(*settle, program=False)
    scene.planted = f"{Rule.REPLAY_DIFFERS}: 1-{seq}: z: "
    return f"an event of a later version at seq {seq} became a dead letter; {meanwhile} reservations meanwhile"


async def _unreadable_entry(scene: Scene) -> str:
    """Nothing behind it can be recorded: the program is fenced, and rebuilt from the records by one command."""
    await scene.mid_sale()
    before = _verdicts(scene, Ownership.DIVERGED)
    seq = await _append(scene, UNREADABLE)
    await scene.until(
        lambda: _verdicts(scene, Ownership.DIVERGED) > before, FENCED_TIMEOUT_S, "nobody fenced the program"
    )
    scene.lost_until_ms = time.time() * 1000  # whatever is accepted later is so by the ledger that is made now
    (report,) = await scene.command("rebuild", "--discard", "--discard-confirmed")
    if not report["rebuilt"]:
        raise Missed(f"the rebuild says {report}")
    return f"an entry at seq {seq} that nobody can read: fenced, rebuilt without {report['lost']} changes behind it"


# -- a program is removed and imported again: what begins anew is recorded like any other ---------------------------


async def _remove_program(scene: Scene) -> str:
    before = await scene.recorded_seq()
    await scene.command("program", "remove", scene.program, "--close-quotas", "--yes", program=False)
    await scene.until(lambda: not scene.service.quotas(scene.program), GONE_TIMEOUT_S, "the fronts offer it still")
    await asyncio.to_thread(scene.service.import_program, scene.program, quotas=QUOTAS, places=scene.capacity // QUOTAS)
    if not before:
        raise Missed("nothing was recorded before it was removed")
    return f"removed when {before} changes were recorded, and imported again"


FAULTS = (
    Fault(name="flushall", strike=_flush, places=600, people=750, recorded_only=True),
    Fault(name="old-copy", strike=_restore_old_ledger, places=600, people=750, recorded_only=True),
    *(
        Fault(name=name, strike=strike, places=900, people=1100, at_once=30, journal_gap=name == "older-records")
        for name, strike in (
            ("old-records", _restore_old_records),
            ("older-records", _restore_older_records),
            ("damaged-reservation", partial(_damage, _flip_a_bit)),
            ("damaged-quota", partial(_damage, _cut_a_quota)),
            ("removed-timers", partial(_damage, _remove_timers)),
            ("later-entry", _later_entry),
        )
    ),
    Fault(name="unreadable-entry", strike=_unreadable_entry, places=600, people=750, recorded_only=True),
    Fault(name="program-removed", strike=_remove_program, alone=True),
)
