"""What a run showed: medians over the measures that count, figures beside their targets, as tables and as JSON."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtest.bench.answers import AVAILABILITY, JOINS, SOLD_OUT, TITLES
from loadtest.bench.figures import Figure, table_of
from loadtest.bench.measuring import DRIFT_MAX, Measured, Round, firm
from loadtest.bench.rounds import JUDGED, ONE_FRONT, Arrangement
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
OF_EVALSHA = 2.3
OF_STRONG = {f"{OursRecorded.name}/pipelined_recorded": 1.0, f"{OursRecorded.name}/plpgsql_batches": 1.0}
VALKEY_OF = {"evalsha": 0.5, "pipelined": 1.0}  # Valkey's processor time a claim, ours as a share of the rival's
ANSWERS_OF_BARE = {SOLD_OUT: 0.90, AVAILABILITY: 0.90, JOINS: 0.60}
PAIRS = (
    *((Ours, name) for name in ("evalsha", "pipelined", "plpgsql_batches")),
    *((OursRecorded, name) for name in ("pipelined_recorded", "plpgsql_batches")),
)


@dataclass
class Suite:
    """What was measured in one arrangement with so many connections."""

    arrangement: Arrangement
    connections: int
    claims: list[Round] = field(default_factory=list)
    answers: dict[str, list[Round]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.arrangement.name}, {self.connections} connections"

    @property
    def rounds(self) -> list[Round]:
        return [*self.claims, *(done for rounds in self.answers.values() for done in rounds)]

    @property
    def figures(self) -> list[Figure]:
        """What is held against a target; what the kernel's clock could not resolve is left out."""
        found = [*_rates(self.claims, self.arrangement)] if self.claims else []
        if self.arrangement == ONE_FRONT:
            found += _store_times(self.claims)
        return [*found, *_answers(self.answers)]


@dataclass
class Run:
    """Everything that a run found out."""

    environment: dict[str, Any] = field(default_factory=dict)
    answer_bytes: int = 0
    suites: list[Suite] = field(default_factory=list)
    experiments: dict[str, list[Figure]] = field(default_factory=dict)  # by title

    def tables(self) -> list[Table]:
        return list(self._tables())

    def _tables(self) -> Iterator[Table]:
        for suite in self.suites:
            if suite.claims:
                yield _claims_table(suite)
            if suite.answers:
                yield _answers_table(suite)
            if suite.figures:
                title = f"Held against the targets: {suite.name}"
                yield table_of(title, suite.figures, (_counted(suite.rounds),))
        for title, figures in self.experiments.items():
            yield table_of(title, figures)

    def as_json(self) -> dict[str, Any]:
        """What the tables are made from."""
        return {
            "answer_bytes": self.answer_bytes,
            "drift_max": DRIFT_MAX,
            "suites": [_suite_as_json(suite) for suite in self.suites],
            "experiments": {
                title: [figure.as_json() for figure in figures] for title, figures in self.experiments.items()
            },
        }


def _counted(rounds: Sequence[Round]) -> str:
    """How many measures count; the others are not among the medians."""
    brackets = [bracket for done in rounds for bracket in done.compared.values()]
    counted = sum(bracket.counts for bracket in brackets)
    shaky = "" if counted else " Something else used the machine: the ratios are shaky."
    return f"{counted} of {len(brackets)} measures count: bare moved by at most {DRIFT_MAX:.0%} around them.{shaky}"


def summarise(rounds: Sequence[Round]) -> dict[str, dict[str, Any]]:
    """Each variant's medians; ratios are those of single measures, so that the machine's mood cancels out.

    Measures on shaky ground are left out, unless a variant has no others.
    """
    if not rounds:
        return {}
    brackets = {name: [done.compared[name] for done in firm(rounds, name)] for name in rounds[0].compared}
    # A measurement of the bare handler is the end of one bracket and the beginning of the next.
    bare = {id(one): one for kept in brackets.values() for bracket in kept for one in (bracket.before, bracket.after)}
    summary = {Bare.name: _medians(list(bare.values()), [1.0])}
    for name, kept in brackets.items():
        summary[name] = _medians([bracket.measured for bracket in kept], [bracket.ratio for bracket in kept])
    bare_us = summary[Bare.name]["busy_us"]["front"]
    for medians in summary.values():
        front_us = medians["busy_us"]["front"]
        # A handful of claims may use less than one tick of the kernel's clock: that is no measurement.
        medians["ratio_by_processor"] = bare_us / front_us if bare_us and front_us else None
    return summary


def _medians(measured: Sequence[Measured], ratios: Sequence[float]) -> dict[str, Any]:
    return {
        "claims_per_s": statistics.median(one.claims_per_s for one in measured),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "p50_ms": statistics.median(one.p50_ms for one in measured),
        "p99_ms": statistics.median(one.p99_ms for one in measured),
        "max_ms": max(one.max_ms for one in measured),
        "front_share": statistics.median(one.front_share for one in measured),
        "busy_us": {name: statistics.median(one.busy_us[name] for one in measured) for name in measured[0].busy_us},
    }


def _claims_table(suite: Suite) -> Table:
    rows = tuple((name, *_cells(medians)) for name, medians in summarise(suite.claims).items())
    kinds: tuple[type[Variant], ...] = (Bare, *suite.arrangement.variants)
    titles = tuple(f"{kind.name}: {kind.title}." for kind in kinds)
    title = f"Successful claims through HTTP: {suite.name}"
    return Table(title=title, columns=("", *NUMBERS), rows=rows, notes=(*titles, *NOTES))


def _answers_table(suite: Suite) -> Table:
    rows: list[tuple[str, ...]] = []
    for answer, rounds in suite.answers.items():
        for name, medians in summarise(rounds).items():
            rows.append((f"{name} {answer}" if name == Bare.name else name, *_cells(medians)))
    titles = tuple(f"{name}: {TITLES[name]}." for name in suite.answers)
    return Table(
        title=f"Other answers through HTTP: {suite.name}", columns=("", *NUMBERS), rows=tuple(rows), notes=titles
    )


def _cells(medians: Mapping[str, Any]) -> tuple[str, ...]:
    by_processor = medians["ratio_by_processor"]
    return (
        f"{medians['claims_per_s']:,.0f}",
        f"{medians['ratio']:.2f}",
        f"{medians['ratio_min']:.2f}-{medians['ratio_max']:.2f}",
        "-" if by_processor is None else f"{by_processor:.2f}",
        *(f"{medians[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
        f"{medians['front_share']:.2f}",
        *(f"{medians['busy_us'].get(process, 0.0):.0f}" for process in BUSY),
    )


def _rates(rounds: Sequence[Round], arrangement: Arrangement) -> Iterator[Figure]:
    """Claims a second, ours as a multiple of each rival."""
    if arrangement == ONE_FRONT:
        of_bare = statistics.median(done.compared[Ours.name].ratio for done in firm(rounds, Ours.name))
        title = "claims a second, of the bare handler"
        yield Figure(name=f"{Ours.name}/{Bare.name}", title=title, value=of_bare, target=OURS_OF_BARE)
    targets = {ONE_FRONT: {f"{Ours.name}/evalsha": OF_EVALSHA}, JUDGED: OF_STRONG}.get(arrangement, {})
    for ours, rival in PAIRS:
        if {ours.name, rival} <= rounds[0].compared.keys():
            name = f"{ours.name}/{rival}"
            both = [done.compared for done in firm(rounds, ours.name, rival)]
            ratio = statistics.median(compared[ours.name].ratio / compared[rival].ratio for compared in both)
            yield Figure(name=name, title="claims a second", value=ratio, target=targets.get(name))


def _store_times(rounds: Sequence[Round]) -> Iterator[Figure]:
    for rival, target in VALKEY_OF.items():
        if not rounds or rival not in rounds[0].compared:
            continue
        ours_us, rival_us = (
            statistics.median(done.compared[name].measured.busy_us["valkey"] for done in firm(rounds, name))
            for name in (Ours.name, rival)
        )
        if ours_us and rival_us:
            yield Figure(
                name=f"valkey cpu {Ours.name}/{rival}",
                title="Valkey's processor time a claim",
                value=ours_us / rival_us,
                target=target,
                sense="at most",
                note="the recorder's reading of the journal included",
            )


def _answers(answers: Mapping[str, Sequence[Round]]) -> Iterator[Figure]:
    for name, rounds in answers.items():
        brackets = [done.compared[name] for done in firm(rounds, name)]
        ratio, target = statistics.median(bracket.ratio for bracket in brackets), ANSWERS_OF_BARE[name]
        yield Figure(name=f"{name}/{Bare.name}", title=TITLES[name], value=ratio, target=target)
        fronts_us = [(bracket.reference_us, bracket.measured.busy_us["front"]) for bracket in brackets]
        shares = [bare_us / ours_us for bare_us, ours_us in fronts_us if bare_us and ours_us]
        if name == JOINS and shares:
            title = "the same by the front's processor time, which other programs disturb less"
            yield Figure(name=f"{name}/{Bare.name} by cpu", title=title, value=statistics.median(shares), target=target)


def _suite_as_json(suite: Suite) -> dict[str, Any]:
    return {
        "arrangement": suite.arrangement.name,
        "connections": suite.connections,
        "targets": [figure.as_json() for figure in suite.figures],
        "variants": summarise(suite.claims),
        "answers": {name: summarise(rounds) for name, rounds in suite.answers.items()},
        "rounds": [_round_as_json(done) for done in suite.claims],
        "answer_rounds": {name: [_round_as_json(done) for done in rounds] for name, rounds in suite.answers.items()},
    }


def _round_as_json(done: Round) -> dict[str, Any]:
    return {
        name: {**asdict(bracket), "ratio": bracket.ratio, "drift": bracket.drift, "counts": bracket.counts}
        for name, bracket in done.compared.items()
    }
