"""If an embedded server cannot start, the error says why and what to do, and nothing else is changed."""

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis.asyncio as redis

from reservasi.embedded import EmbeddedPostgres, EmbeddedValkey, Places, occupied
from reservasi.embedded.accounts import server_account
from reservasi.errors import ConfigurationError, EmbeddedServerError

DEADLINE_S = 60
as_root = os.geteuid() == 0


@pytest.fixture
def closed_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory closed to the account that runs the servers."""
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o700 if as_root else 0o000)
    yield directory
    directory.chmod(0o700)


@pytest.fixture(params=[EmbeddedValkey, EmbeddedPostgres])
def kind(request: pytest.FixtureRequest) -> type[EmbeddedValkey] | type[EmbeddedPostgres]:
    chosen: type[EmbeddedValkey] | type[EmbeddedPostgres] = request.param
    return chosen


Kind = type[EmbeddedValkey] | type[EmbeddedPostgres]


async def test_a_closed_parent_directory_is_named_and_left_as_it_is(closed_dir: Path, kind: Kind) -> None:
    way = [closed_dir, *closed_dir.parents]
    before = [place.stat().st_mode for place in way]
    with pytest.raises(ConfigurationError, match="cannot be reached"), occupied(closed_dir / "data", run_as=""):
        pass
    with pytest.raises(ConfigurationError) as caught:
        await kind(closed_dir / "data", DEADLINE_S).start()
    text = str(caught.value)
    # Pytest's own temporary directories are closed to other accounts as well, so the first closed one is named.
    named = next(place for place in reversed(way) if f"because {place} is closed" in text)
    assert f"chmod o+x {named}" in text
    assert [place.stat().st_mode for place in way] == before
    assert not as_root or not (closed_dir / "data").exists()


@pytest.mark.parametrize("place", ["/proc/reservasi", "/dev/null/reservasi"])
async def test_a_directory_that_cannot_be_written_is_named(place: str, kind: Kind) -> None:
    with pytest.raises(ConfigurationError, match=f"data_dir: {place} cannot be used: .*choose a directory"):
        await kind(Path(place), DEADLINE_S).start()
    with pytest.raises(ConfigurationError, match=f"data_dir: {place} cannot be used: "), occupied(Path(place)):
        pass


async def test_a_taken_port_is_named(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 cannot be used for Valkey"):
            await EmbeddedValkey(data_dir, DEADLINE_S, port=port).start()
    server = EmbeddedValkey(data_dir, DEADLINE_S, port=port)
    await server.start()
    try:
        async with redis.Redis(port=port) as client:
            with pytest.raises(redis.AuthenticationError):  # nobody comes in without a password
                await client.ping()
        admin = urlsplit(server.url)
        async with redis.Redis(port=port, username=admin.username, password=admin.password) as client:
            assert await client.ping()
    finally:
        await server.stop()


def test_a_second_instance_is_refused_while_the_first_one_lives(data_dir: Path) -> None:
    argv = [sys.executable, "-c", "print(flush=True); import signal; signal.pause()"]
    with occupied(data_dir):
        with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()};"), occupied(data_dir):
            pass
        child = subprocess.Popen(argv, close_fds=False, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()  # the child is past its exec, which is what closes the file
    with child:
        with occupied(data_dir):
            assert child.poll() is None
        child.kill()


def test_another_process_is_refused_too(data_dir: Path) -> None:
    source = """
        import sys
        from pathlib import Path
        from reservasi.embedded import occupied
        from reservasi.errors import ConfigurationError
        try:
            with occupied(Path(sys.argv[1])):
                print("occupied")
        except ConfigurationError as error:
            print(error)
    """
    argv = [sys.executable, "-c", textwrap.dedent(source), str(data_dir)]
    with occupied(data_dir):
        output = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout
        assert f"in use by process {os.getpid()}" in output
    assert subprocess.run(argv, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout == "occupied\n"


async def test_a_server_beside_a_living_one_waits_and_then_says_so(data_dir: Path, kind: Kind) -> None:
    first = kind(data_dir, DEADLINE_S)
    await first.start()
    try:
        with pytest.raises(EmbeddedServerError, match="another one still uses"):
            await kind(data_dir, 0.1).start()
        with pytest.raises(EmbeddedServerError, match="is already running"):
            await first.start()
    finally:
        await first.stop()


async def test_a_server_that_dies_at_the_start_is_quoted(data_dir: Path) -> None:
    places = Places.of(data_dir)
    valkey, postgres = EmbeddedValkey(data_dir, DEADLINE_S), EmbeddedPostgres(data_dir, DEADLINE_S)
    for server in (valkey, postgres):
        await server.start()
        await server.stop()
    next((places.valkey / "appendonlydir").glob("*.manifest")).write_text("nonsense\n")
    with pytest.raises(EmbeddedServerError, match=r"Valkey ended with 1 before it was ready; the end of .*(?s:.*)AOF"):
        await valkey.start()
    (places.postgres / "data/global/pg_control").write_bytes(b"")
    with pytest.raises(EmbeddedServerError, match=r"PostgreSQL ended with -?\d+ before it was ready(?s:.*)pg_control"):
        await postgres.start()


async def test_a_server_that_is_not_ready_in_time_is_ended(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, DEADLINE_S)
    await server.start()
    await server.stop()
    late = EmbeddedPostgres(data_dir, 0)
    with pytest.raises(EmbeddedServerError, match=r"PostgreSQL was not ready within 0 s; the end of "):
        await late.start()
    assert late.pid is None


async def test_a_start_that_is_cancelled_leaves_no_server(data_dir: Path, kind: Kind) -> None:
    server = kind(data_dir, DEADLINE_S)
    start = asyncio.create_task(server.start())
    async with asyncio.timeout(DEADLINE_S):
        while server.pid is None:  # noqa: ASYNC110  # another process decides
            await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await server.start()  # nothing runs, and the directory is free again
    await server.stop()


async def test_a_link_in_place_of_a_directory_is_refused(data_dir: Path, tmp_path: Path, kind: Kind) -> None:
    for name in ("valkey", "postgres"):
        (data_dir / name).symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="is not a directory of the account"):
        await kind(data_dir, DEADLINE_S).start()


@pytest.mark.parametrize(
    ("name", "reason"), [("root", "PostgreSQL refuses to run as root"), ("no-such-account", "has no account")]
)
def test_an_account_that_cannot_be_used_is_named(name: str, reason: str) -> None:
    if not as_root:  # only root has a choice
        assert server_account(name) is None
        return
    with pytest.raises(ConfigurationError, match=reason):
        server_account(name)
