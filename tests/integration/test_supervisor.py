"""The supervisor: members start in order, are restarted when they die, and stop in reverse order."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis.asyncio as redis

from reservasi.embedded import EmbeddedValkey
from reservasi.errors import EmbeddedServerError
from reservasi.supervisor import Crashes, RestartLimits, Role, Supervisor

DEADLINE_S = 60
QUICK = RestartLimits(delay_first_s=0.01, delay_max_s=0.02, crashes_max=3, settled_s=60)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # another process decides
            await asyncio.sleep(0.01)


def command(source: str, *args: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(source), *args)


def sleeper(name: str, diary: Path) -> Role:
    """A role that notes when it starts and when it is asked to stop."""
    source = """
        import signal, sys
        def note(word):
            with open(sys.argv[2], "a") as file:
                file.write(f"{sys.argv[1]} {word}\\n")
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        note("up")
        signal.sigwait([signal.SIGTERM])
        note("down")
    """
    return Role(name=name, argv=command(source, name, str(diary)))


def lines(diary: Path) -> list[str]:
    return diary.read_text().splitlines() if diary.exists() else []


async def test_members_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    async with Supervisor() as supervisor:
        for number, name in enumerate(("first", "second"), start=1):
            await supervisor.start(sleeper(name, diary))
            await until(lambda expected=number: len(lines(diary)) == expected)  # type: ignore[misc]
    assert lines(diary) == ["first up", "second up", "second down", "first down"]


async def test_what_is_to_be_done_before_a_start_is_done_before_each(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    role = sleeper("worker", diary)
    diaries: list[list[str]] = []
    role.before_start = lambda: diaries.append(lines(diary))
    async with Supervisor() as supervisor:
        await supervisor.start(role)
        await until(lambda: lines(diary) == ["worker up"])
        supervisor.renew("worker")
        await until(lambda: len(lines(diary)) == 3)
    assert diaries == [[], ["worker up", "worker down"]]


async def test_a_member_that_is_killed_comes_back(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    role = sleeper("recorder", diary)
    async with Supervisor(QUICK) as supervisor:
        await supervisor.start(role)
        await until(lambda: lines(diary) == ["recorder up"])
        killed = role.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await until(lambda: lines(diary) == ["recorder up", "recorder up"])
        assert role.pid not in (None, killed)


async def test_a_killed_ledger_comes_back_with_its_data(data_dir: Path) -> None:
    server = EmbeddedValkey(data_dir, DEADLINE_S)
    async with Supervisor(QUICK) as supervisor:
        await supervisor.start(server)
        async with redis.Redis.from_url(server.url) as client:
            await client.set("place", "taken")
        killed = server.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await until(lambda: server.pid not in (None, killed))
        async with asyncio.timeout(DEADLINE_S):
            assert await _value(server.url, "place") == b"taken"


async def _value(url: str, key: str) -> object:
    while True:
        try:
            async with redis.Redis.from_url(url) as client:
                return await client.get(key)
        except redis.ConnectionError:
            await asyncio.sleep(0.01)


async def test_a_member_is_renewed_gently_and_that_is_no_crash(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    role = sleeper("recorder", diary)
    async with Supervisor(RestartLimits(crashes_max=0)) as supervisor:
        await supervisor.start(role)
        for times in range(1, 4):
            await until(lambda times=times: lines(diary).count("recorder up") == times)  # type: ignore[misc]
            former = role.pid
            supervisor.renew("recorder")
            supervisor.renew("nobody")
            await until(lambda former=former: role.pid not in (None, former))  # type: ignore[misc]
        await until(lambda: len(lines(diary)) == 7)
    assert lines(diary) == ["recorder up", "recorder down"] * 4


async def test_a_member_that_cannot_be_renewed_is_tried_again(tmp_path: Path) -> None:
    command_path, started = tmp_path / "command", tmp_path / "started"
    command_path.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 1000\n")
    command_path.chmod(0o755)
    role = Role(name="recorder", argv=(str(command_path),))
    async with Supervisor(RestartLimits(delay_first_s=0.01, delay_max_s=0.02, crashes_max=10_000)) as supervisor:
        await supervisor.start(role)
        await until(started.exists)
        command_path.chmod(0o644)
        supervisor.renew("recorder")
        await until(lambda: role.pid is None)
        command_path.chmod(0o755)
        await until(lambda: role.pid is not None)


async def test_a_hang_up_waits_for_a_member_that_is_starting(tmp_path: Path) -> None:
    diary, ready = tmp_path / "diary", tmp_path / "ready"
    source = """
        import pathlib, signal, sys
        assert signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        pathlib.Path(sys.argv[2]).touch()
        while signal.SIGHUP not in signal.sigpending():
            pass
        def hung_up(*_):
            pathlib.Path(sys.argv[1]).write_text("hung up")
        signal.signal(signal.SIGHUP, hung_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        signal.pause()
    """
    role = Role(name="fronts", argv=command(source, str(diary), str(ready)))
    async with Supervisor(QUICK) as supervisor:
        await supervisor.start(role)
        await until(ready.exists)
        supervisor.pass_on("fronts", signal.SIGHUP)
        await until(lambda: lines(diary) == ["hung up"])


async def test_a_crash_loop_ends_with_the_reason() -> None:
    role = Role(name="fronts", argv=command("import sys; sys.exit(7)"))
    async with Supervisor(QUICK) as supervisor:
        await supervisor.start(role)
        with pytest.raises(EmbeddedServerError, match=r"fronts failed 4 times in a row and never ran.*ended with 7"):
            async with asyncio.timeout(DEADLINE_S):
                await supervisor.run_until(asyncio.Event())


class CountedValkey(EmbeddedValkey):
    """A server that counts how often its start is tried."""

    tries = 0

    async def start(self) -> None:
        self.tries += 1
        await super().start()


async def test_a_server_that_has_answered_once_is_started_again_however_soon_it_ended(data_dir: Path) -> None:
    """A disk may fill before it has run for a while."""
    server = CountedValkey(data_dir, DEADLINE_S)
    async with Supervisor(QUICK) as supervisor:
        await supervisor.start(server)
        first, stop = server.pid, asyncio.Event()
        assert first is not None
        files = data_dir / "valkey" / "appendonlydir"
        kept = files.rename(files.with_name("kept"))
        files.write_text("where it wants a directory")
        os.kill(first, signal.SIGKILL)
        running = asyncio.create_task(supervisor.run_until(stop))
        await until(lambda: running.done() or server.tries > QUICK.crashes_max + 3)
        assert not running.done(), "it is tried on"
        files.unlink()
        kept.rename(files)
        await until(lambda: server.pid not in (None, first))
        stop.set()
        await running


async def test_a_member_that_has_run_is_started_again_however_often_it_fails(tmp_path: Path) -> None:
    """As on a disk that stays full."""
    diary, full = tmp_path / "diary", tmp_path / "full"
    source = """
        import pathlib, signal, sys
        is_full = pathlib.Path(sys.argv[2]).exists()
        with open(sys.argv[1], "a") as file:
            file.write("fails\\n" if is_full else "up\\n")
        if is_full:
            sys.exit(1)
        signal.pause()
    """
    role = Role(name="valkey", argv=command(source, str(diary), str(full)))
    limits = RestartLimits(delay_first_s=0.01, delay_max_s=0.02, settled_s=0.1, crashes_max=3)
    async with Supervisor(limits) as supervisor:
        await supervisor.start(role)
        stop = asyncio.Event()
        running = asyncio.create_task(supervisor.run_until(stop))
        await until(lambda: lines(diary) == ["up"])
        await asyncio.sleep(2 * limits.settled_s)  # what it takes, by our own clock
        full.touch()
        assert role.pid is not None
        os.kill(role.pid, signal.SIGKILL)
        await until(lambda: lines(diary).count("fails") > 3 * limits.crashes_max)
        assert not running.done()
        full.unlink()
        await until(lambda: lines(diary)[-1] == "up")
        stop.set()
        await running


def test_delays_double_up_to_a_limit_and_begin_anew_after_a_while() -> None:
    crashes = Crashes("valkey", RestartLimits(delay_first_s=0.1, delay_max_s=5.0, settled_s=5.0, crashes_max=8))
    assert crashes.delay_s(4.9, "") == pytest.approx(0.1)
    assert [crashes.delay_s(0, "") for _ in range(7)] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    with pytest.raises(EmbeddedServerError, match=r"valkey failed 9 times in a row .* the last time: no space"):
        crashes.delay_s(0, "no space")
    assert crashes.delay_s(5.0, "") == pytest.approx(0.1)
    assert max(crashes.delay_s(0, "") for _ in range(5000)) == pytest.approx(5.0)  # for hours


async def test_a_command_that_does_not_exist_is_a_clear_fault() -> None:
    async with Supervisor() as supervisor:
        with pytest.raises(EmbeddedServerError, match="fronts: /nowhere/fronts cannot be started"):
            await supervisor.start(Role(name="fronts", argv=("/nowhere/fronts",)))


async def test_run_until_returns_when_asked(tmp_path: Path) -> None:
    stop = asyncio.Event()
    async with Supervisor() as supervisor:
        await supervisor.start(sleeper("recorder", tmp_path / "diary"))
        asyncio.get_running_loop().call_later(0.05, stop.set)
        async with asyncio.timeout(DEADLINE_S):
            await supervisor.run_until(stop)


async def test_a_member_that_ignores_sigterm_is_killed_in_time(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    source = """
        import pathlib, signal, sys
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path(sys.argv[1]).touch()
        while True:
            signal.pause()
    """
    role = Role(name="stubborn", argv=command(source, str(ready)), stop_timeout_s=0.2)
    async with Supervisor() as supervisor:
        await supervisor.start(role)
        await until(ready.exists)
        began = time.monotonic()
    assert time.monotonic() - began < DEADLINE_S
    assert await role.wait() == -signal.SIGKILL


async def test_children_of_a_crashed_member_are_ended_before_it_starts_again(tmp_path: Path) -> None:
    children = tmp_path / "children"
    source = """
        import signal, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        with open(sys.argv[1], "a") as file:
            file.write(f"{child.pid}\\n")
        signal.pause()
    """
    role = Role(name="fronts", argv=command(source, str(children)))
    async with Supervisor(QUICK) as supervisor:
        await supervisor.start(role)
        await until(lambda: len(lines(children)) == 1)
        assert role.pid is not None
        os.kill(role.pid, signal.SIGKILL)
        await until(lambda: len(lines(children)) == 2)
        await until(lambda: not _runs(int(lines(children)[0])))
    await until(lambda: not _runs(int(lines(children)[1])))


async def test_output_goes_to_the_log_and_the_environment_is_ours_and_more(tmp_path: Path) -> None:
    output = tmp_path / "role.log"
    source = "import os; print(os.environ['EXTRA'], 'PATH' in os.environ, flush=True); import signal; signal.pause()"
    role = Role(name="recorder", argv=command(source), env={"EXTRA": "more"}, log_path=output)
    async with Supervisor() as supervisor:
        await supervisor.start(role)
        await until(lambda: lines(output) == ["more True"])


async def test_kill_9_of_the_supervisor_ends_its_members(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    source = """
        import asyncio, sys
        from pathlib import Path
        from reservasi.supervisor import Role, Supervisor
        async def main():
            role = Role(name="recorder", argv=tuple(sys.argv[2:]))
            async with Supervisor() as supervisor:
                await supervisor.start(role)
                Path(sys.argv[1]).write_text(str(role.pid))
                await supervisor.run_until(asyncio.Event())
        asyncio.run(main())
    """
    pid_file = tmp_path / "pid"
    up = Role(name="up", argv=command(source, str(pid_file), *sleeper("recorder", diary).argv))
    await up.start()
    await until(lambda: lines(diary) == ["recorder up"] and pid_file.exists() and pid_file.read_text() != "")
    assert up.pid is not None
    os.kill(up.pid, signal.SIGKILL)
    await up.wait()
    await until(lambda: lines(diary) == ["recorder up", "recorder down"])
    await until(lambda: not _runs(int(pid_file.read_text())))


def _runs(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be buried by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
