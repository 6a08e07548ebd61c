"""The systemd units: their settings, and that systemd accepts them."""

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from reservasi.settings import Settings

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "config" / "systemd").glob("*.service"))
PROGRAM = "/opt/reservasi/.venv/bin/reservasi"
EXPOSURE_MAX = 20  # tenths, of systemd's own scale from 0 to 10
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "User": "reservasi",
}

of_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")


def service(path: Path) -> dict[str, str]:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    assert parser.sections() == ["Unit", "Service", "Install"]
    return dict(parser["Service"])


def test_both_kinds_of_process_have_a_unit() -> None:
    assert [path.name for path in UNITS] == ["reservasi-front.service", "reservasi-worker.service"]
    front, worker = map(service, UNITS)
    assert (front["ExecStart"], worker["ExecStart"]) == (f"{PROGRAM} api", f"{PROGRAM} worker")
    assert front["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert "ExecReload" not in worker  # a restart loses nothing
    assert front["Type"] == "notify"
    fields = Settings.model_fields
    assert int(front["LimitNOFILE"]) > fields["connections_max"].default + 1024
    for unit in (front, worker):
        assert unit.items() >= HARDENED.items()
        assert (unit["Restart"], unit["KillMode"]) == ("always", "mixed")
        assert int(unit["TimeoutStopSec"]) > fields["shutdown_timeout_s"].default
        assert unit["Environment"].split()[0] == f"RESERVASI_DATA_DIR=/var/lib/{unit['StateDirectory']}"
        names = [each.partition("=")[0].removeprefix("RESERVASI_").lower() for each in unit["Environment"].split()]
        assert set(names) <= fields.keys()


@of_systemd
def test_systemd_takes_them(tmp_path: Path) -> None:
    for path in UNITS:  # verified as they are, but for a program that is here
        text = path.read_text()
        assert text.count(PROGRAM) == 1
        (tmp_path / path.name).write_text(text.replace(PROGRAM, sys.executable))
    paths = [str(tmp_path / path.name) for path in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False, timeout=30
    )
    ours = [line for line in done.stderr.splitlines() if "reservasi" in line]
    assert (done.returncode, ours) == (0, [])


@of_systemd
def test_little_is_left_open() -> None:
    words = ["security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", "--no-pager", *map(str, UNITS)]
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, timeout=30)
    if "unrecognized option" in done.stderr or "not supported" in done.stderr:
        pytest.skip("this systemd does not judge units that are not installed")
    assert done.returncode == 0, done.stdout + done.stderr
