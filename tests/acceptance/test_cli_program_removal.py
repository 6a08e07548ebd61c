"""`reservasi program remove`: its refusals, its result, and a later import that is independent of the former
program.
"""

import asyncio
import datetime as dt
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import pytest
from typer.testing import CliRunner

from reservasi.bootstrap.commands import Operations, open_operations, open_program, open_rebuilder, open_remover
from reservasi.cli.invocation import run
from reservasi.cli.main import app
from reservasi.errors import ReservasiError
from reservasi.ledger import keys
from reservasi.ledger.loading import Loader
from reservasi.model import Cancel, SetQuota
from reservasi.settings import load
from reservasi.worker.ledger_owner import Ownership, compare_ledger
from tests.acceptance.imported import DATES, DAY, NEXT_DAY, Deployment

T = TypeVar("T")
KEEP = "--yes"


def within(work: Callable[[Operations], Awaitable[T]]) -> T:
    async def opened() -> T:
        async with open_operations(load()) as operations:
            return await work(operations)

    return run(opened())


def remove(deployment: Deployment, *words: str, code: int = 0) -> Any:
    done = deployment.call("program", "remove", deployment.program, KEEP, *words, "--json")
    assert done.exit_code == code, f"{done.output}{done.exception}"
    return json.loads(done.stdout)


def refused(deployment: Deployment, *words: str) -> str:
    done = deployment.call("program", "remove", deployment.program, KEEP, *words)
    assert done.exit_code == 1, done.output
    return f"{done.output}{done.exception}"


def keys_left(deployment: Deployment) -> list[bytes]:
    async def look(operations: Operations) -> list[bytes]:
        pattern = f"{{{deployment.program}}}:*"
        return [key async for key in operations.client.scan_iter(match=pattern, count=1000)]

    return within(look)


def end(deployment: Deployment, reservation: str) -> None:
    async def cancel(operations: Operations) -> None:
        async with open_program(operations, deployment.program) as group:
            await group.submit(Cancel(reservation_id=reservation, by_staff=True))

    within(cancel)


def rows(query: str) -> list[tuple[Any, ...]]:
    async def read(_: Operations) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(load().postgres_dsn)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    return within(read)


@pytest.fixture(autouse=True)
def nobody_else_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """No fronts and workers are to be waited for."""
    monkeypatch.setattr("reservasi.worker.removal.LEAVE_MARGIN_S", 0.0)
    monkeypatch.setenv("RESERVASI_CATALOGUE_REFRESH_MS", "100")


@pytest.mark.parametrize("confirmed", [True, False])
def test_it_is_refused_while_people_are_booked(deployment: Deployment, confirmed: bool) -> None:
    reservation = deployment.reserve(deployment.quota(), confirm=confirmed)
    output = refused(deployment, "--close-quotas")
    assert f"{int(not confirmed)} are held and {int(confirmed)} confirmed" in output
    assert deployment.state(reservation) is not None, "the ledger sells on"
    assert deployment.stored_offices()


def test_it_is_refused_while_quotas_can_be_claimed(deployment: Deployment) -> None:
    output = refused(deployment)
    assert "16 quotas can be claimed now or later" in output
    assert "--close-quotas" in output
    assert len(deployment.open_windows()) == 4


def test_it_is_refused_while_a_waiting_room_is_live(deployment: Deployment) -> None:
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).replace(second=0, microsecond=0)
    deployment.json("quota", "set", deployment.quota(), "--opens-at", later.isoformat())
    words = ("opening", "create", deployment.program, "--opens-at", later.isoformat(), "--joins-from", "now")
    opening = deployment.json(*words)["id"]
    assert f"the waiting room of {opening} is live" in refused(deployment, "--close-quotas")
    deployment.json("opening", "cancel", opening, "--reason", "batal")
    assert remove(deployment, "--close-quotas")["openings"] == 1


def test_an_opening_whose_quotas_have_all_closed_is_over(deployment: Deployment) -> None:
    opens_at = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=3)
    quota = deployment.quota()
    deployment.json("quota", "set", quota, "--opens-at", opens_at.isoformat())
    words = ("opening", "create", deployment.program, "--opens-at", opens_at.isoformat(), "--joins-from", "now")
    opening = deployment.json(*words)["id"]
    covered = [each["id"] for each in deployment.json("quota", "show", deployment.program) if each["opens_at"]]
    closing_ms = int(opens_at.timestamp() * 1000) + 500

    async def close(operations: Operations) -> None:
        async with open_program(operations, deployment.program) as group:
            for each in covered:
                await group.submit(SetQuota(quota=each, closes_at_ms=closing_ms))

    within(close)
    assert f"the waiting room of {opening} is live" in refused(deployment, "--close-quotas")
    time.sleep(max(0.0, closing_ms / 1000 - time.time()) + 0.1)
    assert remove(deployment, "--close-quotas")["openings"] == 1


def test_who_types_another_name_removes_nothing(deployment: Deployment) -> None:
    words = ("program", "remove", deployment.program, "--close-quotas")
    done = CliRunner().invoke(app, words, input="another\n")
    assert (done.exit_code, "nothing was removed" in done.output) == (1, True)
    assert len(deployment.open_windows()) == 4
    assert deployment.json(*words, code=2)["error"].startswith("--json needs --yes")
    done = CliRunner().invoke(app, words, input=f"{deployment.program}\n")
    assert done.exit_code == 0, done.output
    assert "Fronts refuse claims for it" in done.output


def test_one_that_does_not_exist_is_named(deployment: Deployment) -> None:
    done = deployment.call("program", "remove", "no-such", KEEP)
    assert (done.exit_code, "no-such" in f"{done.output}{done.exception}") == (1, True)


def test_the_ledger_goes_and_what_the_law_wants_stays(deployment: Deployment) -> None:
    ended = deployment.reserve(deployment.quota())
    end(deployment, ended)
    done = remove(deployment, "--close-quotas", "--reason", "kantor ditutup")
    assert (done["removed"], done["quotas"], done["kept_bookings"]) == (True, 16, 1)
    assert done["ledger_keys_deleted"] > 0
    assert keys_left(deployment) == []
    assert "no program" in str(deployment.call("quota", "show", deployment.program).exception)
    assert rows("SELECT count(*) FROM bookings WHERE state = 'cancelled'") == [(1,)]
    # 16 quotas, a claim, a confirmation and a cancellation, and the closings
    assert rows("SELECT max(last_seq), bool_and(program IS NOT NULL) FROM journal") == [(35, True)]
    assert rows("SELECT reason, after->>'program' FROM audit ORDER BY epoch DESC, seq DESC LIMIT 1") == [
        ("kantor ditutup", "removed")
    ]
    newest = deployment.json("audit", deployment.program)[0]
    assert (newest["reason"], newest["after"]["program"]) == ("kantor ditutup", "removed")
    again = remove(deployment)
    assert (again["removed"], again["ledger_keys_deleted"]) == (False, 0)


def test_one_that_is_imported_again_is_recorded_behind_its_former_life(deployment: Deployment) -> None:
    for _ in range(2):
        ended = deployment.reserve(deployment.quota())
        end(deployment, ended)
        remove(deployment, "--close-quotas")
        assert deployment.imports()["created"] == 16
        reservation = deployment.reserve(deployment.quota())
        assert reservation != ended
        within(lambda operations: drained(operations, deployment.program))
        deployment.json("reconcile", "--program", deployment.program)
        assert rows(f"SELECT count(*) FROM bookings WHERE reservation_id = '{reservation}'") == [(1,)]
        entries = rows("SELECT epoch, first_seq, last_seq FROM journal ORDER BY epoch, first_seq")
        for (epoch, _, last), (later, first, _) in itertools.pairwise(entries):
            assert later >= epoch
            assert first == last + 1
        epochs = [row[0] for row in rows("SELECT epoch FROM epochs ORDER BY epoch")]
        assert len(set(epochs)) == len(epochs)
        end(deployment, reservation)


async def drained(operations: Operations, program: str) -> None:
    """What a worker would do."""
    async with open_remover(operations, program) as remover:
        await remover._record_all(await remover._clear_tip())


@pytest.mark.parametrize("step", ["fence", "record", "transaction", "keys"])
def test_one_that_is_interrupted_anywhere_can_be_repeated(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    async def die(*_: Any, **__: Any) -> None:
        raise Killed

    target = {
        "fence": "reservasi.worker.removal.Loader.fence",
        "record": "reservasi.worker.removal.drain",
        "transaction": "reservasi.records.Records.remove_program",
        "keys": "reservasi.worker.removal.Remover._delete_keys",
    }[step]
    remover_arguments = {"actor": "cli:test", "reason": ""}

    async def interrupted(operations: Operations) -> None:
        async with open_remover(operations, deployment.program) as remover:
            with pytest.raises(Killed):
                await remover.run(**remover_arguments)

    deployment.json("quota", "close", "--program", deployment.program, "--date", str(DAY))
    deployment.json("quota", "close", "--program", deployment.program, "--date", str(NEXT_DAY))
    with monkeypatch.context() as patched:
        patched.setattr(target, die)
        within(interrupted)
    assert within(lambda operations: operations.records.is_removed(deployment.program)) is (step == "keys")
    if step == "keys":
        assert keys_left(deployment)
        with pytest.raises(ReservasiError, match="was removed"):  # no worker makes it again meanwhile
            within(lambda operations: rebuilt(operations, deployment.program))
    done = remove(deployment)
    assert done["removed"] is (step != "keys")
    assert keys_left(deployment) == []
    assert deployment.imports()["created"] == 16


async def rebuilt(operations: Operations, program: str) -> None:
    async with open_rebuilder(operations, program) as rebuilder:
        await rebuilder.run()


def test_an_import_after_an_interrupted_removal_meets_no_old_key(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: Any) -> int:
        return 0

    with monkeypatch.context() as patched:
        patched.setattr("reservasi.worker.removal.Remover._delete_keys", nothing)
        remove(deployment, "--close-quotas")
    assert keys_left(deployment)
    assert deployment.imports()["created"] == 16
    assert len(deployment.open_windows()) == 4


def test_a_claim_that_comes_in_between_is_kept(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody opens a quota again, and somebody books, after the first look at what is in the way."""
    booked: list[str] = []
    fence = Loader.fence

    async def late(self: Loader) -> Any:
        if not booked:
            booked.append(await asyncio.to_thread(reopened_and_booked))
        return await fence(self)

    def reopened_and_booked() -> str:
        deployment.json("quota", "set", deployment.quota(), "--reopen")
        return deployment.reserve(deployment.quota())

    monkeypatch.setattr(Loader, "fence", late)
    output = refused(deployment, "--close-quotas")
    assert "1 confirmed" in output
    (reservation,) = booked
    assert deployment.state(reservation) is not None

    async def owned(operations: Operations) -> Ownership:
        connection, journal = (
            operations.ledgers.connection(deployment.program),
            operations.ledgers.journal(deployment.program),
        )
        comparison = await compare_ledger(deployment.program, connection, journal, operations.records)
        await connection.drop()
        return comparison.verdict

    assert within(owned) is Ownership.OWNED


@pytest.mark.parametrize("spoilt", ["emptied", "misstated"])
def test_it_is_refused_while_the_ledger_does_not_know_where_it_is(deployment: Deployment, spoilt: str) -> None:
    """Drained to where such a ledger says it is, the records would lack the booking, and nothing were in the way."""
    within(lambda operations: drained(operations, deployment.program))
    reservation = deployment.reserve(deployment.quota())
    deployment.json("quota", "close", "--program", deployment.program, "--date", str(DAY))
    deployment.json("quota", "close", "--program", deployment.program, "--date", str(NEXT_DAY))

    async def spoil(operations: Operations) -> None:
        if spoilt == "emptied":
            await drained(operations, deployment.program)
            await operations.client.delete(keys.meta(deployment.program), keys.journal(deployment.program))
        else:
            place: dict[Any, Any] = {"epoch": 0, "seq": 0, "chain": ""}  # beside `at`, which is whole
            await operations.client.hset(keys.meta(deployment.program), mapping=place)

    within(spoil)
    output = refused(deployment)
    assert "rebuild it first" in output
    within(lambda operations: rebuilt(operations, deployment.program))
    assert deployment.state(reservation) is not None
    assert "1 confirmed" in refused(deployment)


def test_a_ledger_that_is_lost_just_before_the_fence_is_refused_as_well(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.json("quota", "close", "--program", deployment.program, "--date", str(DAY))
    deployment.json("quota", "close", "--program", deployment.program, "--date", str(NEXT_DAY))
    fence = Loader.fence

    async def lost(self: Loader) -> Any:
        fenced = await fence(self)
        await asyncio.to_thread(within, empty)
        return fenced

    async def empty(operations: Operations) -> None:
        await operations.client.delete(keys.meta(deployment.program))

    with monkeypatch.context() as patched:
        patched.setattr("reservasi.cli.removing._refuse", nothing_in_the_way)
        patched.setattr(Loader, "fence", lost)
        assert "rebuild it first" in refused(deployment)
    assert not within(lambda operations: operations.records.is_removed(deployment.program))
    within(lambda operations: rebuilt(operations, deployment.program))
    assert remove(deployment)["removed"]


async def nothing_in_the_way(*_: Any, **__: Any) -> None:
    """As it was when somebody looked."""


def test_places_on_their_way_back_return_to_nothing_of_the_new_life(deployment: Deployment) -> None:
    text = deployment.file.read_text()
    for bound in ("min", "max"):
        text = text.replace(f"return_delay_{bound}_s = 0", f"return_delay_{bound}_s = 3600")
    deployment.file.write_text(text)
    deployment.imports(*DATES, "--apply")
    end(deployment, deployment.reserve(deployment.quota()))
    assert deployment.show(deployment.quota())["remaining"] == 9
    remove(deployment, "--close-quotas")
    deployment.imports()
    assert deployment.show(deployment.quota())["remaining"] == 10
    within(lambda operations: drained(operations, deployment.program))
    deployment.json("reconcile", "--program", deployment.program)
    deployment.json("rebuild", "--program", deployment.program, "--force")
    assert deployment.show(deployment.quota())["remaining"] == 10
