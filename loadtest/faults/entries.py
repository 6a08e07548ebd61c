"""The journal has an entry that this version cannot understand, or cannot read at all, while everybody claims.

The first is of a later version that was here: its event becomes a dead letter and all else is recorded. The second ends
what can be recorded: the program is fenced, and rebuilt from the records by one command.
"""

import asyncio
import time

import msgpack

from loadtest.checker.rules import Rule
from loadtest.faults.commands import command, plain_command
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.outages import drained
from loadtest.stage.service import wait_for
from reservasi.ledger import keys
from reservasi.worker.ledger_owner import Ownership

GOING_ON_S = 2.0
FENCED_TIMEOUT_S = 20.0
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


async def _of_a_later_version(scene: Scene) -> str:
    await scene.mid_sale()
    seq = await _append(scene, LATER)
    before = scene.served
    await asyncio.sleep(GOING_ON_S)
    await drained(scene)
    if scene.served == before:
        raise Missed(f"nobody got a place in {GOING_ON_S:g} s")
    (letter,) = await command(scene, "dead-letters", "list")
    if letter["seq"] != seq:
        raise Missed(f"the dead letter is {letter}, not that of seq {seq}")
    await plain_command(scene, "dead-letters", "settle", str(letter["id"]), "--reason", "of a version that is gone")
    scene.planted = f"{Rule.REPLAY_DIFFERS}: 1-{seq}: z: "
    meanwhile = scene.served - before
    return f"an event of a later version at seq {seq} became a dead letter; {meanwhile} reservations meanwhile"


async def _unreadable(scene: Scene) -> str:
    await scene.mid_sale()
    before = len(scene.owners_said())
    seq = await _append(scene, UNREADABLE)

    def is_fenced() -> bool | None:
        return True if any(f'"{Ownership.DIVERGED}"' in line for line in scene.owners_said()[before:]) else None

    await asyncio.to_thread(wait_for, is_fenced, FENCED_TIMEOUT_S, "nobody fenced the program")
    scene.lost_until_ms = time.time() * 1000  # whatever is accepted later is so by the ledger that is made now
    (report,) = await command(scene, "rebuild", "--discard", "--discard-confirmed")
    if not report["rebuilt"]:
        raise Missed(f"the rebuild says {report}")
    return f"an entry at seq {seq} that nobody can read: fenced, rebuilt without {report['lost']} changes behind it"


FAULTS = (
    Fault(name="later-entry", strike=_of_a_later_version, places=900, people=1100, at_once=30),
    Fault(name="unreadable-entry", strike=_unreadable, places=600, people=750, recorded_only=True),
)
