"""nginx with the shipped file before a front, for tests and loads, on a port and in a directory of its own."""

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from loadtest.stage.ports import free_port, listens
from reservasi.embedded.process import ServerKind, ServerProcess

CONFIGURATION = Path(__file__).parents[2] / "config" / "nginx" / "reservasi.conf"
FRONT = "server 127.0.0.1:8080 "  # as the file has it, once a group
START_S = 10.0
STOP_S = 10.0
KIND = ServerKind(name="nginx", death_signal=signal.SIGTERM, stop_signals=(signal.SIGTERM,))
MAIN = """
daemon off;
{user}
pid {prefix}/nginx.pid;
error_log {prefix}/error.log;
worker_processes 1;
events {{ worker_connections 8192; }}
http {{
    access_log {prefix}/access.log;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    include {prefix}/reservasi.conf;
}}
"""


def nginx_path() -> str | None:
    """Where the program is; Debian keeps it where only root looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@asynccontextmanager
async def nginx(prefix: Path, origin: str, *changes: tuple[str, str]) -> AsyncIterator[int]:
    """nginx with the shipped file, but for `changes`, before `origin` (host:port); the port where it answers.

    Raises:
        RuntimeError: it is not installed; EmbeddedServerError: it does not start.
        ValueError: a text to change is not in the file exactly once.
    """
    program = nginx_path()
    if program is None:
        raise RuntimeError("nginx is not on this machine: apt-get install nginx")
    port = free_port()
    _write(prefix, port, origin, changes)
    errors = prefix / "error.log"
    server = ServerProcess(KIND, log=errors, lock=prefix / "nginx.lock", account=None)
    argv = [program, "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", str(errors)]
    await server.start(argv, stale=(), ready=lambda _: listens(port), timeout_s=START_S)
    try:
        yield port
    finally:
        await server.stop(STOP_S)


def _write(prefix: Path, port: int, origin: str, changes: Iterable[tuple[str, str]]) -> None:
    """The shipped file with other addresses and other places for its files, and a main file around it."""
    text = CONFIGURATION.read_text()
    for old, new in (
        ("listen 80 ", f"listen 127.0.0.1:{port} "),
        ("/var/cache/nginx/reservasi ", f"{prefix}/cache "),
        ("/var/log/nginx/error.log ", f"{prefix}/error.log "),
        *changes,
    ):
        if text.count(old) != 1:
            raise ValueError(f"not once in {CONFIGURATION.name}: {old!r}")
        text = text.replace(old, new)
    (prefix / "reservasi.conf").write_text(text.replace(FRONT, f"server {origin} "))
    user = "user root;" if os.geteuid() == 0 else ""
    (prefix / "nginx.conf").write_text(MAIN.format(prefix=prefix, user=user))
