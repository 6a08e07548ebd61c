"""The small libraries that servers are started with, so that their disk and their clock can be made to fail."""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SOURCES = Path(__file__).parent


class Shim(StrEnum):
    POWER_LOSS = "power_loss"
    DISK_FULL = "disk_full"
    CLOCK = "clock"
    SLOW_DISK = "slow_disk"


def can_build() -> bool:
    return shutil.which("gcc") is not None


@dataclass(frozen=True)
class Shims:
    """The compiled libraries of one run, and the files that control them."""

    directory: Path
    inserted: tuple[Shim, ...]
    fsync_ms: int = 0  # so much longer an fsync takes while the disk is slow

    @property
    def environment(self) -> dict[str, str]:
        if not self.inserted:
            return {}
        return {
            "LD_PRELOAD": ":".join(str(self._library(shim)) for shim in self.inserted),
            "RESERVASI_SYNCED": str(self.directory / "synced"),
            "RESERVASI_DISK_FULL_WHILE": str(self.directory / "full"),
            "RESERVASI_DISK_FULL_REFUSED": str(self.directory / "refused"),
            "RESERVASI_CLOCK_SHIFT": str(self.directory / "shift"),
            "RESERVASI_FSYNC_MS": str(self.fsync_ms),
            "RESERVASI_FSYNC_SLOW_WHILE": str(self.directory / "slow"),
        }

    def check_under(self, pid: int) -> None:
        """Raise a RuntimeError where a server does not run with all of them."""
        maps = Path(f"/proc/{pid}/maps").read_text()
        for shim in self.inserted:
            if str(self._library(shim)) not in maps:
                raise RuntimeError(f"the server {pid} runs without {shim}")

    def synced_bytes(self, file: Path) -> int:
        """How much of an append-only file was on the disk after the last fsync."""
        note = self.directory / "synced" / file.name
        return int(note.read_text()) if note.exists() else 0

    def shift_clock(self, seconds: int) -> None:
        with (self.directory / "shift").open("r+b") as file:  # the same file, which the server has mapped
            file.write(struct.pack("=q", seconds))

    @property
    def writes_refused(self) -> int:
        return (self.directory / "refused").stat().st_size

    def disk_full(self, under: Path) -> AbstractContextManager[None]:
        """No file below this directory can grow meanwhile."""
        return self._signed("full", str(under))

    def disk_slow(self) -> AbstractContextManager[None]:
        """Every fsync takes `fsync_ms` longer meanwhile."""
        return self._signed("slow", "")

    @contextmanager
    def _signed(self, name: str, content: str) -> Iterator[None]:
        """A file of that name is there meanwhile, never without its content."""
        draft = self.directory / f"{name}.new"
        draft.write_text(content)
        sign = draft.rename(self.directory / name)
        try:
            yield
        finally:
            sign.unlink()

    def _library(self, shim: Shim) -> Path:
        return self.directory / f"{shim}.so"


@contextmanager
def built(wanted: tuple[Shim, ...], *, fsync_ms: int = 0) -> Iterator[Shims]:
    """Compile these; their files are gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="rv-shims-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # the servers' account must reach them
        shims = Shims(directory, wanted, fsync_ms)
        (directory / "synced").mkdir()
        (directory / "synced").chmod(0o777)  # the server that runs as another account writes there
        (directory / "refused").touch()
        (directory / "refused").chmod(0o666)
        (directory / "shift").write_bytes(struct.pack("=q", 0))
        for shim in wanted:
            source, library = SOURCES / f"{shim}.c", directory / f"{shim}.so"
            command = ("gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl")
            compiler = subprocess.run(command, capture_output=True, text=True, check=False)
            if compiler.returncode != 0:
                raise RuntimeError(f"{source.name} cannot be compiled: {compiler.stderr}")
        yield shims
