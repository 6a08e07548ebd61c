"""Operator's cases: ports in use, unavailable stores, servers with unsafe settings, JSON log lines."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from loadtest.stage.ports import free_port, free_ports
from reservasi.admin import serve_admin
from reservasi.cli import ports
from reservasi.errors import ConfigurationError

CLI = (sys.executable, "-m", "reservasi.cli")
ROOT = Path(__file__).parents[2]
WAIT_S = 90.0


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with suppress(OSError):
            if result := condition():
                return result
        time.sleep(0.05)
    raise AssertionError(what)


def readyz(port: int) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def metrics_of(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        text: str = response.read().decode()
        return text


@contextmanager
def redis_server(*flags: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Debian's Redis with these settings."""
    process = subprocess.Popen(
        ["/usr/bin/redis-server", "--port", str(port), *flags], stdout=subprocess.DEVNULL, cwd="/tmp"
    )
    try:
        until(
            lambda: subprocess.run(["redis-cli", "-p", str(port), "PING"], capture_output=True, check=False).stdout,
            "no Redis",
        )
        yield process
    finally:
        process.kill()
        process.wait()


def environment(data_dir: Path, **settings: object) -> dict[str, str]:
    ours = {f"RESERVASI_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, "RESERVASI_DATA_DIR": str(data_dir), "RESERVASI_START_TIMEOUT_S": "1", **ours}


def refused(words: list[str], env: dict[str, str]) -> str:
    """Run a command that must fail, without a traceback and without leaving a temporary file; what it printed."""
    with tempfile.TemporaryDirectory() as temporary:
        env = {**env, "TMPDIR": temporary}
        done = subprocess.run([*CLI, *words], env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert os.listdir(temporary) == []
    output = done.stdout + done.stderr
    assert done.returncode in (1, 2), output
    assert "Traceback" not in output, output
    return output


@contextmanager
def running(words: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen([*CLI, *words], env=env, cwd=ROOT, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)


# -- ports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::"])
async def test_an_admin_port_has_one_service_on_every_address_family(host: str) -> None:
    port = free_port()
    async with serve_admin(lambda: {"well": True}, host, port):
        with pytest.raises(ConfigurationError, match=f"admin port {re.escape(host)}:{port} cannot be opened"):
            async with serve_admin(lambda: {"well": True}, host, port):
                pass
        with pytest.raises(ConfigurationError, match=f"admin_port: .*{port} cannot be used.*choose another"):
            ports.take("admin_port", host, port)
    for each in ports.take("admin_port", host, port):
        each.close()


async def test_processes_of_one_parent_share_its_admin_port() -> None:
    port = free_port()
    sockets = ports.take("admin_port", "127.0.0.1", port)
    async with serve_admin(lambda: {"first": True}, "127.0.0.1", port, sockets=sockets):
        async with serve_admin(lambda: {"second": True}, "127.0.0.1", port, sockets=sockets):
            status, _ = await asyncio.to_thread(readyz, port)
            assert status == 200
        status, answer = await asyncio.to_thread(readyz, port)  # one that ends takes nobody's request with it
        assert (status, answer) == (200, {"ready": True, "first": True})
    for each in sockets:
        each.close()


async def test_a_port_that_is_taken_is_one_line(database: str, valkey_url: str, data_dir: Path) -> None:
    port, admin, worker = free_ports(3)
    held = [ports.listen("127.0.0.1", each) for each in (port, admin, worker)]
    env = environment(data_dir, redis_url=valkey_url, postgres_dsn=database, worker_admin_port=worker)
    for words, number in (
        (["worker"], worker),
        (["api", "--port", str(port), "--admin-port", str(free_port())], port),
        (["api", "--port", str(free_port()), "--admin-port", str(admin)], admin),
    ):
        output = await asyncio.to_thread(refused, words, env)
        assert f"127.0.0.1:{number} cannot be used" in output
        assert "choose another" in output
    for each in held:
        each[0].close()
    same = ["api", "--port", str(port), "--admin-port", str(port)]
    assert f"port, admin_port must differ: {port}, {port}" in await asyncio.to_thread(refused, same, env)


# -- starting ----------------------------------------------------------------------------------------------------


async def test_a_fault_at_the_start_is_one_line_that_says_what_to_do(
    database: str, valkey_url: str, data_dir: Path
) -> None:
    missing = data_dir / "missing.pem"
    faults: list[tuple[dict[str, object], str]] = [
        ({"postgres_dsn": "nonsense"}, "postgres_dsn cannot be used"),
        ({"postgres_dsn": "postgresql://u:p@127.0.0.1:1/db"}, "PostgreSQL does not answer"),
        ({"postgres_dsn": f"postgresql://u:p@127.0.0.1:1/db?sslmode=verify-full&sslrootcert={missing}"}, "missing.pem"),
        ({"redis_url": "http://nowhere"}, "redis_url cannot be used"),
        ({"redis_url": f"rediss://127.0.0.1:1?ssl_ca_certs={missing}"}, "missing.pem"),
        ({"redis_url": re.sub("//[^@]*@", "//nobody:wrong@", valkey_url)}, "the ledger's server refuses our login"),
        ({"secrets_file": data_dir / "no-keys.json"}, "no-keys.json"),
    ]
    for kind in ("worker", "api"):
        for changed, expected in faults if kind == "worker" else faults[:1]:
            env = environment(
                data_dir,
                **{
                    "redis_url": valkey_url,
                    "postgres_dsn": database,
                    "port": free_port(),
                    "admin_port": free_port(),
                    "worker_admin_port": free_port(),
                    **changed,
                },
            )
            assert expected in await asyncio.to_thread(refused, [kind], env), (kind, changed)


@pytest.mark.parametrize("kind", ["worker", "api"])
def test_a_schema_that_is_missing_is_one_line(empty_database: str, valkey_url: str, data_dir: Path, kind: str) -> None:
    port, admin, worker = free_ports(3)
    env = environment(
        data_dir,
        redis_url=valkey_url,
        postgres_dsn=empty_database,
        port=port,
        admin_port=admin,
        worker_admin_port=worker,
    )
    output = refused([kind], env)
    assert output.count("reservasi db upgrade") == 1, output


def test_a_data_directory_that_cannot_be_made_is_one_line() -> None:
    port, admin, worker = free_ports(3)
    for place in ("/proc/nowhere", "/etc/hostname"):
        env = environment(Path(place), port=port, admin_port=admin, worker_admin_port=worker)
        assert place in refused(["up"], env)


def test_fronts_share_their_metrics_until_they_are_stopped(
    database: str, valkey_url: str, data_dir: Path, tmp_path: Path
) -> None:
    port, admin = free_ports(2)
    env = environment(data_dir, redis_url=valkey_url, postgres_dsn=database, port=port, admin_port=admin)
    env |= {"RESERVASI_START_TIMEOUT_S": "60", "TMPDIR": str(tmp_path)}
    with running(["api", "--processes", "2"], env, data_dir / "api.log") as process:
        until(lambda: {'process="front-0"', 'process="front-1"'} <= _processes(admin), "no metrics of both fronts")
        (directory,) = (each for each in tmp_path.iterdir() if each.name.startswith("reservasi-metrics-"))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        ended = children.read_text().split()[0]
        os.kill(int(ended), signal.SIGTERM)
        until(lambda: ended not in (now := children.read_text().split()) and len(now) == 2, "no other front")
        assert directory.is_dir()
    assert list(tmp_path.iterdir()) == []


def _processes(admin: int) -> set[str]:
    return set(re.findall(r'process="[^"]*"', metrics_of(admin)))


# -- readiness ---------------------------------------------------------------------------------------------------


def test_a_worker_says_what_is_missing_and_is_ready_again_by_itself(
    database: str, data_dir: Path, program: str
) -> None:
    port, worker = free_ports(2)
    redis_url = f"redis://127.0.0.1:{port}"
    env = environment(data_dir, redis_url=redis_url, postgres_dsn=database, worker_admin_port=worker)
    file = data_dir / "program.toml"
    shipped = Path(__file__).parents[2] / "config" / "programs" / "surabaya.toml"
    file.write_text(shipped.read_text().replace('id = "surabaya"', f'id = "{program}"'))
    flags = ("--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", str(data_dir))
    log = data_dir / "worker.log"
    with redis_server(*flags, port=port) as server:
        week = ["--from", "2099-12-01", "--to", "2099-12-01"]
        subprocess.run([*CLI, "program", "import", str(file), *week], env=env, check=True, capture_output=True)
        with running(["worker"], env, log):
            until(lambda: readyz(worker)[0] == 200, log.read_text())
            server.kill()
            server.wait()
            until(lambda: readyz(worker)[0] == 503, "still ready without its ledger")
            _, answer = readyz(worker)
            assert (answer["ready"], answer["ledger"], answer["records"]) == (False, False, True)
            assert "ledger" in answer["missing"][program]
            with redis_server(*flags, port=port):
                until(lambda: readyz(worker)[0] == 200, log.read_text())


def test_a_worker_without_programs_says_that_its_ledger_is_gone(database: str, data_dir: Path) -> None:
    port, worker = free_ports(2)
    env = environment(data_dir, redis_url=f"redis://127.0.0.1:{port}", postgres_dsn=database, worker_admin_port=worker)
    flags = ("--save", "", "--appendonly", "no")
    log = data_dir / "worker.log"
    with redis_server(*flags, port=port) as server, running(["worker"], env, log):
        until(lambda: readyz(worker)[0] == 200, log.read_text())
        server.kill()
        server.wait()
        until(lambda: readyz(worker)[0] == 503, "still ready without its ledger")
        _, answer = readyz(worker)
        assert (answer["ready"], answer["ledger"], answer["records"]) == (False, False, True)
        assert "Connect" in answer["missing"]["ledger"]
        with redis_server(*flags, port=port):
            until(lambda: readyz(worker)[0] == 200, log.read_text())


# -- servers that forget -----------------------------------------------------------------------------------------


@pytest.fixture
def doctor(database: str, data_dir: Path) -> Callable[[str], dict[str, Any]]:
    def look(redis_url: str, dsn: str = database) -> dict[str, Any]:
        done = subprocess.run(
            [*CLI, "doctor", "--json"],
            env=environment(data_dir, redis_url=redis_url, postgres_dsn=dsn),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        report = json.loads(done.stdout)
        assert done.returncode == (0 if report["ok"] else 1)
        return {each["check"]: each for each in report["findings"]}

    return look


@pytest.mark.parametrize(
    ("flags", "bad", "advice"),
    [
        (("--appendonly", "no", "--save", "3600 1"), "append-only file", "snapshots alone (save 3600 1)"),
        (("--appendonly", "no", "--save", ""), "append-only file", "a restart loses everything"),
        (("--appendonly", "yes", "--appendfsync", "everysec"), "fsync", "set appendfsync always"),
        (("--appendonly", "yes", "--appendfsync", "no"), "fsync", "set appendfsync always"),
        (
            ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "allkeys-lru"),
            "eviction",
            "set noeviction",
        ),
    ],
)
def test_a_server_that_forgets_is_named_and_what_is_well_reads_so(
    doctor: Callable[..., dict[str, Any]], data_dir: Path, flags: tuple[str, ...], bad: str, advice: str
) -> None:
    port = free_port()
    with redis_server(*flags, "--dir", str(data_dir), port=port):
        checks = doctor(f"redis://127.0.0.1:{port}")
    assert checks[bad]["ok"] is False
    assert advice in checks[bad]["said"]
    for each in checks.values():
        assert not each["ok"] or not re.search(r"\b(or|needed|set|loses everything)\b", each["said"]), each


def test_the_doctor_looks_further_when_a_store_is_away(doctor: Callable[..., dict[str, Any]], valkey_url: str) -> None:
    no_ledger = doctor("redis://127.0.0.1:1")
    assert no_ledger["schema"]["ok"] is True
    assert no_ledger["server"]["ok"] is no_ledger["programs"]["ok"] is False
    no_records = doctor(valkey_url, "postgresql://u@127.0.0.1:1/db")
    assert no_records["records"]["ok"] is False
    assert {"interpreter", "disk", "append-only file", "fsync", "eviction", "programs"} <= no_records.keys()


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_the_doctor_says_that_there_is_no_data_directory_and_how_to_make_one(tmp_path: Path, kind: str) -> None:
    place = tmp_path / kind
    if kind == "empty":
        place.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("RESERVASI_")}
    words = [*CLI, "doctor", "--data-dir", str(place)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    bad = [line for line in done.stdout.splitlines() if line.startswith("bad")]
    assert (done.returncode, len(bad), done.stderr) == (1, 1, "")
    assert f"there is no data directory at {place}: `reservasi up --data-dir {place}` creates it" in bad[0]
    assert "make up" in bad[0]
    report = json.loads(subprocess.run([*words, "--json"], env=env, capture_output=True, check=False).stdout)
    assert [each["check"] for each in report["findings"] if not each["ok"]] == ["data directory"]


# -- up ----------------------------------------------------------------------------------------------------------


def _are_complete(fronts: str, worker: str, port: int) -> None:
    """What both admin ports show is there from the start, once, and as Prometheus wants it."""
    for name in ("front-0", "front-1", "gunicorn-0"):
        for metric in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "start_time_seconds"):
            assert re.search(rf'^process_{metric}{{process="{name}"}} [0-9.]*[1-9]', fronts, re.MULTILINE), metric
    assert re.search(r"^process_cpu_seconds_total [0-9.]+$", worker, re.MULTILINE)
    for outcome in ("held", "sold_out", "not_admitted", "overloaded", "invalid"):
        assert f'reservasi_claims_total{{outcome="{outcome}"}} 0.0' in fronts
    assert 'reservasi_rate_limited_total{kind="person"} 0.0' in fronts
    assert 'reservasi_dead_letters_total{program="surabaya"} 0.0' in worker
    assert 'reservasi_ledger_at_risk{kind="append_only_file"} 1.0' in worker
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/availability?program=batam", timeout=60) as response:
        public = sum(quota["capacity"] for quota in json.load(response)["quotas"])
    capacity, remaining = (
        float(re.findall(rf'^reservasi_places_{kind}{{program="batam"}} (\S+)$', fronts, re.MULTILINE)[0])
        for kind in ("capacity", "remaining")
    )
    assert capacity == remaining >= public > 0  # once, not once a front
    for text in (fronts, worker):
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_up_says_what_it_does_and_what_its_ledger_may_forget_in_lines_for_programs(
    database: str, data_dir: Path, tmp_path: Path
) -> None:
    store, port, admin, worker = free_ports(4)
    env = environment(
        data_dir,
        redis_url=f"redis://127.0.0.1:{store}",
        postgres_dsn=database,
        worker_admin_port=worker,
        log_format="json",
        start_timeout_s=60,
    )
    env["XDG_RUNTIME_DIR"] = env["TMPDIR"] = str(tmp_path)
    log = data_dir / "up.log"
    flags = ["--demo", "--port", str(port), "--admin-port", str(admin), "--processes", "2"]
    with redis_server("--save", "", "--appendonly", "no", port=store), running(["up", *flags], env, log) as process:
        until(lambda: '"event":"up"' in log.read_text(), "not up")
        assert f'metrics":"http://127.0.0.1:{admin}/metrics"' in log.read_text()
        bare = {name: value for name, value in env.items() if not name.startswith("RESERVASI_")}
        result = subprocess.run(
            [*CLI, "doctor", "--json"], env=bare, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        checks = {each["check"]: each for each in json.loads(result.stdout)["findings"]}
        assert checks["schema"]["ok"] is True  # of the stores that `up` used, in a terminal that knows nothing
        _are_complete(metrics_of(admin), metrics_of(worker), port)
        # gunicorn's own line, of a front that it did not expect to end
        front = max(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))
        child = Path(f"/proc/{front}/task/{front}/children").read_text().split()[0]
        os.kill(int(child), signal.SIGKILL)
        until(lambda: "gunicorn.error" in log.read_text(), "gunicorn said nothing")
    assert "Traceback" not in log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert {"migrations of the records' schema", "ready"} <= {line.get("step") for line in lines}
    assert any("promises may be lost: appendonly is no" in line["event"] for line in lines)
