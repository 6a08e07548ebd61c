"""Epochs under which each ledger was owned, and facts on which all hosts of a deployment must agree."""

import msgspec

from reservasi.model import Position
from reservasi.records.pool import Connection, advisory_key

EPOCHS = "SELECT epoch, base_seq, run_id FROM epochs WHERE program = $1 ORDER BY epoch"
RUNS = """
SELECT epoch, base_seq, run_id, (extract(epoch FROM at) * 1000)::bigint AS at_ms FROM epochs
WHERE program = $1 ORDER BY epoch
"""
TAKE_TURN = "SELECT pg_advisory_xact_lock($1)"
CLAIM_EPOCH = """
INSERT INTO epochs (program, epoch, base_seq, run_id)
SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT FROM epochs WHERE program = $1 AND epoch >= $2)
ON CONFLICT (program, epoch) DO NOTHING
"""
NEVER_TAKEN_UP = """
UPDATE epochs SET base_seq = $4 WHERE program = $1 AND epoch > $2 AND run_id = $3 AND base_seq < $4
"""
LIFT_BAR = """
UPDATE epochs AS unused SET base_seq = $4
FROM epochs AS taken_up
WHERE taken_up.program = $1 AND taken_up.epoch = $2 AND unused.program = $1 AND unused.run_id = taken_up.run_id
  AND unused.epoch > $2 AND unused.epoch < $3 AND unused.base_seq < $4
"""
RECORDED_SEQ = "SELECT seq FROM positions WHERE program = $1 FOR UPDATE"
LINEAGE_FROM = """
UPDATE positions SET epoch = $2, updated_at = now() WHERE program = $1 AND epoch = $3 AND seq = $4 AND chain = $5
"""
NOBODY_REBUILDS = "SELECT pg_try_advisory_xact_lock_shared($1)"
REMOVED_RUN = "removed"  # stored as the run id of a removal's epoch; no server has it
BIND = "INSERT INTO deployment (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"
BOUND = "SELECT value FROM deployment WHERE name = $1"


class EpochRow(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch of a program's ledger."""

    epoch: int
    base_seq: int  # the last seq that it shares with the epoch before it
    run_id: str  # of the server run that was owned


class OwnedRun(EpochRow, frozen=True, kw_only=True):
    """An epoch with its time. The run id is "" if the epoch was restored from a ledger."""

    at_ms: int  # by PostgreSQL's clock


async def load_runs(connection: Connection, program: str) -> list[OwnedRun]:
    """All epochs of a program with the times at which they were claimed, ascending."""
    return [OwnedRun(**row) for row in await connection.fetch(RUNS, program)]


async def load_epochs(connection: Connection, program: str) -> list[EpochRow]:
    """All epochs of a program, ascending."""
    return [EpochRow(**row) for row in await connection.fetch(EPOCHS, program)]


async def claim_epoch(
    connection: Connection,
    program: str,
    epoch: int,
    base_seq: int,
    run_id: str,
    *,
    owned_under: int | None = None,
    alone: bool = False,
) -> bool:
    """Add an epoch, unless a later one exists, more is recorded than it has, or the ledger is being rebuilt.

    `owned_under` is the epoch under which the run is owned now. Epochs claimed for the same run in between were never
    used, since a run's epoch only grows; they are corrected so that they do not exclude what the run accepted. The
    process that rebuilds the ledger calls with `alone`. After `RecordsUnavailable` it is unknown whether the epoch was
    added: read the epochs, or claim a later one.
    """
    async with connection.transaction():
        if not alone and not await connection.fetchval(NOBODY_REBUILDS, advisory_key(f"rebuild {program}")):
            return False
        if not await _add_epoch(connection, program, epoch, base_seq, run_id):
            return False
        if owned_under is not None:
            await connection.execute(NEVER_TAKEN_UP, program, owned_under, run_id, base_seq)
        return True


async def lift_bar(connection: Connection, program: str, epoch: int, owned_epoch: int, last_seq: int) -> int:
    """Mark the epochs between the two as never used; returns their number.

    The ledger that is owned under the later epoch has entries of the earlier one up to `last_seq`. A run's epoch only
    grows, and it is owned exactly at the seq at which its epoch branches off. So an epoch that was claimed for the same
    run at an earlier seq was used neither before these entries nor after them.
    """
    return int((await connection.execute(LIFT_BAR, program, epoch, owned_epoch, last_seq)).rpartition(" ")[2])


async def branch_off(connection: Connection, program: str, epoch: int, recorded: Position, run_id: str) -> bool:
    """Add an epoch that begins at the recorded position, and move the position into it.

    From then on, changes that an older epoch accepted after that position cannot be recorded. Returns False if the
    recorded position is another one, or the epoch is not new.
    """
    moved, done = connection.transaction(), False
    await moved.start()
    try:
        added = await _add_epoch(connection, program, epoch, recorded.seq, run_id)
        at = (recorded.epoch, recorded.seq, recorded.chain)
        if recorded.seq == 0 and added:  # there may be no position to move yet
            done = await connection.fetchval(RECORDED_SEQ, program) is None
        if added and not done:
            done = (await connection.execute(LINEAGE_FROM, program, epoch, *at)).endswith(" 1")
    except BaseException:
        await moved.rollback()
        raise
    await (moved.commit() if done else moved.rollback())
    return done


async def take_turn(connection: Connection, program: str) -> int | None:
    """Lock the program's epochs until the transaction ends; returns the recorded seq, which is locked as well."""
    # A lock is needed: the statement does not see a later epoch of a transaction that is not committed yet.
    await connection.execute(TAKE_TURN, advisory_key(f"epochs {program}"))
    # Waits for a recorder that is writing entries of the previous epoch: entries beyond the branch would belong to
    # neither.
    recorded_seq: int | None = await connection.fetchval(RECORDED_SEQ, program)
    return recorded_seq


async def _add_epoch(connection: Connection, program: str, epoch: int, base_seq: int, run_id: str) -> bool:
    recorded_seq = await take_turn(connection, program)
    if recorded_seq is not None and recorded_seq > base_seq:
        return False
    return (await connection.execute(CLAIM_EPOCH, program, epoch, base_seq, run_id)).endswith(" 1")


async def bind(connection: Connection, name: str, value: str) -> str:
    """Store a fact unless one of that name exists, and return the stored one.

    A caller whose value differs from the returned one belongs to another deployment.
    """
    await connection.execute(BIND, name, value)
    return str(await connection.fetchval(BOUND, name))  # a stored fact never changes, so that two statements are enough


async def bound(connection: Connection, name: str) -> str | None:
    """The fact stored under that name, or None."""
    value: str | None = await connection.fetchval(BOUND, name)
    return value
