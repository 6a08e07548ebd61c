"""A program is removed and imported again while the service runs: fronts and worker follow."""

import asyncio
import http.client
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from loadtest.stage.people import person
from loadtest.stage.program import PROGRAM
from loadtest.stage.service import Service, running_service
from tests.acceptance.test_reload_settings import until, worker_port
from tests.fronts import FRONTS, offered_by_all

CLI = (sys.executable, "-m", "reservasi.cli")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service(quotas=1, places=10, processes=FRONTS) as running:
        offered_by_all(running, 1)
        yield running


def call(service: Service, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=60)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def book(service: Service, number: int) -> dict[str, Any]:
    """A confirmed booking: 200 says that the recorder has it."""
    (quota,) = call(service, "GET", f"/v1/availability?program={PROGRAM}")[1]["quotas"]
    body = {"quota": quota["id"], "applicants": [person(number).applicant()]}
    status, held = call(service, "POST", "/v1/reservations", body, **{"Idempotency-Key": "one-key"})
    assert status == 201, held
    bearer = {"Authorization": f"Bearer {held['manage_token']}"}
    status, confirmed = call(service, "POST", f"/v1/reservations/{held['id']}/confirm", {}, **bearer)
    assert (status, confirmed["status"]) == (200, "confirmed")
    return {**held, "bearer": bearer}


def remove(service: Service, *words: str) -> "subprocess.CompletedProcess[str]":
    argv = [*CLI, "program", "remove", PROGRAM, "--yes", "--close-quotas", "--json", *words]
    argv += ["--data-dir", str(service.data_dir)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)


def worker_said(service: Service, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{worker_port(service)}{path}", timeout=60) as response:
        text: str = response.read().decode()
        return text


def test_fronts_and_worker_follow_a_removal_and_a_new_life(service: Service) -> None:
    first = book(service, 1)
    refused = remove(service)
    assert refused.returncode == 1
    assert "1 confirmed" in json.loads(refused.stdout)["error"]
    assert call(service, "GET", f"/v1/reservations/{first['id']}", **first["bearer"])[1]["status"] == "confirmed"
    status, _ = call(service, "POST", f"/v1/reservations/{first['id']}/cancel", {}, **first["bearer"])
    assert status == 200

    for life in range(2):
        done = remove(service)
        assert done.returncode == 0, done.stdout + done.stderr
        body = {"quota": first["quota"], "applicants": [person(9).applicant()]}
        claim = {"Idempotency-Key": f"after-{life}"}
        for _ in range(10):  # whichever front is asked
            status, answer = call(service, "POST", "/v1/reservations", body, **claim)
            assert (status, answer["type"].rpartition("/")[2]) == (404, "unknown-quota")
            assert call(service, "GET", f"/v1/availability?program={PROGRAM}")[1].get("quotas", []) == []
        readiness = json.loads(worker_said(service, "/readyz"))
        assert (readiness["ready"], readiness["programs"]) == (True, [])
        assert f'reservasi_ledger_owned{{program="{PROGRAM}"}}' not in worker_said(service, "/metrics")
        assert service.get_admin("/readyz")["ready"] is True

        service.import_program(quotas=1, places=10)
        again = book(service, 10 + life)
        assert again["id"] != first["id"]
        until(
            lambda: PROGRAM in json.loads(worker_said(service, "/readyz"))["programs"], "the worker does not serve it"
        )
        status, _ = call(service, "POST", f"/v1/reservations/{again['id']}/cancel", {}, **again["bearer"])
        assert status == 200


async def _remove_by_hand(service: Service) -> None:
    """As somebody would who knows no command for it: every row and every key of the program."""
    connection = await asyncpg.connect(service.postgres_dsn)
    try:
        tables = [
            "bookings",
            "holds",
            "applicants",
            "journal",
            "quotas",
            "openings",
            "positions",
            "epochs",
            "dead_letters",
            "audit",
        ]
        for table in tables:
            await connection.execute(f"DELETE FROM {table} WHERE program = $1", PROGRAM)
        await connection.execute("DELETE FROM programs WHERE id = $1", PROGRAM)
    finally:
        await connection.close()
    async with redis.asyncio.from_url(service.redis_url) as client:
        await client.unlink(*[key async for key in client.scan_iter(match=f"{{{PROGRAM}}}:*")])


@pytest.mark.parametrize("noticed", [True, False])
def test_one_that_was_removed_by_hand_is_recorded_after_it_is_imported_again(service: Service, noticed: bool) -> None:
    for number in range(3):
        book(service, 100 + number)
    asyncio.run(_remove_by_hand(service))
    if noticed:
        until(lambda: json.loads(worker_said(service, "/readyz"))["programs"] == [], "the worker does not leave it")
    service.import_program(quotas=1, places=10)
    book(service, 200)
    until(lambda: json.loads(worker_said(service, "/readyz"))["ready"], "the worker is not well")
    until(lambda: asyncio.run(_recorded(service)) == 1, "the booking is not recorded")


async def _recorded(service: Service) -> int:
    connection = await asyncpg.connect(service.postgres_dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM bookings WHERE program = $1", PROGRAM))
    finally:
        await connection.close()


def test_a_removal_that_is_killed_at_any_moment_can_be_repeated(service: Service) -> None:
    asyncio.run(_remove_by_hand(service))  # what other tests left
    until(lambda: json.loads(worker_said(service, "/readyz"))["programs"] == [], "the worker does not leave it")
    service.import_program(quotas=1, places=10)
    begun = time.monotonic()
    assert remove(service).returncode == 0
    took_s = time.monotonic() - begun
    for part in (0.25, 0.4, 0.55, 0.8):
        service.import_program(quotas=1, places=10)
        argv = [*CLI, "program", "remove", PROGRAM, "--yes", "--close-quotas", "--data-dir", str(service.data_dir)]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(took_s * part)
            except subprocess.TimeoutExpired:
                process.kill()
        done = remove(service)
        assert done.returncode == 0, done.stdout + done.stderr
        assert call(service, "GET", f"/v1/availability?program={PROGRAM}")[1].get("quotas", []) == []
        assert asyncio.run(_keys(service)) == 0
    service.import_program(quotas=1, places=10)
    book(service, 300)


async def _keys(service: Service) -> int:
    async with redis.asyncio.from_url(service.redis_url) as client:
        return len([key async for key in client.scan_iter(match=f"{{{PROGRAM}}}:*")])
