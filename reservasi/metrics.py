"""Every metric of the service; its name has the unit, and every label is bounded.

A label is a program (as many as the catalogue holds), an opening whose waiting room is live, a role, a route template
or an outcome: never a person, a reservation or a quota. With `PROMETHEUS_MULTIPROC_DIR` set, all processes of one role
write there and `exposition` aggregates them; therefore every gauge says how its processes are combined.
"""

import bisect
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from reservasi.metrics_directory import VARIABLE as METRICS_DIRECTORY
from reservasi.process_metrics import ProcessesCollector


def _known_process_id() -> Callable[[], int]:
    """Returns this process' id, which is looked up again after a fork only: it is a system call."""
    process_id = os.getpid()

    def look_up() -> None:
        nonlocal process_id
        process_id = os.getpid()

    os.register_at_fork(after_in_child=look_up)
    return lambda: process_id


if os.environ.get(METRICS_DIRECTORY):  # the library would look it up at each increment
    values.ValueClass = values.MultiProcessValue(_known_process_id())  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STORE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# -- the ledger, seen from a front ------------------------------------------------------------------------------

BATCH_ITEMS = Histogram(
    "reservasi_batch_items", "Commands in one ledger call.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
)
BATCH_SECONDS = Histogram(
    "reservasi_batch_seconds", "Time of one ledger call, retries included.", buckets=STORE_SECONDS
)
QUEUE_SECONDS = Histogram(
    "reservasi_queue_seconds", "Time that the oldest claim of a batch waited to be sent.", buckets=STORE_SECONDS
)
CLAIMS_LIMIT = Gauge(
    "reservasi_claims_limit",
    "Claims of a program that may be under way in one front; follows their delay. The least of all fronts.",
    ["program"],
    multiprocess_mode="livemin",
)
LEDGER_RETRIES = Counter("reservasi_ledger_retries_total", "Ledger calls that were sent again after a lost reply.")
LEDGER_DAMAGED = Counter(
    "reservasi_ledger_damaged_total",
    "Commands refused since something stored in the ledger that they need is damaged: run `reservasi reconcile`.",
    ["program"],
)
LEDGER_UNSAFE = Counter(
    "reservasi_ledger_unsafe_total",
    "Ledger calls that were carried out while too few replicas acknowledged them in time.",
    ["program"],
)

VIEW_READY = Gauge(
    "reservasi_view_ready",
    "Whether the availability view follows the journal (1), by program; the least of all fronts.",
    ["program"],
    multiprocess_mode="livemin",
)
VIEW_RESYNCS = Counter("reservasi_view_resyncs_total", "Snapshots taken by the availability view.", ["program"])
LEDGER_OWNED = Gauge(
    "reservasi_ledger_owned",
    "Whether the ledger may sell (1), or is fenced until recovery has compared it with the records (0).",
    ["program"],
    multiprocess_mode="livemax",
)
LEDGER_EPOCH = Gauge(
    "reservasi_ledger_epoch",
    "The lineage that the ledger is owned under; it grows with each restart, failover and rebuild.",
    ["program"],
    multiprocess_mode="livemax",
)
LEDGER_AT_RISK = Gauge(
    "reservasi_ledger_at_risk",
    "Servers of the ledger that may lose what was promised, by what they lack, as a worker sees (alarm when not 0).",
    ["kind"],
    multiprocess_mode="livemax",
)
REBUILD_SECONDS = Histogram(
    "reservasi_rebuild_seconds",
    "Time of one rebuild of a ledger from the records.",
    ["program"],
    buckets=(0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
)
LOST_CHANGES = Counter(
    "reservasi_lost_changes_total",
    "Changes that a ledger accepted and lost before they were recorded, as far as is known (alarm when not 0).",
    ["program"],
)
DRIFT = Gauge(
    "reservasi_drift",
    "Differences between ledger and records at the last comparison, by kind (alarm when not 0).",
    ["program", "kind"],
    multiprocess_mode="livemax",
)
JOURNAL_GAPS = Gauge(
    "reservasi_journal_gaps",
    "Recorded entries that do not begin where the one before them ends (alarm when not 0).",
    ["program"],
    multiprocess_mode="livemax",
)
UNAPPLIED_EVENTS = Gauge(
    "reservasi_unapplied_events",
    "Dead letters that are open: events that are not recorded, and that nobody settled (alarm when not 0).",
    ["program"],
    multiprocess_mode="livemax",
)
SWEPT = Counter("reservasi_swept_total", "What the sweeper did.", ["program", "what"])
RETIRED = Counter(
    "reservasi_retired_total", "Quotas that left the ledger after their window, reservations with them, and openings.",
    ["program", "what"],
)  # fmt: skip

# -- waiting rooms, seen from the controllers; only of openings that people join or wait for now --------------------

ADMITTED_THROUGH = Gauge(
    "reservasi_admitted_through",
    "The opening's mark: numbers up to it may claim.",
    ["program", "opening"],
    multiprocess_mode="livemax",
)
OPENING_JOINED = Gauge(
    "reservasi_opening_joined",
    "People who joined the opening's waiting room, late ones included.",
    ["program", "opening"],
    multiprocess_mode="livemax",
)
ADMISSION_RATE = Gauge(
    "reservasi_admission_rate",
    "Numbers that the opening admits per minute now; 0 while it is paused.",
    ["program", "opening"],
    multiprocess_mode="livemax",
)

# -- the recorder ------------------------------------------------------------------------------------------------

WORKER_SERVES = Gauge(
    "reservasi_worker_serves",
    "Whether this worker serves the program (1) or leaves it to others (0); alarm when the sum over all workers is 0.",
    ["program"],
    multiprocess_mode="livemax",
)
RECORDED_ENTRIES = Counter("reservasi_recorded_entries_total", "Journal entries committed in PostgreSQL.", ["program"])
RECORDED_EVENTS = Counter("reservasi_recorded_events_total", "Events committed in PostgreSQL.", ["program"])
DEAD_LETTERS = Counter(
    "reservasi_dead_letters_total",
    "Events that could not be recorded when they were met, and became dead letters.",
    ["program"],
)
RECORD_BATCH_SECONDS = Histogram(
    "reservasi_record_batch_seconds", "Time of one recording transaction.", ["program"], buckets=STORE_SECONDS
)
RECORD_DELAY_SECONDS = Histogram(
    "reservasi_record_delay_seconds",
    "Time from the ledger's acceptance of a batch to its commit in PostgreSQL.",
    ["program"],
    buckets=STORE_SECONDS,
)
RECORDER_LAG_EVENTS = Gauge(
    "reservasi_recorder_lag_events",
    "Events read from the journal and not yet committed.",
    ["program"],
    multiprocess_mode="livesum",
)
RECORDED_SEQ = Gauge(
    "reservasi_recorded_seq", "Last recorded seq of the program.", ["program"], multiprocess_mode="livemax"
)
RECORDER_ACTIVE = Gauge(
    "reservasi_recorder_active",
    "Whether this recorder records the program (1) or stands by (0).",
    ["program"],
    multiprocess_mode="livesum",
)
RECORDER_HALTED = Gauge(
    "reservasi_recorder_halted",
    "Whether recording has stopped because the journal cannot be continued (alarm when 1).",
    ["program"],
    multiprocess_mode="livemax",
)
RECORDER_STALLED = Gauge(
    "reservasi_recorder_stalled",
    "Whether the ledger is ahead of the records and the recorded position does not move (alarm when 1).",
    ["program"],
    multiprocess_mode="livemax",
)
RECORDER_FAULTS = Counter(
    "reservasi_recorder_faults_total", "Interruptions of the recorder, by the name of the fault.", ["program", "fault"]
)

# -- the front ---------------------------------------------------------------------------------------------------

REQUESTS = Counter(
    "reservasi_requests_total",
    "Answered requests, by route template, method and class of outcome (2xx, 3xx, 4xx, 5xx).",
    ["route", "method", "outcome"],
)
REQUEST_SECONDS = Histogram(
    "reservasi_request_seconds", "Time from a request's headers to its answer.", ["route"], buckets=STORE_SECONDS
)
REQUESTS_IN_FLIGHT = Gauge(
    "reservasi_requests_in_flight", "Requests being answered now, streams included.", multiprocess_mode="livesum"
)
CLAIM_OUTCOMES = (
    "held",
    "replayed",
    "sold_out",
    "duplicate_applicant",
    "not_open",
    "closed",
    "unknown_quota",
    "idempotency_key_reused",
    "waiting_room_required",
    "not_admitted",
    "rate_limited",
    "overloaded",
    "recovering",
    "invalid",
    "failed",
    "other",
)
CLAIMS = Counter(
    "reservasi_claims_total",
    "Answered claims by outcome, whichever way they went; invalid: not well-formed, failed: a fault of ours.",
    ["outcome"],
)
PLACES_CAPACITY = Gauge(
    "reservasi_places_capacity",
    "Places of the program's quotas in the ledger, as the front that answers sees them; the same at every front.",
    ["program"],
    multiprocess_mode="livemostrecent",
)
PLACES_HELD = Gauge("reservasi_places_held", "Of them held now.", ["program"], multiprocess_mode="livemostrecent")
PLACES_CONFIRMED = Gauge(
    "reservasi_places_confirmed", "Of them confirmed.", ["program"], multiprocess_mode="livemostrecent"
)
PLACES_RETURNING = Gauge(
    "reservasi_places_returning",
    "Of them given back and not claimable yet.",
    ["program"],
    multiprocess_mode="livemostrecent",
)
PLACES_REMAINING = Gauge("reservasi_places_remaining", "Of them free.", ["program"], multiprocess_mode="livemostrecent")
OPEN_STREAMS = Gauge("reservasi_open_streams", "Live availability streams.", multiprocess_mode="livesum")
RATE_LIMITED = Counter(
    "reservasi_rate_limited_total",
    "Requests refused with 429, by what asked too often (person, api_key, network).",
    ["kind"],
)
SHED = Counter(
    "reservasi_shed_total", "Claims and joins refused as overloaded, unread, since a front's own processor was short."
)


RECORDER_FAULTS_KNOWN = (
    "RecordsUnavailable",
    "SchemaMissing",
    "LedgerUnreachable",
    "LedgerFenced",
    "LedgerFault",
    "JournalGap",
    "StaleRecorder",
)


def begin_front_at_zero(program: str) -> None:
    """Create a front's counters of a program at 0, so that their first increase is visible."""
    for counter in (LEDGER_DAMAGED, LEDGER_UNSAFE, VIEW_RESYNCS):
        counter.labels(program)


def begin_worker_at_zero(program: str) -> None:
    """Create a worker's counters of a program at 0."""
    for counter in (LOST_CHANGES, RECORDED_ENTRIES, RECORDED_EVENTS, DEAD_LETTERS):
        counter.labels(program)
    for what in ("expired", "returned", "dropped"):
        SWEPT.labels(program, what)
    for fault in RECORDER_FAULTS_KNOWN:
        RECORDER_FAULTS.labels(program, fault)


def forget_program(program: str) -> None:
    """Remove the metrics of a program that a worker no longer serves. Fronts share files and cannot."""
    for gauge in (
        LEDGER_OWNED, LEDGER_EPOCH, DRIFT, JOURNAL_GAPS, UNAPPLIED_EVENTS, ADMITTED_THROUGH, OPENING_JOINED,
        ADMISSION_RATE, WORKER_SERVES, RECORDER_ACTIVE, RECORDER_HALTED, RECORDER_STALLED, RECORDER_LAG_EVENTS,
    ):  # fmt: skip
        gauge.remove_by_labels({"program": program})


for _kind in ("person", "api_key", "network"):
    RATE_LIMITED.labels(_kind)


LAG_S = 0.025  # a front's request metrics contain an answer after at most this time


def exposition() -> bytes:
    """All metrics in Prometheus' text format (`CONTENT_TYPE`), over all processes if they share a directory."""
    directory = os.environ.get(METRICS_DIRECTORY)
    if not directory:
        return generate_latest(REGISTRY)
    _forget_gone(Path(directory))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(ProcessesCollector(Path(directory)))
    return generate_latest(registry)


def forget_process(pid: int) -> None:
    """Remove the gauges of a process that has ended. Its counters stay."""
    if directory := os.environ.get(METRICS_DIRECTORY):
        for path in Path(directory).glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)


def _forget_gone(directory: Path) -> None:
    """Remove the gauges of every process that ended without a call of `forget_process`, such as a killed one.

    The library's `mark_process_dead` fails if two processes call it for the same one, so files are removed here.
    """
    for path in directory.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdecimal() and not _exists(int(pid)):
            path.unlink(missing_ok=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # of another account
    return True


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """Observe many values at once, which is much cheaper than one by one."""
    bounds = histogram._upper_bounds  # noqa: SLF001 - the library has no call for many; a test holds it to `observe`
    counts: dict[int, int] = {}
    for value in values:
        at = bisect.bisect_left(bounds, value)
        counts[at] = counts.get(at, 0) + 1
    histogram._sum.inc(sum(values))  # noqa: SLF001
    for at, count in counts.items():
        histogram._buckets[at].inc(count)  # noqa: SLF001


class Gathered:
    """Values of a histogram that are observed together several times a second."""

    MOST = 256  # waiting values; more are observed at once

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._values: list[float] = []

    def add(self, value: float) -> None:
        """Observe a value, now or soon."""
        self._values.append(value)
        if len(self._values) >= self.MOST:
            self.observe()

    def observe(self) -> None:
        """Observe all waiting values."""
        if self._values:
            values, self._values = self._values, []
            observe_all(self._histogram, values)
