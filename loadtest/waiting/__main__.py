"""`make waiting`: far more people than places join before an opening, wait, and are served in the order of the draw.

A service of its own. Exit code 0: everybody got a definite answer, every place somebody whose number was admitted, the
draw could be computed again for every ticket, and the checker found nothing. 1: something is wrong, and is named.
"""

import argparse
import asyncio
import sys
from pathlib import Path

import uvloop
from rich.console import Console

from loadtest.stage import verdicts
from loadtest.stage.environment import describe
from loadtest.stage.service import running_service
from loadtest.waiting.crowd import Crowd, Plan
from loadtest.waiting.judging import judge
from loadtest.waiting.scene import announced
from reservasi import logs
from reservasi.errors import ReservasiError
from reservasi.programs import WaitingRoom

JOINS_PER_S = 1500.0  # that a busy machine takes: the opening comes when all have joined
OPENS_IN_S_MIN = 5.0
ROOM = WaitingRoom(rate_per_min=3000, rate_max_per_min=60_000)  # the rate adapts


async def run(options: argparse.Namespace, console: Console) -> int:
    plan = Plan(people=options.people, seed=options.seed)
    places = options.quotas * options.places
    opens_in_s = OPENS_IN_S_MIN + plan.people / JOINS_PER_S
    console.print(f"starting a service: {places} places in {options.quotas} quotas, {options.processes} fronts")
    with running_service(
        quotas=options.quotas, places=options.places, processes=options.processes, log_copy=options.log
    ) as service:
        environment = describe(service.data_dir)
        async with announced(service, ROOM, opens_in_s) as scene:
            console.print(f"{plan.people} people join at {service.url}; it opens in {opens_in_s:.0f} s")
            crowd = Crowd(service.url, scene.opening, scene.opens_at_ms, service.quotas(), plan)
            try:
                await crowd.run()
            except TimeoutError:
                console.print(f"[red]somebody had no answer {plan.patience_s:.0f} s after the opening[/]")
            judged = await judge(service, scene, crowd, places)
    title = f"{plan.people:,} people wait for {places:,} places"
    return 0 if verdicts.report(console, title, judged, options.json, environment) else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.waiting", description=__doc__)
    parser.add_argument("--people", type=int, default=50_000)
    parser.add_argument("--quotas", type=int, default=50)
    parser.add_argument("--places", type=int, default=20, help="in each quota")
    parser.add_argument("--processes", type=int, default=1, help="fronts")
    parser.add_argument("--seed", type=int, default=0, help="another seed: other people")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    parser.add_argument("--log", type=Path, metavar="FILE", help="copy the service's log there")
    options, console = parser.parse_args(), verdicts.open_console()
    logs.configure("warning", "console")
    try:
        return uvloop.run(run(options, console))
    except (ReservasiError, RuntimeError, TimeoutError, asyncio.CancelledError) as error:
        console.print(f"[bold red]failed:[/] {type(error).__name__}: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
