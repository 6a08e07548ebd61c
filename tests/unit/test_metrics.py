"""Metrics: over several processes, with the unit in the name and bounded labels."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from reservasi import metrics

LABELS = {
    "opening",  # while it is live; removed afterwards
    "program",
    "fault",
    "method",
    "route",
    "outcome",
    "role",
    "command",
    "kind",
    "what",
    "le",
    "reason",
    "state",
    "problem",
}
COUNTED = """
from reservasi import metrics
metrics.RECORDED_EVENTS.labels("demo").inc({events})
metrics.RECORDED_SEQ.labels("demo").set({events})
"""
KILLED = """
import os, signal
from reservasi import metrics
metrics.RECORDER_ACTIVE.labels("demo").set(1)
metrics.LEDGER_OWNED.labels("demo").set(1)
metrics.RECORDED_EVENTS.labels("demo").inc(5)
os.kill(os.getpid(), signal.SIGKILL)
"""
FORKED = """
import os
from reservasi import metrics
metrics.LEDGER_RETRIES.inc()
forked = os.fork()
metrics.LEDGER_RETRIES.inc()
if forked:
    os.waitpid(forked, 0)
    print(os.getpid(), forked)
"""
LIVING = """
from reservasi import metrics
metrics.RECORDER_ACTIVE.labels("demo").set(1)
metrics.LEDGER_OWNED.labels("demo").set(0)
print(metrics.exposition().decode())
"""


def test_a_killed_process_no_longer_counts_but_what_it_did_does(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)
    assert len(list(tmp_path.glob("gauge_live*"))) == 4
    done = subprocess.run([sys.executable, "-c", LIVING], env=environment, check=True, capture_output=True, text=True)
    assert 'reservasi_recorder_active{program="demo"} 1.0' in done.stdout
    assert 'reservasi_ledger_owned{program="demo"} 0.0' in done.stdout
    assert 'reservasi_recorded_events_total{program="demo"} 10.0' in done.stdout


def test_a_fork_counts_in_files_of_its_own(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", FORKED], env=environment, check=True, capture_output=True, text=True)
    assert {path.stem for path in tmp_path.glob("counter_*")} == {f"counter_{pid}" for pid in done.stdout.split()}


def test_the_exposition_adds_up_all_processes(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for events in (3, 4):
        subprocess.run([sys.executable, "-c", COUNTED.format(events=events)], env=environment, check=True)
    show = "from reservasi import metrics; print(metrics.exposition().decode())"
    done = subprocess.run([sys.executable, "-c", show], env=environment, check=True, capture_output=True, text=True)
    assert 'reservasi_recorded_events_total{program="demo"} 7.0' in done.stdout


def test_names_are_ours_and_labels_are_bounded() -> None:
    for metric in REGISTRY.collect():
        if metric.name.startswith(("python_", "process_")):
            continue
        assert metric.name.startswith("reservasi_"), metric.name
        assert metric.documentation.endswith("."), metric.name
        assert {label for sample in metric.samples for label in sample.labels} <= LABELS


def test_many_values_at_once_count_as_one_by_one() -> None:
    registry = CollectorRegistry()
    values = [0.0, 0.0005, 0.001, 0.0011, 0.3, 10.0, 11.0, 0.3]
    singly, together = (
        Histogram(name, "x", buckets=metrics.STORE_SECONDS, registry=registry) for name in ("singly", "together")
    )
    for value in values:
        singly.observe(value)
    metrics.observe_all(together, values[:3])
    metrics.observe_all(together, values[3:])
    metrics.observe_all(together, [])

    def samples(name: str) -> list[tuple[str, dict[str, str], float]]:
        (family,) = [each for each in registry.collect() if each.name == name]
        kept = [sample for sample in family.samples if not sample.name.endswith("_created")]
        return [(sample.name.removeprefix(name), sample.labels, sample.value) for sample in kept]

    assert samples("singly") == samples("together")


def test_gathered_values_are_observed_when_asked_for_or_when_there_are_many() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("gathered", "x", registry=registry)
    gathered = metrics.Gathered(histogram)
    for _ in range(gathered.MOST + 1):
        gathered.add(1.0)
    assert registry.get_sample_value("gathered_count") == gathered.MOST
    gathered.observe()
    gathered.observe()
    assert registry.get_sample_value("gathered_count") == gathered.MOST + 1
