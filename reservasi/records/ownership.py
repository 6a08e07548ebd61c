"""Under which epochs each ledger was owned, and the facts in which the hosts of a deployment must agree."""

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
REMOVED_RUN = "removed"  # of a removal's epoch, in place of a server's run id: no server has it
BIND = "INSERT INTO deployment (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"
BOUND = "SELECT value FROM deployment WHERE name = $1"


class EpochRow(msgspec.Struct, frozen=True, kw_only=True):
    """One lineage of a program's ledger."""

    epoch: int
    base_seq: int  # the last seq it has in common with the epoch before it
    run_id: str  # of the server's run that was owned


class OwnedRun(EpochRow, frozen=True, kw_only=True):
    """The same with its time; of what was recorded anew from a ledger the run is not known any more ("")."""

    at_ms: int  # by PostgreSQL's clock


async def load_runs(connection: Connection, program: str) -> list[OwnedRun]:
    """All epochs of a program with the moments at which they were owned, ascending."""
    return [OwnedRun(**row) for row in await connection.fetch(RUNS, program)]


async def load_epochs(connection: Connection, program: str) -> list[EpochRow]:
    """Every lineage that the program's ledger was owned under, ascending."""
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
    """Add an epoch, unless it is not the latest, more was recorded than it has, or the ledger is being rebuilt.

    `owned_under` is the epoch that the run is owned under as it claims another. What was claimed for it in between was
    never taken up, since a run's epoch only grows; it branched off nowhere, and must not bar what the run accepted.
    Who rebuilds the ledger is `alone`. After `RecordsUnavailable` nobody knows whether the epoch was added: ask for the
    epochs, or claim a later one.
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
    """Say of epochs between the two that they were never taken up; how many they were.

    The ledger owned under the later one has entries of the earlier one up to `last_seq`. A run's epoch only grows, and
    it is owned only at the very seq at which its epoch branches off: so what was claimed for the same run at an earlier
    seq was taken up neither before these entries nor after them.
    """
    return int((await connection.execute(LIFT_BAR, program, epoch, owned_epoch, last_seq)).rpartition(" ")[2])


async def branch_off(connection: Connection, program: str, epoch: int, recorded: Position, run_id: str) -> bool:
    """Add an epoch that goes on from the recorded position, and move the position into it.

    From then on nobody can record a change that an older lineage accepted after it. False when the records are
    elsewhere by now, or the epoch is not new.
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
    """Be the only one who adds an epoch until the transaction ends; the recorded seq, which stays as long."""
    # One at a time: the statement does not see the later epoch of a claim that is not committed yet.
    await connection.execute(TAKE_TURN, advisory_key(f"epochs {program}"))
    # Whoever records the lineage before it is waited for: what they record beyond the branch would be in neither.
    recorded_seq: int | None = await connection.fetchval(RECORDED_SEQ, program)
    return recorded_seq


async def _add_epoch(connection: Connection, program: str, epoch: int, base_seq: int, run_id: str) -> bool:
    recorded_seq = await take_turn(connection, program)
    if recorded_seq is not None and recorded_seq > base_seq:
        return False
    return (await connection.execute(CLAIM_EPOCH, program, epoch, base_seq, run_id)).endswith(" 1")


async def bind(connection: Connection, name: str, value: str) -> str:
    """Hold the deployment to a fact: stores it when none of that name is, and returns the one that is stored.

    A caller who gets another value than their own belongs to another deployment.
    """
    await connection.execute(BIND, name, value)
    return str(await connection.fetchval(BOUND, name))  # what is bound never changes, so two statements are enough


async def bound(connection: Connection, name: str) -> str | None:
    """The fact that is stored under that name; None when there is none."""
    value: str | None = await connection.fetchval(BOUND, name)
    return value
