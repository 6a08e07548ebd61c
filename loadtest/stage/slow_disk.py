"""Servers whose disk can be made slow: they are started with a small library that delays each fsync when told to."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from reservasi.embedded import process

SOURCE = Path(__file__).with_name("slow_fsync.c")
LIBRARY = "slow_fsync.so"


def can_build() -> bool:
    """Whether there is a compiler."""
    return shutil.which("gcc") is not None


@dataclass(frozen=True)
class SlowDisk:
    """The compiled library, and how long it delays an fsync."""

    library: Path
    fsync_ms: int

    @property
    def environment(self) -> dict[str, str]:
        """What a program must find in its environment so that its disk can be made slow."""
        return {
            "LD_PRELOAD": str(self.library),
            "RESERVASI_FSYNC_MS": str(self.fsync_ms),
            "RESERVASI_FSYNC_SLOW_WHILE": str(self._sign),
        }

    @property
    def _sign(self) -> Path:
        """The file whose existence makes the disk slow."""
        return self.library.with_name("slow")

    @contextmanager
    def inserted(self) -> Iterator[None]:
        """Embedded servers that are started meanwhile stand on this disk; it is not slow yet."""
        with patch.dict(process.ENVIRONMENT, self.environment):
            yield

    @contextmanager
    def slowed(self) -> Iterator[None]:
        """It is slow meanwhile."""
        self._sign.touch()
        try:
            yield
        finally:
            self._sign.unlink()

    def check_under(self, pids: Mapping[str, int]) -> None:
        """Whether these servers stand on it.

        Raises:
            RuntimeError: one does not.
        """
        for name, pid in pids.items():
            if LIBRARY not in Path(f"/proc/{pid}/maps").read_text():
                raise RuntimeError(f"{name} does not stand on the slow disk")


@asynccontextmanager
async def slow_disk(fsync_ms: int) -> AsyncIterator[SlowDisk]:
    """A slow disk, until the block ends.

    Raises:
        RuntimeError: the library cannot be compiled.
    """
    with _open_directory() as directory:
        library = directory / LIBRARY
        command = ("gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl")
        compiler = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, said = await compiler.communicate()
        if compiler.returncode != 0:
            raise RuntimeError(f"{SOURCE.name} cannot be compiled: {said.decode()}")
        yield SlowDisk(library, fsync_ms)


@contextmanager
def _open_directory() -> Iterator[Path]:
    """A directory that the servers' account can read, and that is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="rv-slow-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
