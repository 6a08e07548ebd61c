"""docs/reference/metrics.md, from the metrics that are declared."""

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from docs.generate.markdown import code, codes, document, table
from reservasi import metrics
from reservasi.worker.reconciliation import KINDS

Collector = Counter | Gauge | Histogram
TITLE = "Metrics"
WHERE = """\
The fronts expose their metrics at `/metrics` of `admin_port`, the worker exposes its own at `/metrics` of
`worker_admin_port`, both in Prometheus' text format. No label names a person, a reservation or a quota.

The processes of one role are shown as one: counters and histograms are added up, and the column *processes* says how a
gauge is combined. [Monitoring](../operations/monitoring.md) says what to watch."""
COMBINED = {  # by prometheus_client's name for the mode
    "livesum": "sum",
    "livemin": "least",
    "livemax": "greatest",
    "livemostrecent": "most recent",
}
LABEL_VALUES = (
    ("reservasi_claims_total", "outcome", metrics.CLAIM_OUTCOMES),
    ("reservasi_drift", "kind", KINDS),
    ("reservasi_recorder_faults_total", "fault", metrics.RECORDER_FAULTS_KNOWN),
)


def collectors() -> list[Collector]:
    """Every metric, in the order of its declaration."""
    return [value for value in vars(metrics).values() if isinstance(value, Collector)]


def name(collector: Collector) -> str:
    """Its name in the exposition."""
    return str(collector._name) + ("_total" if isinstance(collector, Counter) else "")


def page() -> str:
    rows = [
        (
            code(name(each)),
            each._type,
            codes(each._labelnames),
            COMBINED[each._multiprocess_mode] if isinstance(each, Gauge) else "",
            each._documentation,
        )
        for each in collectors()
    ]
    buckets = [
        (code(name(each)), ", ".join(f"{bound:g}" for bound in each._upper_bounds[:-1]))
        for each in collectors()
        if isinstance(each, Histogram)
    ]
    values = [(code(metric), code(label), codes(known)) for metric, label, known in LABEL_VALUES]
    processes = [
        (code(each.name + ("_total" if each.type == "counter" else "")), each.type, each.documentation)
        for each in ProcessCollector(registry=None).collect()
    ]
    return document(
        TITLE,
        "reservasi/metrics.py",
        WHERE,
        table(("metric", "type", "labels", "processes", "meaning"), rows),
        "## Buckets of the histograms",
        table(("metric", "upper bounds, besides `+Inf`"), buckets),
        "## Values of labels",
        table(("metric", "label", "values"), values),
        "## Processes",
        "One sample for each process; the label `process` names it, such as `front-0`.",
        table(("metric", "type", "meaning"), processes),
    )
