"""The scripts in findings/ have the form that their README states, and the README lists each of them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "findings"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
PINNED = re.compile(r"\b[\w@/.-]+(?:==|@|=)\d+[\w.:+~-]*")
INSTALLS = re.compile(r"^.*(?:pip\"? install|npm install|apt-get download).*$", re.MULTILINE)


def faults_of(text: str) -> list[str]:
    """What is wrong with a script; nothing where it has the form."""
    comment = "\n".join(line for line in text.splitlines()[:20] if line.startswith("#"))
    wanted = {
        "what one would guess": re.search(r"would guess", comment),
        "whom it hurts": re.search(r"hurts", comment),
        "what helps": re.search(r"^# What helps: ", comment, re.MULTILINE),
        "the day": re.search(r"\b20\d\d-\d\d-\d\d\b", comment),
        "a version": re.search(r"\b\d+\.\d+", comment),
        "set -euo pipefail": re.search(r"^set -euo pipefail$", text, re.MULTILINE),
        "a temporary folder": "mktemp -d" in text and "rm -rf" in text,
        "a way to fail": re.search(r"exit 1|sys\.exit\(", text),
        "none of our code": "reservasi" not in text,
    }
    faults = [f"it lacks {what}" for what, match in wanted.items() if not match]
    installs = INSTALLS.findall(text)
    return faults + [
        f"it pins nothing: {line.strip()}" for line in installs or ["no install"] if not PINNED.search(line)
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_finding_has_the_form(script: Path) -> None:
    assert faults_of(script.read_text()) == []
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_finding_can_be_parsed(script: Path) -> None:
    shell = script.read_text().splitlines()[0].removeprefix("#!").split()[-1]
    subprocess.run([shutil.which(Path(shell).name) or shell, "-n", script], check=True)


def test_a_script_without_the_form_is_found() -> None:
    good = SCRIPTS[0].read_text()
    for was, is_now in (
        ("would guess", "would think"),
        ("hurts", "harms"),
        ("What helps", "Remedy"),
        ("set -euo pipefail", "set -eu"),
        ("mktemp -d", "pwd"),
        ("aiohttp==3.14.5", "aiohttp"),
        ("import asyncio", "import reservasi"),
    ):
        assert faults_of(good.replace(was, is_now)), was


def test_the_readme_lists_every_finding_once() -> None:
    listed = re.findall(r"^\| \[([\w-]+\.sh)\]\(\1\) \| .+ \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert listed == [script.name for script in SCRIPTS]
