"""Fronts are replaced one by one at SIGHUP: every call is answered, counters continue, and a killed front is
replaced.
"""

import asyncio
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from loadtest.checker.check import check
from loadtest.stage.people import person
from loadtest.stage.service import Part, Service, running_service, wait_for
from tests.fronts import AVAILABILITY, FRONTS, WAIT_S, offered_by_all, parent_of, replace_fronts

QUOTAS = 2
PLACES = 5000  # in each; more than are claimed here
CLAIMERS = 4
READERS = 2
PAUSE_S = 0.02  # of a caller between two calls, so that the machine's other work goes on
Route = tuple[str, str, str]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service(quotas=QUOTAS, places=PLACES, processes=FRONTS) as running:
        offered_by_all(running, QUOTAS)
        yield running


class Connection:
    """A kept connection; it is only made anew after the server said that it would close, and no call is repeated."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)

    def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        content = None if body is None else json.dumps(body)
        self._connection.request(method, path, content, {"Content-Type": "application/json", **headers})
        with self._connection.getresponse() as response:
            data = response.read()
            return response.status, response.headers, json.loads(data)

    def close(self) -> None:
        self._connection.close()


@dataclass
class Callers:
    """People who claim, confirm and read without an end, and what they heard."""

    service: Service
    quotas: list[str]
    first: int = 0  # number of the first person, so that no two tests send the same ones
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    held: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def calling(self) -> Iterator[None]:
        works = [(self._claim, self.first + number) for number in range(CLAIMERS)] + [(self._read, 0)] * READERS
        threads = [threading.Thread(target=self._go_on, args=work) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _go_on(self, work: Any, first: int) -> None:
        connection = Connection(self.service.url)
        number = first
        while not self._stop.is_set():
            try:
                work(connection, number)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.faults.append(repr(error))
                connection.close()
            number += CLAIMERS
            time.sleep(PAUSE_S)
        connection.close()

    def _read(self, connection: Connection, _number: int) -> None:
        self._heard("read", *connection.call("GET", AVAILABILITY)[:2])

    def _claim(self, connection: Connection, number: int) -> None:
        """A claim of a new person; every second is confirmed, every fifth tried again by a person who has one."""
        body = {"quota": self.quotas[number % QUOTAS], "applicants": [person(number).applicant()]}
        status, headers, held = connection.call(
            "POST", "/v1/reservations", body, **{"Idempotency-Key": f"first-{number}"}
        )
        self._heard("claim", status, headers)
        if status != 201:
            return
        self.held.append(held)
        step = number // CLAIMERS
        if step % 2:
            path = f"/v1/reservations/{held['id']}/confirm"
            self._heard("confirm", *connection.call("POST", path, {}, **bearer(held))[:2])
        if step % 5 == 0:
            again = connection.call("POST", "/v1/reservations", body, **{"Idempotency-Key": f"second-{number}"})
            self._heard("claim again", *again[:2])

    def _heard(self, what: str, status: int, headers: http.client.HTTPMessage) -> None:
        self.answers[what, status] += 1
        if status == 503 and headers["Retry-After"] is None:
            self.faults.append(f"{what}: 503 without Retry-After")


def bearer(held: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {held['manage_token']}"}


def test_no_claim_is_lost_while_fronts_and_worker_are_replaced(service: Service) -> None:
    offered = service.get(AVAILABILITY)["quotas"]
    callers = Callers(service, [quota["id"] for quota in offered])
    with callers.calling():
        for target in ("fronts", "up", "fronts"):
            wait_for_more(callers)
            worker = service.pids(Part.WORKER)
            replace_fronts(service, target)
            if target == "up":
                wait_for(partial(is_another, service, worker), WAIT_S, "the worker goes on")
        wait_for_more(callers)

    assert not callers.faults
    statuses = {what: {status for name, status in callers.answers if name == what} for what, _ in callers.answers}
    assert statuses["read"] == {200}
    assert 201 in statuses["claim"] <= {201, 503}
    assert statuses["claim again"] <= {409, 503}
    assert 200 in statuses["confirm"] <= {200, 202, 503}
    assert_all_kept(service, callers)


def is_another(service: Service, worker: list[int]) -> bool | None:
    now = service.pids(Part.WORKER)
    return (len(now) == 1 and now != worker) or None


def assert_all_kept(service: Service, callers: Callers) -> None:
    """Each reservation that was promised is there, each counts once, and ledger and records tell the same."""
    counts = read_back(service, callers)
    assert counts.keys() <= {(200, "held"), (200, "confirmed")}
    assert counts[200, "confirmed"] >= callers.answers["confirm", 200] + callers.answers["confirm", 202]
    taken = Counter(held["quota"] for held in callers.held)
    unseen = "the fronts do not show what was taken"
    wait_for(lambda: shown_taken(service) == taken or None, WAIT_S, unseen)
    (finding,) = asyncio.run(check(service.redis_url, service.postgres_dsn))
    assert finding.violations == ()
    assert (finding.held, finding.confirmed) == (counts[200, "held"], counts[200, "confirmed"])


def read_back(service: Service, callers: Callers) -> Counter[tuple[int, str]]:
    """How many of the promised reservations are read with which answer and in which state."""

    def states(part: list[dict[str, Any]]) -> list[tuple[int, str]]:
        connection = Connection(service.url)
        replies = [connection.call("GET", f"/v1/reservations/{held['id']}", **bearer(held)) for held in part]
        connection.close()
        return [(status, body.get("status")) for status, _, body in replies]

    with ThreadPoolExecutor(CLAIMERS) as readers:
        parts = [callers.held[number::CLAIMERS] for number in range(CLAIMERS)]
        return Counter(state for part in readers.map(states, parts) for state in part)


def shown_taken(service: Service) -> Counter[str]:
    quotas = service.get(AVAILABILITY)["quotas"]
    return Counter({quota["id"]: quota["capacity"] - quota["remaining"] for quota in quotas})


def test_counters_are_exact_over_all_fronts_and_those_that_are_gone(service: Service) -> None:
    wanted = counted(service)
    for number in range(4):  # before, after one reload, after another, after a kill
        wanted += send_known_requests(service)
        wait_for(partial(tells, service, wanted), WAIT_S, "the counters do not tell what was sent")
        assert set(service.pids(Part.FRONT)) <= fronts_that_counted(service)
        if number < 2:
            replace_fronts(service, "fronts")
        else:
            service.kill_and_wait(Part.FRONT)
        assert counted(service) == wanted
    fronts = service.pids(Part.FRONT)
    gauges = {pid_of(path) for path in metrics_dir(service).glob("gauge_live*.db")}
    assert gauges <= {*fronts, parent_of(fronts[0])}


def send_known_requests(service: Service) -> Counter[Route]:
    """Some of each kind until every front has counted some; what the counters must tell of them."""
    sent: Counter[Route] = Counter()
    number = 0
    while number < 5 or not set(service.pids(Part.FRONT)) <= fronts_that_counted(service):
        number += 1
        assert number < 200, "a front serves nobody"
        connection = Connection(service.url)
        for _ in range(number % 10):
            assert connection.call("GET", AVAILABILITY)[0] == 200
            sent["/v1/availability", "GET", "2xx"] += 1
        assert connection.call("GET", f"/v1/reservations/{'a' * 26}", Authorization="Bearer none")[0] == 404
        sent["/v1/reservations/{id}", "GET", "4xx"] += 1
        assert connection.call("POST", "/v1/reservations", {}, **{"Idempotency-Key": "wrong-1"})[0] == 422
        sent["/v1/reservations", "POST", "4xx"] += 1
        connection.close()
    return sent


def counted(service: Service) -> Counter[Route]:
    connection = http.client.HTTPConnection(service.admin_url.removeprefix("http://"), timeout=60)
    connection.request("GET", "/metrics")
    with connection.getresponse() as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    connection.close()
    (requests,) = [family for family in families if family.name == "reservasi_requests"]
    samples = [sample for sample in requests.samples if sample.name == "reservasi_requests_total"]
    labels = [(each.labels["route"], each.labels["method"], each.labels["outcome"]) for each in samples]
    return Counter(dict(zip(labels, [int(sample.value) for sample in samples], strict=True)))


def tells(service: Service, wanted: Counter[Route]) -> bool | None:
    return counted(service) == wanted or None


def fronts_that_counted(service: Service) -> set[int]:
    """Processes, also those that are gone, that have counted a request."""
    pids = set()
    for path in metrics_dir(service).glob("counter_*.db"):
        for key, value, *_ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            if value and "reservasi_requests_total" in key:
                pids.add(pid_of(path))
    return pids


def pid_of(path: Path) -> int:
    """Whose file of metrics it is."""
    return int(path.stem.rpartition("_")[2])


def metrics_dir(service: Service) -> Path:
    return service.data_dir / "metrics"


def test_a_killed_front_is_replaced_and_the_calls_go_on(service: Service) -> None:
    callers = Callers(service, [quota["id"] for quota in service.get(AVAILABILITY)["quotas"]], first=1_000_000)
    with callers.calling():
        for _ in range(2):
            wait_for_more(callers)
            killed, successor = service.kill_and_wait(Part.FRONT)
            assert killed != successor
        wait_for_more(callers)
    wait_for(lambda: len(service.pids(Part.FRONT)) == FRONTS or None, WAIT_S, "the killed front is missed")
    assert len(callers.faults) <= 2 * (CLAIMERS + READERS)  # connections that a dead front had
    assert {status for _, status in callers.answers} <= {200, 201, 202, 409, 503}
    assert read_back(service, callers).keys() <= {(200, "held"), (200, "confirmed")}
    (finding,) = asyncio.run(check(service.redis_url, service.postgres_dsn))
    assert finding.violations == ()


def wait_for_more(callers: Callers) -> None:
    """Let them go on, so that calls are under way when something is done next."""
    enough = len(callers.held) + 50
    wait_for(lambda: len(callers.held) >= enough or None, WAIT_S, "nobody gets a place any more")
