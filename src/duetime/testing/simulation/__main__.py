"""`python -m duetime.testing.simulation`: live through worlds and print what broke."""

from __future__ import annotations

import argparse
import sys
from random import SystemRandom
from time import perf_counter

from duetime.testing.simulation.run import simulate


def main(arguments: list[str] | None = None) -> int:
    """Run the worlds asked for; return 1 if a promise was broken in any."""
    parser = argparse.ArgumentParser(prog="duetime.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first world (default: drawn)")
    parser.add_argument("--worlds", type=int, help="how many (default: 1 with --seed, else 200)")
    parser.add_argument("--sqlite", action="store_true", help="keep the truth in a SQLite file")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--stop", action="store_true", help="stop at the first broken promise")
    given = parser.parse_args(arguments)
    first = SystemRandom().randrange(10**9) if given.seed is None else given.seed
    worlds = given.worlds or (1 if given.seed is not None else 200)
    broken, began, lived, starts = [], perf_counter(), 0, 0
    for seed in range(first, first + worlds):
        report = simulate(seed, sqlite=given.sqlite, keep_trace=given.trace)
        lived += report.lived
        starts += report.starts
        for line in report.trace or ():
            print(line)
        if report.failures:
            broken.append(seed)
            print(f"seed {seed}:", *report.failures[:6], sep="\n  ")
            if given.stop:
                break
    took = perf_counter() - began
    print(
        f"{worlds} world(s) from seed {first}: {len(broken)} broken {broken[:20] or ''}; "
        f"{lived / 3.6e9:.1f} virtual hours, {starts} starts, {took:.1f} s"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
