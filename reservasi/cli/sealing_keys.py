"""`reservasi keys`: lists the sealing keys of the key ring, and adds a new one while everything runs."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from reservasi.cli.invocation import settings_of
from reservasi.cli.output import AsJson, DataDir, moment, out, show, show_rows
from reservasi.errors import ConfigurationError
from reservasi.sealing import KEY_BYTES, KeyRing, load_key_ring, replace_key_ring

app = typer.Typer(help="The sealing keys of the key ring: list, rotate.", no_args_is_help=True)

TAKES_OVER_IN_S = 60
LOOKS = 3  # reads of the file by every process before the new key seals


@app.command("list")
def list_keys(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the sealing keys, never their values: which one seals now, and which only open."""
    ring = load_key_ring(settings_of(data_dir=data_dir).secrets_path, create=False)
    show_rows(described(ring, _now_ms()), as_json=as_json)


@app.command("rotate")
def rotate(
    takes_over_in: Annotated[
        int | None,
        typer.Option("--in", min=0, max=86_400, help="seconds until it seals; every host must have the file then"),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add a sealing key that becomes active soon; running processes read it, and old envelopes stay readable.

    Tickets and everything that was sealed before stay valid with the former keys.
    """
    settings = settings_of(data_dir=data_dir)
    least_s = ceil(LOOKS * settings.catalogue_refresh_ms / 1000)
    in_s = max(TAKES_OVER_IN_S, least_s) if takes_over_in is None else takes_over_in
    if in_s < least_s:
        raise typer.BadParameter(f"it takes at least {least_s} s until all running processes have read the file")
    path = settings.secrets_path
    with _alone(path):
        now_ms = _now_ms()
        ring = rotated(load_key_ring(path, create=False), now_ms, in_s * 1000)
        replace_key_ring(path, ring)
    show({"key": ring.next, "seals_from": moment(ring.next_from_ms), "file": str(path)}, as_json=as_json)
    if not as_json:
        out.print("[dim]Copy the file to every other host of this deployment before then, and make a backup of it.[/]")


def rotated(ring: KeyRing, now_ms: int, in_ms: int) -> KeyRing:
    """The key ring with a new key that becomes active later.

    Raises:
        ConfigurationError: a key that was added before is not active yet.
    """
    if ring.next and now_ms < ring.next_from_ms:
        raise ConfigurationError(f"{ring.next} is not active yet: it will be at {moment(ring.next_from_ms)}")
    numbers = [int(key_id[1:]) for key_id in ring.sealing if key_id[1:].isdecimal()]
    new = f"k{max(numbers, default=0) + 1}"
    return msgspec.structs.replace(
        ring,
        active=ring.active_at(now_ms),
        next=new,
        next_from_ms=now_ms + in_ms,
        sealing={**ring.sealing, new: secrets.token_bytes(KEY_BYTES)},
    )


def described(ring: KeyRing, now_ms: int) -> list[dict[str, Any]]:
    """One row per key, in the order in which they were added."""
    active = ring.active_at(now_ms)
    states = {active: "seals"}
    if ring.next and ring.next != active:
        states[ring.next] = "seals soon"
    return [
        {
            "key": key_id,
            "state": states.get(key_id, "opens"),
            "seals_from": moment(ring.next_from_ms) if key_id == ring.next else None,
        }
        for key_id in ring.sealing
    ]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lock out concurrent rotations."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigurationError(f"the key ring {path} cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
