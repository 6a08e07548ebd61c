"""The alerts that the page about monitoring gives: Prometheus takes them, and each fires when it must."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.page_names import fences
from tests.pages import ROOT

PAGE = ROOT / "docs" / "operations" / "monitoring.md"
DELAYS = [f'reservasi_record_delay_seconds_bucket{{program="p",le="{le}"}}' for le in ("1", "5", "+Inf")]
ALERTS = {  # by alert: series with their values while it is well and while the alert must fire
    "ReservasiLedgerFenced": {'reservasi_ledger_owned{program="p"}': ("1x40", "0x40")},
    "ReservasiNotServed": {'reservasi_worker_serves{program="p"}': ("1x40", "0x40")},
    "ReservasiRecorderStopped": {'reservasi_recorder_stalled{program="p"}': ("0x40", "1x40")},
    "ReservasiRecordingSlow": dict.fromkeys(DELAYS[1:], ("0+60x40", "0+60x40")) | {DELAYS[0]: ("0+60x40", "0x40")},
    "ReservasiDeadLetters": {'reservasi_unapplied_events{program="p"}': ("0x40", "1x40")},
    "ReservasiDrift": {'reservasi_drift{program="p",kind="counts"}': ("0x40", "2x40")},
    "ReservasiJournalGap": {'reservasi_journal_gaps{program="p"}': ("0x40", "1x40")},
    "ReservasiChangesLost": {'reservasi_lost_changes_total{program="p"}': ("0x40", "0+1x40")},
    "ReservasiDamagedValue": {'reservasi_ledger_damaged_total{program="p"}': ("0x40", "0+1x40")},
    "ReservasiPromisesAtRisk": {'reservasi_ledger_at_risk{kind="fsync"}': ("0x40", "1x40")},
    "ReservasiFrontNotReady": {'reservasi_view_ready{program="p"}': ("1x40", "0x40")},
    "ReservasiClaimsFail": {'reservasi_claims_total{outcome="failed"}': ("0x40", "0+1x40")},
    "ReservasiMissing": {'up{job="reservasi"}': ("1x40", "0x40")},
}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The alerts as a file of Prometheus, in its own directory."""
    if shutil.which("promtool") is None:
        assert os.environ.get("CI") != "true", "promtool must be installed where CI runs"
        pytest.skip("promtool is not on this machine: apt-get install prometheus")
    (text,) = (text for text in fences(PAGE.read_text(), "yaml") if text.startswith("groups:"))
    file = tmp_path / "rules.yml"
    file.write_text(text)
    return file


def promtool(*words: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_alerts(rules: Path) -> None:
    assert re.findall(r"alert: (\w+)", rules.read_text()) == list(ALERTS)
    assert f"SUCCESS: {len(ALERTS)} rules found" in promtool("check", "rules", rules)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_when_it_must_and_only_then(alert: str, rules: Path) -> None:
    labels = dict(re.findall(r'(\w+)="([^"]*)"', next(iter(ALERTS[alert]))))
    labels.pop("le", None)
    cases = [
        {
            "interval": "15s",
            "input_series": [{"series": name, "values": each[number]} for name, each in ALERTS[alert].items()],
            "alert_rule_test": [{"alertname": alert, "eval_time": "9m", "exp_alerts": expected}],
        }
        for number, expected in enumerate(([], [{"exp_labels": labels}]))
    ]
    file = rules.with_name("cases.yml")
    file.write_text(json.dumps({"rule_files": [rules.name], "evaluation_interval": "15s", "tests": cases}))
    promtool("test", "rules", file)
