"""The trace of a run, line by line; its hash tells whether two runs were equal."""

import asyncio
import hashlib
import zlib


class Trace:
    """Counts and hashes what happens; keeps the lines only where somebody wants to read them."""

    def __init__(self, *, keep: bool = False, hashed: bool = True) -> None:
        """With neither it notes nothing: most runs are only judged, and writing costs a tenth of one."""
        self.lines: list[str] = []
        self.count = 0
        self.notes = keep or hashed
        self._keep = keep
        self._hash = hashlib.blake2b(digest_size=16)

    def __call__(self, who: str, what: str, detail: str = "") -> None:
        """One thing that happened now."""
        if not self.notes:
            return
        line = f"{asyncio.get_running_loop().time():11.6f} {who:10} {what} {detail}".rstrip()
        self._hash.update(line.encode() + b"\n")
        self.count += 1
        if self._keep:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """The hash of all lines so far."""
        return self._hash.hexdigest()


def mark(value: bytes) -> str:
    """A few letters that stand for many bytes."""
    return f"{zlib.crc32(value):08x}"
