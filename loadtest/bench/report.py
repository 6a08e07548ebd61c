"""What a run showed: medians over the rounds that count, as a table for people and as JSON."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.bench.rounds import DRIFT_MAX, Measured, Round
from loadtest.bench.variants import COMPARED, Bare, Variant

BUSY = ("front", "load", "valkey", "worker", "postgres")  # the processes whose time is shown


def summarise(rounds: Sequence[Round]) -> dict[str, dict[str, Any]]:
    """Each variant's medians; ratios are those of single rounds, so that the machine's mood cancels out.

    Rounds on shaky ground are left out, unless there are no others.
    """
    counted = counting(rounds)
    bare = [counted[0].before, *(done.after for done in counted)]
    summary = {Bare.name: _medians(bare, [1.0])}
    for variant in COMPARED:
        measured = [done.compared[variant.name] for done in counted]
        summary[variant.name] = _medians(measured, [done.ratio(variant.name) for done in counted])
    bare_us = summary[Bare.name]["busy_us"]["front"]
    for medians in summary.values():
        front_us = medians["busy_us"]["front"]
        # A handful of claims may use less than one tick of the kernel's clock: that is no measurement.
        medians["ratio_by_processor"] = bare_us / front_us if bare_us and front_us else None
    return summary


def counting(rounds: Sequence[Round]) -> list[Round]:
    """The rounds that count; all of them when none does."""
    return [done for done in rounds if done.counts] or list(rounds)


def _medians(measured: Sequence[Measured], ratios: Sequence[float]) -> dict[str, Any]:
    rates = [one.claims_per_s for one in measured]
    names = measured[0].busy_us
    return {
        "claims_per_s": statistics.median(rates),
        "claims_per_s_min": min(rates),
        "claims_per_s_max": max(rates),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "p50_ms": statistics.median(one.p50_ms for one in measured),
        "p99_ms": statistics.median(one.p99_ms for one in measured),
        "claimed": sum(one.claimed for one in measured),
        "refused": sum(one.refused for one in measured),
        "front_share": statistics.median(one.front_share for one in measured),
        "busy_us": {name: statistics.median(one.busy_us[name] for one in measured) for name in names},
    }


def as_json(rounds: Sequence[Round], environment: dict[str, Any], answer_bytes: int) -> dict[str, Any]:
    """The whole run."""
    return {
        "environment": environment,
        "answer_bytes": answer_bytes,
        "drift_max": DRIFT_MAX,
        "variants": summarise(rounds),
        "rounds": [{**asdict(done), "drift": done.drift, "counts": done.counts} for done in rounds],
    }


def show(console: Console, rounds: Sequence[Round], environment: dict[str, Any]) -> None:
    """The table, with what it was measured on."""
    table = Table(title="successful claims a second through HTTP, one front process", title_justify="left")
    table.add_column("variant", no_wrap=True)
    for name in ("claims/s", "of bare", "min-max", "by cpu", "p50 ms", "p99 ms", "refused", "share", *BUSY):
        table.add_column(name, justify="right", no_wrap=True)
    for name, medians in summarise(rounds).items():
        table.add_row(
            name,
            f"{medians['claims_per_s']:,.0f}",
            f"{medians['ratio']:.2f}",
            f"{medians['ratio_min']:.2f}-{medians['ratio_max']:.2f}",
            "-" if medians["ratio_by_processor"] is None else f"{medians['ratio_by_processor']:.2f}",
            f"{medians['p50_ms']:.1f}",
            f"{medians['p99_ms']:.1f}",
            str(medians["refused"]),
            f"{medians['front_share']:.2f}",
            *(f"{medians['busy_us'].get(process, 0.0):.0f}" for process in BUSY),
        )
    console.print(table)
    console.print(f"  {', '.join(BUSY)}: processor time of each in microseconds a claim, background work included;")
    console.print("  by cpu: the same ratio from the front's processor time, which a busy machine disturbs less;")
    console.print("  share: how much of its core the front used; well below 1, something else set the speed")
    variants: tuple[type[Variant], ...] = (Bare, *COMPARED)
    for variant in variants:
        console.print(f"  [dim]{variant.name:<8}[/] {variant.title}")
    counted = sum(done.counts for done in rounds)
    console.print(
        f"{counted} of {len(rounds)} rounds count (bare moved by at most {DRIFT_MAX:.0%}). "
        f"Python {environment['python']} ({environment['executable']}, {environment['compiler']}), aiohttp "
        f"{environment['packages']['aiohttp']}, {environment['store']}, fsync {environment['fsync_us']:.0f} us, "
        f"{environment['cores']} cores, {environment['processor']}"
    )
    if not counted:
        console.print("[bold]No round was on firm ground: something else used the machine. The ratios are shaky.[/]")
