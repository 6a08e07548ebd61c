"""A running service of one build, with the demo's programs and everything that the operations need."""

import datetime as dt
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtest.bench.against.checkout import Build
from loadtest.bench.claims import claim, get, join, send
from loadtest.bench.client import Line
from loadtest.bench.figures import WrongResult
from loadtest.stage.cores import Cores, family, ran_s
from loadtest.stage.people import Person, person
from loadtest.stage.program import program_file
from loadtest.stage.service import Part, Service, running_service, wait_for

PROGRAM = "surabaya"
SERVICE, CHANNEL = "baru", "online"
CAPACITY = 50_000  # places in each quota that is claimed from: more than any run takes
QUOTAS = 16  # that are claimed from
QUEUE_ITEMS = 500  # claims that may wait: so few that a crowd of some hundreds makes the front refuse the next
BATCH_ITEMS = 64
SETTINGS = {
    "RESERVASI_QUEUE_ITEMS_MAX": str(QUEUE_ITEMS),
    "RESERVASI_BATCH_ITEMS_MAX": str(BATCH_ITEMS),
    "RESERVASI_COMMAND_TIMEOUT_MS": "30000",  # nobody gives up while the ledger stands still
    "RESERVASI_CONFIRM_WAIT_MS": "20000",  # nor while the recorder has to share its core
    "RESERVASI_CONNECTIONS_MAX": "20000",
    "RESERVASI_KEEPALIVE_S": "120",
    # Each limit is looked at, and none is reached by a single caller who asks as fast as they can.
    **{
        f"RESERVASI_RATE_{who}_{what}": "1000000"
        for who in ("PERSON", "NETWORK", "API_KEY")
        for what in ("PER_S", "BURST")
    },
}
DEMO = ("--demo", "--demo-opening-in", "3600")
VIEWER = ("staff", "add", "bench", "--role", "viewer", "--json")
OPENS_IN_S = 12  # what is created here
SHORT_PROGRAM = "kilat"  # whose holds end soon
SHORT_HOLD_S = 10
DAYS_AHEAD = 2
SETUP_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 60.0
FIRST_PERSON = 20_000_000
NOBODY = person(0)


@dataclass
class Stand:
    build: Build
    service: Service
    cores: Cores
    quotas: list[str] = field(default_factory=list)
    office: str = ""  # whose places of one date are read
    date: str = ""
    sold_out: str = ""
    ahead: str = ""  # an opening that people join now
    paused: str = ""  # one that has opened, whose mark stands at 0
    paused_quota: str = ""
    holder: Person = NOBODY  # who waits there
    ticket: str = ""  # and their ticket
    expired: tuple[str, str] = ("", "")  # a reservation whose hold has ended: path and token
    viewer_key: str = ""
    _people: int = FIRST_PERSON

    @property
    def port(self) -> int:
        return urlsplit(self.service.url).port or 0

    def ran_s(self, part: Part) -> float:
        """Processor time of a part so far. For a front, of the serving process without gunicorn's arbiter."""
        return sum(map(ran_s, self.service.pids(part)))

    def people(self, count: int) -> Iterator[Person]:
        first, self._people = self._people, self._people + count
        return map(person, range(first, first + count))

    def pin(self) -> None:
        """Pin the front to its own core, and all other processes to the other one."""
        fronts = {pid for front in self.service.pids(Part.FRONT) for pid in family(front)}
        for pid in family(self.service.pid):
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), self.cores.front if pid in fronts else self.cores.rest)


@contextmanager
def started(builds: tuple[Build, Build], cores: Cores) -> Iterator[tuple[Stand, Stand]]:
    with ExitStack() as stack:

        def start(build: Build) -> Stand:
            service = running_service(
                command=build.reservasi, arguments=DEMO, environment=SETTINGS, directory=build.root
            )
            return Stand(build, stack.enter_context(service), cores)

        stands = (start(builds[0]), start(builds[1]))
        for stand in stands:
            _prepare(stand)
            stand.pin()
        for stand in stands:
            _wait_opened(stand)
        yield stands


def _prepare(stand: Stand) -> None:
    """Choose quotas and openings, and bring them into the state that the operations need."""
    stand.ahead = wait_for(lambda: _demo_opening(stand), SETUP_TIMEOUT_S, f"{stand.build.name}: no demo came")
    staff = wait_for(lambda: _staff_key(stand), SETUP_TIMEOUT_S, f"{stand.build.name}: no staff key came")
    stand.viewer_key = json.loads(_reservasi(stand, *VIEWER))["api_key"]
    with Line(stand.port) as line:

        def put(quota: str, capacity: int) -> None:
            line.json(send(f"/v1/staff/quotas/{quota}", {"capacity": capacity}, staff, method="PUT"))

        stand.office = line.json(get(f"/v1/offices?program={PROGRAM}"))["offices"][0]["id"]
        filters = f"program={PROGRAM}&office={stand.office}&service={SERVICE}&channel={CHANNEL}"
        dates = _by_date(line.json(get(f"/v1/availability?{filters}"))["quotas"])
        # Quotas of the first date may close while we measure; nobody else claims of the last.
        _, *claimed, paused = dates.values()
        (full, *offered) = (quota for quotas in claimed for quota in quotas)
        stand.date, stand.sold_out, stand.paused_quota = full["date"], full["id"], paused[0]["id"]
        stand.quotas = [quota["id"] for quota in offered[:QUOTAS]]
        put(stand.sold_out, 0)
        for quota in stand.quotas:
            put(quota, CAPACITY)
        opens_at = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=OPENS_IN_S)
        stand.paused = _create(line, staff, paused[0], opens_at)
        line.json(send(f"/v1/staff/openings/{stand.paused}/admission", {"paused": True}, staff, method="PUT"))
        first, second = stand.people(2)
        line.json(join(stand.paused, first), 201)
        stand.expired = held(line, claim(_import_short(stand), second))


def _demo_opening(stand: Stand) -> str | None:
    answer = stand.service.get(f"/v1/openings?program={PROGRAM}") or {"openings": ()}
    return next((opening["id"] for opening in answer["openings"] if opening.get("waiting_room")), None)


def _staff_key(stand: Stand) -> str | None:
    file = stand.service.data_dir / "staff-api-key"
    return (file.read_text().strip() or None) if file.exists() else None


def held(line: Line, request: bytes) -> tuple[str, str]:
    """Make a reservation; its path and its manage token."""
    reservation = line.json(request, 201)
    return f"/v1/reservations/{reservation['id']}", reservation["manage_token"]


def _by_date(quotas: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    offered = sorted((quota for quota in quotas if quota["state"] == "open"), key=itemgetter("date"))
    return {date: list(of_date) for date, of_date in itertools.groupby(offered, itemgetter("date"))}


def _create(line: Line, staff: str, quota: dict[str, Any], opens_at: dt.datetime) -> str:
    """An opening with a waiting room for the quotas of one office and date."""
    wanted = {
        "program": PROGRAM,
        "opens_at": opens_at.isoformat(),
        "ends_at": (opens_at + dt.timedelta(hours=2)).isoformat(),
        "joins_from": (opens_at - dt.timedelta(hours=1)).isoformat(),
        "from": quota["date"],
        "to": quota["date"],
        "office": quota["office"],
        "service": SERVICE,
        "channel": CHANNEL,
        "waiting_room": True,
    }
    return str(line.json(send("/v1/staff/openings", wanted, staff), 201)["id"])


def _import_short(stand: Stand) -> str:
    """A program whose holds end soon; its one quota."""
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=DAYS_AHEAD)
    file = stand.service.log_path.with_name(f"{SHORT_PROGRAM}.toml")
    file.write_text(program_file(1, CAPACITY, day, SHORT_HOLD_S, SHORT_PROGRAM))
    _reservasi(stand, "program", "import", str(file), "--from", day.isoformat(), "--to", day.isoformat())

    def look() -> str | None:
        offered = stand.service.get(f"/v1/availability?program={SHORT_PROGRAM}")
        return offered["quotas"][0]["id"] if offered and offered["quotas"] else None

    return wait_for(look, SETUP_TIMEOUT_S, f"{stand.build.name}: a program with short holds did not come")


def _reservasi(stand: Stand, *words: str) -> str:
    """Run a `reservasi` command of that build; its output."""
    command = (*stand.build.reservasi, *words, "--data-dir", str(stand.service.data_dir))
    done = stand.build.run(command, COMMAND_TIMEOUT_S)
    done.check_returncode()
    return done.stdout


def _wait_opened(stand: Stand) -> None:
    """Wait until the opening has begun and the short hold has expired; then join behind the opening's mark."""
    with Line(stand.port) as line:

        def look() -> bool:
            queue, expired = line.json(get(f"/v1/openings/{stand.paused}/queue")), line.json(get(*stand.expired))
            return (queue["state"], expired["status"]) == ("paused", "expired")

        wait_for(look, SETUP_TIMEOUT_S, f"{stand.build.name}: its opening did not come, or a hold did not end")
        (stand.holder,) = stand.people(1)
        joined = line.json(join(stand.paused, stand.holder), 201)
    if not joined["number"]:
        raise WrongResult(f"who joins behind the mark has number {joined['number']}")
    stand.ticket = joined["ticket"]
