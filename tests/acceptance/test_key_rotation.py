"""`reservasi keys rotate` beside a running front and worker: no restart, and nothing becomes unreadable."""

import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")


def cli(stack: Any, *arguments: str) -> Any:
    settings = stack.worker.settings
    environment = {**os.environ, "RESERVASI_CATALOGUE_REFRESH_MS": str(settings.catalogue_refresh_ms)}
    command = [sys.executable, "-m", "reservasi.cli", *arguments, f"--data-dir={settings.data_dir}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout)


async def confirmed(stack: Any, quota: str) -> dict[str, Any]:
    held: dict[str, Any] = await stack.held(quota)
    assert (await stack.managed("POST", held, "/confirm")).status == 200
    return held


async def sealed(stack: Any, held: dict[str, Any]) -> str:
    booking = await stack.worker.records.booking(held["id"])
    assert booking is not None
    return str(booking.sealed)


async def test_a_new_key_seals_and_the_former_one_opens_without_a_restart(stack: Any) -> None:
    quota = await stack.quota()
    before = await confirmed(stack, quota)
    rotated = cli(stack, "keys", "rotate", "--in=1")
    assert [row["state"] for row in cli(stack, "keys", "list")][-2:] in (["seals", "seals soon"], ["opens", "seals"])
    held: list[dict[str, Any]] = []

    async def new_key_seals() -> bool:
        held.append(await confirmed(stack, await stack.quota()))
        return (await sealed(stack, held[-1])).startswith(f"{rotated['key']}.")

    await stack.eventually(new_key_seals)
    assert cli(stack, "keys", "list")[-1] == {**cli(stack, "keys", "list")[-1], "key": rotated["key"], "state": "seals"}
    for each in (before, *held):
        assert b"Siti Aminah" in stack.worker.sealing.open(each["id"], await sealed(stack, each))
        assert (await stack.managed("GET", each)).status == 200
