"""Another revision beside this tree, with an environment of its own, gone when the block ends."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
INSTALL_TIMEOUT_S = 600
SAID_CHARS_MAX = 2000
INHERITED = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "VIRTUAL_ENV", "PYTHONPATH")  # of this tree's own run


class NoRevision(RuntimeError):
    """There is nothing to compare with; the message says why."""


@dataclass(frozen=True)
class Build:
    """A tree with its environment."""

    name: str
    root: Path

    @property
    def python(self) -> Path:
        return self.root / ".venv" / "bin" / "python"

    @property
    def reservasi(self) -> tuple[str, ...]:
        return (str(self.python), "-m", "reservasi.cli")

    def environment(self) -> dict[str, str]:
        """What its processes are started with: nothing of this tree."""
        return {name: value for name, value in os.environ.items() if name not in INHERITED}


HERE = Build("this tree", ROOT)


def commit_of(revision: str) -> str:
    """The commit that a revision names.

    Raises:
        NoRevision: it names none, or this is no checkout.
    """
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode:
        why = found.stderr.strip() or "no commit, branch or tag of this repository has that name"
        raise NoRevision(f"--against {revision}: {why}")
    return found.stdout.strip()


@contextmanager
def checked_out(revision: str, say: Callable[[str], None]) -> Iterator[Build]:
    """A revision, installed from its own lock file.

    Raises:
        NoRevision: it does not exist, or it cannot be installed.
    """
    commit = commit_of(revision)
    with tempfile.TemporaryDirectory(prefix="rv-against-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)  # the servers that it starts run under another account when we are root
        root = Path(directory) / "tree"
        added = _git("worktree", "add", "--detach", "--force", str(root), commit)
        try:
            if added.returncode:
                raise NoRevision(f"--against {revision}: it cannot be checked out: {added.stderr.strip()}")
            build = Build(revision, root)
            say(f"installing {revision} ({commit[:7]}) from its own lock file")
            _install(build)
            yield build
        finally:
            _git("worktree", "remove", "--force", "--force", str(root))
            _git("worktree", "prune")


def _install(build: Build) -> None:
    target = str(build.python.parent.parent.relative_to(build.root) / ".dev")  # .venv/.dev
    try:
        done = subprocess.run(
            ("make", "--no-print-directory", target),
            cwd=build.root,
            env=build.environment(),
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NoRevision(f"--against {build.name}: its installation took over {INSTALL_TIMEOUT_S} s") from error
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-SAID_CHARS_MAX:]
        raise NoRevision(f"--against {build.name}: it cannot be installed:\n{said}")


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    raise NoRevision("--against needs git")
