"""The commands that a person runs while a fault lasts."""

import asyncio
import json
import subprocess
from typing import Any

from loadtest.faults.fault import Missed, Scene
from loadtest.stage.service import CLI

TIMEOUT_S = 300.0


async def command(scene: Scene, *words: str, code: int = 0) -> Any:
    """What a command of `reservasi` says about the program, as JSON.

    Raises:
        Missed: it ends with another exit code.
    """
    return await asyncio.to_thread(_run, scene, ("--program", scene.program), words, code)


async def plain_command(scene: Scene, *words: str, code: int = 0) -> Any:
    """Run a command without `--program`, for those that take the program as an argument, and read its JSON."""
    return await asyncio.to_thread(_run, scene, (), words, code)


def _run(scene: Scene, program: tuple[str, ...], words: tuple[str, ...], code: int) -> Any:
    done = subprocess.run(
        (*CLI, *words, *program, "--data-dir", str(scene.service.data_dir), "--json"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=scene.service.log_path.parent,
    )
    if done.returncode != code:
        said = f"{done.stdout[-1000:]}{done.stderr[-1000:]}"
        raise Missed(f"`reservasi {' '.join(words)}` ended with {done.returncode}: {said}")
    return json.loads(done.stdout)
