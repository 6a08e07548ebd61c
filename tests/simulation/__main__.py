"""`python -m tests.simulation SEED`: repeat one run and print its trace; `--seeds N [--first F]` plays many."""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.run import simulate
from tests.simulation.server import Server, running_valkey, simulated_library


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="the run to repeat")
    parser.add_argument("--seeds", type=int, default=1000, help="how many runs, where no seed is named")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--damage", action="store_true", help="damage stored values of the ledger, and mend them")
    options = parser.parse_args()
    with running_valkey() as url:
        server, library = Server(url), simulated_library()
        if options.seed is not None:
            result = simulate(options.seed, server, library, keep_trace=True, damage=options.damage)
            print(*result.lines, result, sep="\n")
            return int(bool(result.violations))
        seeds = range(options.first, options.first + options.seeds)
        return play_many(server, seeds, damage=options.damage)


def play_many(server: Server, seeds: range, *, damage: bool = False) -> int:
    """Play all and sum up."""
    library, counts, broken, began_s = simulated_library(), Counter[str](), 0, time.monotonic()
    for seed in seeds:
        result = simulate(seed, server, library, damage=damage)
        counts.update(result.counts)
        if result.violations:
            broken += 1
            print(result)
    print(f"{len(seeds)} seeds in {time.monotonic() - began_s:.1f} s, {broken} with violations")
    print(", ".join(f"{what}: {count}" for what, count in sorted(counts.items())))
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
