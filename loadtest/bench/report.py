"""What a run showed: medians over the measures that count, figures beside their targets, as tables and as JSON."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.bench.answers import AVAILABILITY, JOINS, SOLD_OUT, TITLES
from loadtest.bench.figures import DRIFT_MAX, Figure, Pair, Rounds, firm, ratio, table_of
from loadtest.bench.measuring import JUDGED, ONE_FRONT, RATE, Arrangement
from loadtest.bench.variants import Bare, Ours, OursRecorded, Variant
from loadtest.stage.tables import Table

BUSY = ("front", "load", "valkey", "worker", "postgres")  # the processes whose time is shown
NUMBERS = ("per second", "of bare", "min-max", "by cpu", "p50 ms", "p99 ms", "max ms", "share", *BUSY)
NOTES = (
    f"{', '.join(BUSY)}: processor time of each in microseconds a request, background included.",
    "by cpu: the ratio of the front's processor time to that of the bare handler, which other programs disturb less.",
    "share: how much of its core the front used; well below 1, something else set the speed.",
)
OURS_OF_BARE = 0.75
ANSWERS_OF_BARE = {SOLD_OUT: 0.90, AVAILABILITY: 0.90, JOINS: 0.60}
# Of ours and a rival: claims a second, and the targets by arrangement.
RATES: tuple[tuple[str, str, Mapping[Arrangement, float]], ...] = (
    (Ours.name, "evalsha", {ONE_FRONT: 2.3}),
    (Ours.name, "pipelined", {}),
    (Ours.name, "plpgsql_batches", {}),
    (OursRecorded.name, "pipelined_recorded", {JUDGED: 1.0}),
    (OursRecorded.name, "plpgsql_batches", {JUDGED: 1.0}),
)
VALKEY_OF = {"evalsha": 0.5, "pipelined": 1.0}  # Valkey's processor time a claim, ours as a share of the rival's


@dataclass
class Suite:
    arrangement: Arrangement
    connections: int
    claims: Rounds = field(default_factory=dict)
    answers: Rounds = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.arrangement.name}, {self.connections} connections"

    @property
    def figures(self) -> list[Figure]:
        """What is held against a target; what the kernel's clock could not resolve is left out."""
        one_front = self.arrangement == ONE_FRONT
        store_times = _store_times(self.claims) if one_front else ()
        return [*_rates(self.claims, self.arrangement), *store_times, *_answers(self.answers)]

    def tables(self) -> Iterator[Table]:
        if self.claims:
            kinds: tuple[type[Variant], ...] = (Bare, *self.arrangement.variants)
            titles = (f"{kind.name}: {kind.title}." for kind in kinds)
            title = f"Successful claims through HTTP: {self.name}"
            yield _table(title, summarise(self.claims), (*titles, *NOTES))
        if self.answers:
            each = [summarise({name: pairs}, f"bare {name}") for name, pairs in self.answers.items()]
            rows = {name: medians for summary in each for name, medians in summary.items()}
            titles = (f"{name}: {TITLES[name]}." for name in self.answers)
            yield _table(f"Other answers through HTTP: {self.name}", rows, tuple(titles))
        if figures := self.figures:
            yield table_of(f"Held against the targets: {self.name}", figures, (self._counted(),))

    def _counted(self) -> str:
        """How many measures count; the others are not among the medians."""
        counts = [pair.counts for pairs in (*self.claims.values(), *self.answers.values()) for pair in pairs]
        note = f"{sum(counts)} of {len(counts)} measures count: bare moved by at most {DRIFT_MAX:.0%} around them."
        return note if any(counts) else f"{note} Something else used the machine: the ratios are shaky."

    def as_json(self) -> dict[str, Any]:
        return {
            "arrangement": self.arrangement.name,
            "connections": self.connections,
            "targets": [figure.as_json() for figure in self.figures],
            "variants": summarise(self.claims),
            "rounds": {name: [pair.as_json() for pair in pairs] for name, pairs in self.claims.items()},
            "answer_rounds": {name: [pair.as_json() for pair in pairs] for name, pairs in self.answers.items()},
        }


@dataclass
class Run:
    environment: dict[str, Any] = field(default_factory=dict)
    answer_bytes: int = 0
    suites: list[Suite] = field(default_factory=list)
    experiments: dict[str, list[Figure]] = field(default_factory=dict)  # by title

    def tables(self) -> list[Table]:
        experiments = [table_of(title, figures) for title, figures in self.experiments.items()]
        return [*(table for suite in self.suites for table in suite.tables()), *experiments]

    def as_json(self) -> dict[str, Any]:
        return {
            "answer_bytes": self.answer_bytes,
            "drift_max": DRIFT_MAX,
            "suites": [suite.as_json() for suite in self.suites],
            "experiments": {
                title: [figure.as_json() for figure in figures] for title, figures in self.experiments.items()
            },
        }


def summarise(rounds: Rounds, bare: str = Bare.name) -> dict[str, dict[str, Any]]:
    """Medians of the bare handler and of each variant; a ratio is the median of the pairs' ratios.

    Measures on shaky ground are left out, unless a variant has no others.
    """
    kept = {name: firm(pairs) for name, pairs in rounds.items()}
    bases = [pair.base for pairs in kept.values() for pair in pairs]
    summary = {bare: _summary([Pair(base, base) for base in bases])} if bases else {}
    return summary | {name: _summary(pairs) for name, pairs in kept.items()}


def _summary(pairs: Sequence[Pair]) -> dict[str, Any]:
    ratios = [pair.ratio(RATE) for pair in pairs]
    return {
        **{name: statistics.median(pair.other[name] for pair in pairs) for name in pairs[0].other},
        "max_ms": max(pair.other["max_ms"] for pair in pairs),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "ratio_by_processor": _by_processor(pairs),
    }


def _by_processor(pairs: Sequence[Pair]) -> float | None:
    """None where a handful of claims used less than one tick of the kernel's clock, which is no measurement."""
    resolved = [pair for pair in pairs if pair.base["front_us"] and pair.other["front_us"]]
    return 1 / ratio(resolved, "front_us") if resolved else None


def _table(title: str, rows: Mapping[str, Mapping[str, Any]], notes: tuple[str, ...]) -> Table:
    cells = tuple((name, *_cells(medians)) for name, medians in rows.items())
    return Table(title=title, columns=("", *NUMBERS), rows=cells, notes=notes)


def _cells(medians: Mapping[str, Any]) -> tuple[str, ...]:
    by_processor = medians["ratio_by_processor"]
    return (
        f"{medians[RATE]:,.0f}",
        f"{medians['ratio']:.2f}",
        f"{medians['ratio_min']:.2f}-{medians['ratio_max']:.2f}",
        "-" if by_processor is None else f"{by_processor:.2f}",
        *(f"{medians[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
        f"{medians['front_share']:.2f}",
        *(f"{medians.get(f'{process}_us', 0.0):.0f}" for process in BUSY),
    )


def _rates(claims: Rounds, arrangement: Arrangement) -> Iterator[Figure]:
    if arrangement == ONE_FRONT and claims:
        name, value = f"{Ours.name}/{Bare.name}", ratio(firm(claims[Ours.name]), RATE)
        yield Figure(name=name, title="claims a second, of the bare handler", value=value, target=OURS_OF_BARE)
    for ours, rival, targets in RATES:
        if {ours, rival} <= claims.keys():
            rounds = list(zip(claims[ours], claims[rival], strict=True))
            kept = [(own, its) for own, its in rounds if own.counts and its.counts] or rounds
            name, value = f"{ours}/{rival}", statistics.median(own.ratio(RATE) / its.ratio(RATE) for own, its in kept)
            yield Figure(name=name, title="claims a second", value=value, target=targets.get(arrangement))


def _store_times(claims: Rounds) -> Iterator[Figure]:
    def valkey_us(name: str) -> float:
        return statistics.median(pair.other["valkey_us"] for pair in firm(claims[name]))

    for rival, target in VALKEY_OF.items():
        if rival in claims and valkey_us(Ours.name) and valkey_us(rival):
            yield Figure(
                name=f"valkey cpu {Ours.name}/{rival}",
                title="Valkey's processor time a claim",
                value=valkey_us(Ours.name) / valkey_us(rival),
                target=target,
                sense="at most",
                note="the recorder's reading of the journal included",
            )


def _answers(answers: Rounds) -> Iterator[Figure]:
    for name, measured in answers.items():
        pairs, target = firm(measured), ANSWERS_OF_BARE[name]
        yield Figure(name=f"{name}/{Bare.name}", title=TITLES[name], value=ratio(pairs, RATE), target=target)
        by_processor = _by_processor(pairs)
        if name == JOINS and by_processor is not None:
            title = "the same by the front's processor time, which other programs disturb less"
            yield Figure(name=f"{name}/{Bare.name} by cpu", title=title, value=by_processor, target=target)
