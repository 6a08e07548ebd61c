"""The scenario as Locust runs it, in processes of its own: Locust replaces parts of the standard library."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:1"  # nobody listens there


def _run(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(ROOT / "loadtest/locustfile.py"),
        "--headless",
        "--host",
        NOWHERE,
    ]
    people = ["--people", "1", "--users", "1", "--run-time", "2s", "--stop-timeout", "1", "--only-summary"]
    return subprocess.run(
        [*command, *people, *options], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_history_finds_its_directory_made(tmp_path: Path) -> None:
    history = tmp_path / "reports" / "of today" / "spike.jsonl"
    done = _run("--history", str(history))
    assert history.is_file(), done.stderr


def test_a_history_that_cannot_be_written_ends_the_run_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = _run("--history", str(tmp_path / "file" / "spike.jsonl"))
    assert done.returncode == 4, done.stderr
    assert "the history cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
