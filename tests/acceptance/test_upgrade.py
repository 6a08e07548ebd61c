"""An upgrade from the previous release, its rollback, and a second upgrade, on the same stores."""

import asyncio
import datetime as dt
import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from loadtest.checker.check import Finding, check
from loadtest.checker.history import Exchange
from loadtest.crowd.crowd import Crowd
from loadtest.crowd.scenario import Call, Plan, Result, claim_call, exchange, managed_call, read_answer
from loadtest.stage.people import person
from loadtest.stage.program import program_file
from reservasi.bootstrap.commands import open_operations, open_program
from reservasi.ledger import keys
from reservasi.model import Answer, Confirm, Outcome, Retire, RetireOpening, SetQuota
from reservasi.records.revision import newest_revision
from reservasi.settings import Settings
from tests.ledgers import claim, opening_set, quota_set
from tests.releases import FORMER, FORMER_SCHEMA, PRESENT, ROOT, Installation, Release, has_former, take_former

pytestmark = [
    pytest.mark.timeout(500),
    pytest.mark.skipif(not has_former(), reason=f"the history here is shallow: it lacks {FORMER}, the former release"),
]
QUOTAS, PLACES = 20, 20  # of two offices; the second one opens later, with a waiting room
PEOPLE = 30  # of each crowd
CROWD_TIMEOUT_S = 60
DEPLOYMENT_PAGE = ROOT / "docs" / "operations" / "deployment.md"
LONG_AGO_MS = 1_578_279_600_000  # 2020-01-06T10:00+07:00
WELL = {Result.CONFIRMED, Result.CANCELLED, Result.ABANDONED, Result.WITHOUT}


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return take_former(tmp_path_factory.mktemp("former") / "code")


class Office:
    """One program on an installation, whoever runs it; what its people were told is kept."""

    def __init__(self, installation: Installation, program: str) -> None:
        self.installation = installation
        self.program = program
        self.history: list[Exchange] = []
        self._first = 1000  # number of the next crowd's first person
        self._file = installation.directory / "program.toml"
        day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2)
        self._dates = ("--from", day.isoformat(), "--to", day.isoformat())
        self._file.write_text(program_file(QUOTAS, PLACES, day, 7200, program))
        self.room = f"{program}-room"
        self.quota = f"{program}.kantor-001.baru.{day:%Y%m%d}.0800.online"

    def import_by(self, release: Release) -> None:
        self.installation.ok(release, "program", "import", str(self._file), *self._dates)

    def crowd(self) -> None:
        """People come, and each gets a definite answer that the rules know."""
        plan = Plan(program=self.program, people=PEOPLE, first=self._first, think_s_max=0.1)
        self._first += PEOPLE
        crowd = Crowd(self.installation.url, plan, at_once=20)
        asyncio.run(asyncio.wait_for(crowd.run(), CROWD_TIMEOUT_S))
        self.history += crowd.history
        assert set(crowd.results) <= WELL, crowd.results
        assert crowd.results[Result.CONFIRMED] > PEOPLE / 2

    def ask(self, number: int, call: Call) -> tuple[int, dict[str, Any]]:
        """One request of one person."""
        sent_ms = time.time() * 1000
        status, headers, body = self._send(call)
        answered = read_answer(status, headers, body)
        self.history.append(exchange(number, call, answered, sent_ms))
        return status, answered.body

    def _send(self, call: Call) -> tuple[int, Any, bytes]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = self.installation.url + call.path
        request = urllib.request.Request(url, call.body or None, call.headers, method=call.method)
        try:
            with opener.open(request, timeout=30) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.headers, refused.read()

    def claim(self, number: int) -> tuple[int, dict[str, Any]]:
        """The same claim whenever it is asked for the same person."""
        return self.ask(number, claim_call([person(number)], self.quota, f"key-{number}"))

    def confirm(self, number: int, held: dict[str, Any]) -> dict[str, Any]:
        status, body = self.ask(number, managed_call("confirm", "POST", held, "/confirm", {}))
        assert status == 200, body
        return body

    def booking_code(self, number: int, held: dict[str, Any]) -> str:
        status, body = self.ask(number, managed_call("show", "GET", held))
        assert (status, body["status"]) == (200, "confirmed")
        code: str = body["booking_code"]
        return code

    def join(self, number: int) -> dict[str, Any]:
        """Whoever joins an opening again gets the same ticket."""
        one = person(number)
        body = json.dumps({"nik": one.nik, "birth_date": one.birth_date.isoformat()}).encode()
        headers = {"Content-Type": "application/json"}
        status, ticket = self.ask(
            number,
            Call(name="join", method="POST", path=f"/v1/openings/{self.room}/tickets", headers=headers, body=body),
        )
        assert status == 201, ticket
        return ticket

    def drift(self, release: Release) -> list[dict[str, Any]]:
        done = self.installation.command(release, "reconcile", "--program", self.program)
        (report,) = json.loads(done.stdout)
        drift: list[dict[str, Any]] = report["drift"]
        return drift

    def finding(self) -> Finding:
        """What the checker finds in both stores and in everything that people were told."""
        redis_url, postgres_dsn = self.installation.redis_url, self.installation.postgres_dsn
        calls = [each for each in self.history if each.call != "join"]
        (finding,) = asyncio.run(check(redis_url, postgres_dsn, calls, [self.program]))
        return finding

    def position(self) -> tuple[Any, ...]:
        """Where the ledger is, and who owns it."""

        async def work() -> tuple[Any, ...]:
            async with open_operations(self.settings) as operations:
                fields = await operations.client.hmget(keys.meta(self.program), "epoch", "seq", "chain", "run_id")
                return tuple(fields)

        return asyncio.run(work())

    @property
    def settings(self) -> Settings:
        return Settings(
            data_dir=self.installation.directory,
            redis_url=self.installation.redis_url,
            postgres_dsn=self.installation.postgres_dsn,
        )

    def use_what_is_new(self) -> str:
        """Everything that the former release did not know: actors, moved and retired openings, retired quotas, keys.

        Returns a retired quota, in which somebody had been.
        """
        ok = self.installation.ok
        ok(PRESENT, "quota", "set", self.quota, "--capacity", str(PLACES + 5), "--reason", "more counters")
        later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=6)).isoformat()
        ok(PRESENT, "opening", "move", self.room, "--opens-at", later, "--reason", "banjir", "--reason-en", "a flood")
        ok(PRESENT, "staff", "add", "counter-1", "--scope", "quotas", "--program", self.program)

        async def work() -> str:
            async with open_operations(self.settings) as operations, open_program(operations, self.program) as group:

                async def accepted(outcome: Outcome, command: Any) -> Answer:
                    answer = await group.submit(command)
                    assert answer.outcome is outcome, answer
                    return answer

                over = f"{self.program}.kantor-001.baru.20200106.0900.online"
                past = quota_set(over, date="2020-01-06", start="09:00", end="10:00", office="kantor-001")
                visit = claim(quota=over)
                await accepted(Outcome.QUOTA_SET, past)
                await accepted(Outcome.HELD, visit)
                await accepted(Outcome.CONFIRMED, Confirm(reservation_id=visit.reservation_id))
                await accepted(Outcome.QUOTA_SET, SetQuota(quota=over, closed=True))
                ended = Retire(quota=over, ends_at_ms=LONG_AGO_MS, reservations=(visit.reservation_id,))
                await accepted(Outcome.RETIRED, ended)
                opening = f"{self.program}-past"
                await accepted(Outcome.OPENING_SET, opening_set(opening, opens_at_ms=1000, ends_at_ms=2000))
                await accepted(Outcome.RETIRED, RetireOpening(opening=opening))
                return over

        return asyncio.run(work())

    def change_records(self, revision: str) -> None:
        """What the page for operators tells them to do for that revision."""
        page = DEPLOYMENT_PAGE.read_text()
        (statements,) = re.findall(rf'SQL="(UPDATE alembic_version SET version_num = \'{revision}\'; [^"]+)"', page)

        async def work() -> None:
            connection = await asyncpg.connect(self.installation.postgres_dsn)
            try:
                await connection.execute(statements)
            finally:
                await connection.close()

        asyncio.run(work())


@pytest.fixture
def database(empty_database: str) -> str:
    """These tests bring the schema themselves."""
    return empty_database


@pytest.fixture
def office(former: Release, valkey_url: str, database: str, data_dir: Path, program: str) -> Office:
    """Sold from by the former release, which has stopped."""
    # Only this test retires what is long over.
    installation = Installation(data_dir, valkey_url, database, RESERVASI_RETIRE_QUOTAS_AFTER_H="8760")
    opened = Office(installation, program)
    installation.ok(former, "db", "upgrade")
    opened.import_by(former)
    return opened


def test_an_upgrade_and_its_rollback_lose_nothing_and_sell_nothing_twice(former: Release, office: Office) -> None:
    installation = office.installation
    with installation.running(former):
        opens_at = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=5)).isoformat()
        created = ("opening", "create", office.program, "--id", office.room, "--office", "kantor-002")
        when = ("--opens-at", opens_at, "--joins-from", "now")
        installation.ok(former, *created, *when, "--no-proof-of-work")
        office.crowd()
        held_before, kept_before = office.claim(1)[1], office.claim(2)[1]
        code_before = office.confirm(2, kept_before)["booking_code"]
        ticket_before = office.join(3)

    # The upgrade: nothing is forgotten, whichever release a promise is of.
    installation.ok(PRESENT, "db", "upgrade")
    with installation.running(PRESENT):
        assert office.drift(PRESENT) == []
        assert office.claim(1)[1] == held_before
        assert office.booking_code(2, kept_before) == code_before
        assert office.join(3)["ticket_id"] == ticket_before["ticket_id"]
        office.crowd()
        kept_after = office.claim(4)[1]
        code_after = office.confirm(4, kept_after)["booking_code"]
        retired = office.use_what_is_new()
        assert office.drift(PRESENT) == []
        assert office.finding().violations == ()

    # The former release on it, as it is: it refuses to sell, says why, and changes nothing.
    before = office.position()
    with installation.running(former, ready=False):
        result = installation.command(former, "quota", "show", office.program)
        assert result.exit_code == 1
        assert "fenced: stored in another form" in result.output
        assert "only the version that wrote it can sell from it" in result.output
        assert office.claim(5)[0] == 503
        assert installation.admin_answer("/readyz")[0] == 503
        assert [each["ledger"] for each in office.drift(former)] == ["unreadable"]
        for words in (["rebuild"], ["rebuild", "--force"], ["reconcile", "--repair"]):
            assert installation.command(former, *words).exit_code != 0
    refused = installation.command(former, "db", "upgrade")  # as its `up` does
    assert refused.exit_code == 1
    assert f"Can't locate revision identified by '{newest_revision()}'" in refused.output
    assert office.position() == before

    # Without another step this release goes on where it was.
    with installation.running(PRESENT):
        assert office.drift(PRESENT) == []
        office.crowd()
        assert office.finding().violations == ()

    # The way back, as docs/operations/deployment.md has it: nothing that was recorded is lost.
    office.change_records(FORMER_SCHEMA)
    installation.ok(former, "db", "upgrade")
    (report,) = installation.ok(former, "rebuild", "--program", office.program, "--discard")
    assert (report["found"], report["rebuilt"], report["lost"]) == ("unreadable", True, 0)
    with installation.running(former):
        assert office.booking_code(2, kept_before) == code_before
        assert office.booking_code(4, kept_after) == code_after
        assert installation.ok(former, "quota", "show", office.quota)["capacity"] == PLACES + 5
        # It never retires anything: what is over is there again, and nobody is booked in it any more.
        assert installation.ok(former, "quota", "show", retired)["confirmed"] == 0
        assert office.drift(former) == []
        office.crowd()

    # And forward again.
    office.change_records(newest_revision())
    installation.ok(PRESENT, "db", "upgrade")
    (report,) = installation.ok(PRESENT, "rebuild", "--program", office.program, "--force")
    assert (report["rebuilt"], report["lost"]) == (True, 0)
    with installation.running(PRESENT):
        assert office.booking_code(4, kept_after) == code_after
        assert office.drift(PRESENT) == []
        office.crowd()
        assert office.finding().violations == ()
        assert office.drift(PRESENT) == []
        assert installation.ok(PRESENT, "quota", "show", office.quota)["capacity"] == PLACES + 5
