"""`make latency`: how long a claim takes at 10 to 300 % of what the service can do, from its intended moment.

By default the ledger is slowed on purpose, so that the load generator, which shares the machine, can offer three times
of it; `--fsync-ms 0` shows the unslowed service as far as the generator reaches.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from loadtest.bench.ground import describe
from loadtest.checker.check import show as show_findings
from loadtest.openloop import commands
from loadtest.openloop.curve import LOADS, Curve, draw, measure, table
from loadtest.openloop.scene import open_scene
from loadtest.stage.cores import Cores
from loadtest.stage.tables import write_run
from loadtest.stage.verdicts import command


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = commands.parser_of("loadtest.openloop", __doc__, seconds=10.0)
    commands.add_slowness(parser)
    parser.add_argument("--loads", type=_loads, default=LOADS, metavar="PERCENT,...", help="of saturation")
    parser.add_argument("--svg", type=Path, default=Path("reports/latency.svg"), help="where the picture is drawn")
    return parser.parse_args(arguments)


def _loads(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


async def run(cores: Cores, console: Console, options: argparse.Namespace) -> int:
    slowness = commands.slowness_of(options)
    curve, environment = Curve(slowness.title), {}
    try:
        async with open_scene(cores, slowness) as scene:
            environment = await describe(scene.ground)
            await measure(curve, scene, options.loads, seconds=options.seconds, seed=options.seed, say=console.print)
            found = show_findings(await scene.check())
    finally:
        if curve.points:  # what was measured before a failure is not lost
            table(curve).show(console)
            draw(curve, options.svg)
            if options.json:
                write_run(options.json, command(), environment, [table(curve)], curve=curve.facts())
            console.print(f"picture: {options.svg}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    return commands.start(run, read_options(arguments))


if __name__ == "__main__":
    sys.exit(main())
