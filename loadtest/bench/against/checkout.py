"""Checks out another revision into a temporary directory and installs it there."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.figures import Say
from loadtest.stage.environment import ROOT

INSTALL_TIMEOUT_S = 600
GIT_TIMEOUT_S = 60
SHOWN_CHARS_MAX = 2000
INHERITED = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "VIRTUAL_ENV", "PYTHONPATH")  # of this tree's own run


class NoRevision(RuntimeError):
    """There is nothing to compare with; the message says why."""


@dataclass(frozen=True)
class Build:
    name: str
    root: Path

    @property
    def python(self) -> Path:
        return self.root / ".venv" / "bin" / "python"

    @property
    def reservasi(self) -> tuple[str, ...]:
        return (str(self.python), "-m", "reservasi.cli")

    def run(self, command: Sequence[str], timeout_s: float) -> "subprocess.CompletedProcess[str]":
        """Run a command in that tree, without this tree's environment variables."""
        environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )


HERE = Build("this tree", ROOT)


def commit_of(revision: str) -> str:
    if shutil.which("git") is None:
        raise NoRevision("--against needs git")
    result = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if result.returncode:
        why = result.stderr.strip() or "no commit, branch or tag of this repository has that name"
        raise NoRevision(f"--against {revision}: {why}")
    return result.stdout.strip()


@contextmanager
def checked_out(revision: str, say: Say) -> Iterator[Build]:
    """A revision, installed from its own lock file and removed at the end of the block."""
    commit = commit_of(revision)
    with tempfile.TemporaryDirectory(prefix="rv-against-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)  # the servers that it starts run under another account when we are root
        build = Build(revision, Path(directory) / "tree")
        added = _git("worktree", "add", "--detach", "--force", str(build.root), commit)
        try:
            if added.returncode:
                raise NoRevision(f"--against {revision}: it cannot be checked out: {added.stderr.strip()}")
            say(f"installing {revision} ({commit[:7]}) from its own lock file")
            _install(build)
            yield build
        finally:
            _git("worktree", "remove", "--force", "--force", str(build.root))
            _git("worktree", "prune")


def _install(build: Build) -> None:
    done = build.run(("make", "--no-print-directory", ".venv/.dev"), INSTALL_TIMEOUT_S)
    if done.returncode:
        shown = (done.stdout + done.stderr).strip()[-SHOWN_CHARS_MAX:]
        raise NoRevision(f"--against {build.name}: it cannot be installed:\n{shown}")


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return HERE.run(("git", *arguments), GIT_TIMEOUT_S)
