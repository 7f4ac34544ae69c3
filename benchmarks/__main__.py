"""`python -m benchmarks`: measure, print, and keep the figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import page
from benchmarks.stand import Stand
from benchmarks.suite import BENCHMARKS

__all__ = ["main"]

_QUICK_RUNS, _RUNS = 1, 3


def main(arguments: list[str]) -> int:
    """Run the benchmarks that are named, or all."""
    asked = _parser().parse_args(arguments)
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="duetime-bench-") as folder:
        url = asked.store or f"sqlite:///{folder}/bench.db"
        runs = asked.runs or (_QUICK_RUNS if asked.quick else _RUNS)
        stand = Stand(url, runs=runs, quick=asked.quick)
        print(stand.heading())
        for name in asked.names or BENCHMARKS:
            BENCHMARKS[name](stand)
    if asked.json:
        page.save(stand.results, asked.json)
    if asked.publish:
        page.publish(stand.results)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What Duetime reaches on this machine."
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; all if none")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that all run")
    parser.add_argument(
        "--store", metavar="URL", help="a file to use (tables bench_…); default: one of its own"
    )
    parser.add_argument("--runs", type=int, metavar="N", help=f"of each; default {_RUNS}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="replace the results in benchmarks/results/ and the tables in docs/benchmarks.md",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
