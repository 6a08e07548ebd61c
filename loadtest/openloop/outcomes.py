"""What became of the requests of one load: counted by outcome, with the latencies of each."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

HELD = "201"
OVERLOADED = "503 overloaded"
NONE = "none"  # no answer: an error of the connection, or none in time
PROBLEM = b'"/problems/'
MICROSECONDS_MAX = 120_000_000
DIGITS = 3
SHARES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


def outcome_of(status: int, body: bytes) -> str:
    """The name under which an answer is counted: its status, and of a 503 the problem's type."""
    if status != 503:
        return str(status)
    at = body.find(PROBLEM)
    name = body[at + len(PROBLEM) : body.find(b'"', at + len(PROBLEM))].decode() if at >= 0 else "without a type"
    return f"503 {name}"


def _histogram() -> HdrHistogram:
    return HdrHistogram(1, MICROSECONDS_MAX, DIGITS)


def _record(histogram: HdrHistogram, seconds: float) -> None:
    histogram.record_value(min(MICROSECONDS_MAX, max(1, round(seconds * 1e6))))


@dataclass
class Outcomes:
    """One load's result; every latency counts from the moment at which the request was meant to be sent."""

    seconds: float  # of the timetable
    offered: int = 0  # requests in it
    counts: Counter[str] = field(default_factory=Counter)
    in_time: Counter[str] = field(default_factory=Counter)  # of them, answered before the timetable ended
    hasty: int = 0  # 429 and 503 without Retry-After
    connections: int = 0  # opened in all
    latencies: dict[str, HdrHistogram] = field(default_factory=dict)
    lag: HdrHistogram = field(default_factory=_histogram)  # how late the load generator itself was

    def count(self, outcome: str, latency_s: float, *, in_time: bool, says_when: bool = True) -> None:
        self.counts[outcome] += 1
        self.in_time[outcome] += in_time
        self.hasty += not says_when and outcome[:3] in ("429", "503")
        if outcome not in self.latencies:
            self.latencies[outcome] = _histogram()
        _record(self.latencies[outcome], latency_s)

    def late(self, seconds: float) -> None:
        """Take in how much after its moment a request was handed to a connection."""
        _record(self.lag, seconds)

    @property
    def offered_per_s(self) -> float:
        return self.offered / self.seconds

    @property
    def goodput(self) -> float:
        """Places given a second, until the timetable's end."""
        return self.in_time[HELD] / self.seconds

    @property
    def lag_p99_ms(self) -> float:
        return float(self.lag.get_value_at_percentile(99.0)) / 1000

    def latency_ms(self, outcome: str) -> Mapping[str, float]:
        """Latencies of one outcome, in milliseconds; empty when it never came."""
        histogram = self.latencies.get(outcome)
        if histogram is None:
            return {}
        return {name: histogram.get_value_at_percentile(share) / 1000 for name, share in SHARES.items()}
