"""What the figures are held against, all in one place; the experiments bring their own."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.bench.figures import Figure
from loadtest.bench.measuring import Round
from loadtest.bench.reads import JOINS, TITLES

OURS = "ours"
READS_OF_BARE = 0.90
JOINS_OF_BARE = 0.60
RATES = {"evalsha": 2.3, "pipelined": None, "plpgsql_batches": None}  # ours as a multiple of a rival, with its target
CPU = {"evalsha": 0.5, "pipelined": 1.0}  # Valkey's processor time a claim, ours as a share of the rival's


def figures(claims: Sequence[Round], reads: Mapping[str, Sequence[Round]]) -> list[Figure]:
    """The figures of what was measured; what the kernel's clock could not resolve is left out."""
    return [*_rates(claims), *_processor(claims), *_reads(reads), *_joins(reads.get(JOINS, ()))]


def as_row(figure: Figure) -> dict[str, Any]:
    """A figure as JSON."""
    return {
        "name": figure.name,
        "title": figure.title,
        "measured": figure.value,
        "unit": figure.unit,
        "target": figure.target,
        "sense": figure.sense,
        "met": figure.met,
        "note": figure.note,
    }


def firm(rounds: Sequence[Round], *names: str) -> list[Round]:
    """The rounds in which these were measured on firm ground; all of them when there is none."""
    return [done for done in rounds if all(done.compared[name].counts for name in names)] or list(rounds)


def _rates(rounds: Sequence[Round]) -> list[Figure]:
    if not rounds:
        return []
    bare = statistics.median(done.compared[OURS].ratio for done in firm(rounds, OURS))
    found = [
        Figure(name="ours/bare", title="claims a second, of the bare handler", value=bare, target=0.75, note="aim 0.85")
    ]
    for rival, target in RATES.items():
        if rival in rounds[0].compared:
            ratios = [done.compared[OURS].ratio / done.compared[rival].ratio for done in firm(rounds, OURS, rival)]
            found.append(
                Figure(name=f"ours/{rival}", title="claims a second", value=statistics.median(ratios), target=target)
            )
    return found


def _processor(rounds: Sequence[Round]) -> list[Figure]:
    found = []
    for rival, target in CPU.items():
        if not rounds or rival not in rounds[0].compared:
            continue
        ours_us, rival_us = (
            statistics.median(done.compared[name].measured.busy_us["valkey"] for done in firm(rounds, name))
            for name in (OURS, rival)
        )
        if ours_us and rival_us:
            found.append(
                Figure(
                    name=f"valkey cpu ours/{rival}",
                    title="Valkey's processor time a claim",
                    value=ours_us / rival_us,
                    target=target,
                    sense="at most",
                    note="the recorder's reading of the journal included",
                )
            )
    return found


def _reads(reads: Mapping[str, Sequence[Round]]) -> list[Figure]:
    return [
        Figure(
            name=f"{name}/bare",
            title=TITLES[name],
            value=statistics.median(done.compared[name].ratio for done in firm(rounds, name)),
            target=JOINS_OF_BARE if name == JOINS else READS_OF_BARE,
        )
        for name, rounds in reads.items()
    ]


def _joins(rounds: Sequence[Round]) -> list[Figure]:
    """The same ratio from the front's processor time, which a busy machine disturbs less."""
    shares = [
        bracket.reference_us / bracket.measured.busy_us["front"]
        for bracket in (done.compared[JOINS] for done in firm(rounds, JOINS))
        if bracket.reference_us and bracket.measured.busy_us["front"]
    ]
    if not shares:
        return []
    return [
        Figure(
            name=f"{JOINS}/bare by cpu",
            title="the front's processor time for an answer of the bare handler, as a share of that for a join",
            value=statistics.median(shares),
            target=JOINS_OF_BARE,
        )
    ]
