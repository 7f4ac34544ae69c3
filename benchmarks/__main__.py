"""`python -m benchmarks`: measure, print, and keep the figures."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import keeping, page, result
from benchmarks.contestants import PEERS
from benchmarks.databases import STORES, opened
from benchmarks.result import Result
from benchmarks.stand import Stand
from benchmarks.suite import BENCHMARKS, ON_DEMAND

__all__ = ["main"]

_QUICK_RUNS, _RUNS = 1, 3
_ALWAYS = ("sqlite", "mariadb", "postgresql")  # MySQL on demand: Debian has no package of it


def main(arguments: list[str]) -> int:
    """Run the benchmarks that are named, or all; 2 if something is not known, 1 if one failed."""
    asked = _parser().parse_args(arguments)
    names = asked.only or asked.names or [n for n in BENCHMARKS if n not in ON_DEMAND]
    urls = _urls(asked)
    stores = _words(asked.store) or [*_ALWAYS, *(k for k in urls if k not in _ALWAYS)]
    systems = _words(asked.system) or ["duetime", *PEERS]
    if asked.quick and not asked.system:
        systems = ["duetime"]  # peers need environments of their own: on demand
    for given, known in ((names, BENCHMARKS), (stores, STORES), (systems, ("duetime", *PEERS))):
        if unknown := [name for name in given if name not in known]:
            print(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
            return 2
    if "celery" in systems and "redis" not in stores and not asked.store:
        stores.append("redis")
    try:
        stand = _measure(asked, names, stores, systems, urls)
    finally:
        if asked.publish:
            page.publish()  # of an interrupted run, too, what it has measured
    if stand.failed:
        print("failed: " + "; ".join(stand.failed), file=sys.stderr)
    return 1 if stand.failed else 0


def _measure(
    asked: argparse.Namespace,
    names: Sequence[str],
    stores: Sequence[str],
    systems: Sequence[str],
    urls: dict[str, str],
) -> Stand:
    """Start the databases and run the benchmarks."""
    with tempfile.TemporaryDirectory(prefix="duetime-bench-") as folder:
        Path(folder).chmod(0o755)  # servers run as users of their own
        with opened(stores, Path(folder), urls) as databases:
            stand = Stand(
                databases,
                systems,
                peers=[PEERS[name] for name in systems if name in PEERS],
                runs=asked.runs or (_QUICK_RUNS if asked.quick else _RUNS),
                level="quick" if asked.quick else "full" if asked.full else "plain",
                seed=asked.seed,
                known=_known(asked),
                keep=_keep(asked),
            )
            print(stand.heading())
            for name in names:
                began = time.monotonic()
                BENCHMARKS[name](stand)
                print(f"--- {name}: {time.monotonic() - began:.0f} s\n", flush=True)
            return stand


def _words(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for word in text.split(",") if word]


def _urls(asked: argparse.Namespace) -> dict[str, str]:
    """Return the URLs of servers that run already, by store."""
    found = {"mysql": asked.mysql_url} if asked.mysql_url else {}
    for text in asked.url:
        store, _, url = text.partition("=")
        found[store] = url
    return found


def _keep(asked: argparse.Namespace) -> Callable[[list[Result]], None]:
    """Return what keeps results at once, so that an interrupted run has lost nothing."""

    def keep(found: list[Result]) -> None:
        if asked.json:
            keeping.merge(asked.json, found)
        if asked.publish:
            keeping.publish(found)

    return keep


def _known(asked: argparse.Namespace) -> Callable[[str, str, str], bool]:
    """Return what tells whether a figure of this commit is there already."""
    if not asked.missing:
        return lambda *_: False
    commit = result.commit()
    there = keeping.committed() if asked.publish else keeping.load(asked.json)
    have = [found for found in there if found.commit == commit]

    def known(name: str, system: str, store: str) -> bool:
        # A name of a case begins the names of its figures.
        return any(
            found.system == system and found.store == store and keeping.belongs(found.name, name)
            for found in have
        )

    return known


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What Duetime reaches on this machine."
    )
    add = parser.add_argument
    add("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; all but growth if none")
    add("--only", action="append", metavar="NAME", help="the same as a name")
    add("--store", action="append", default=[], metavar="NAMES", help=f"of {', '.join(STORES)}")
    add(
        *("--system",),
        action="append",
        default=[],
        metavar="NAMES",
        help=f"duetime, {', '.join(PEERS)}; all if none",
    )
    add("--mysql-url", metavar="URL", help="an empty database on a MySQL server that runs already")
    add(
        *("--url",),
        action="append",
        default=[],
        metavar="STORE=URL",
        help="the same for any store; tables are named bench_...",
    )
    add("--quick", action="store_true", help="tiny sizes: shows that all run (without peers)")
    add("--full", action="store_true", help="30 s of lateness, 5 million pending, peers that wait")
    add("--runs", type=int, metavar="N", help=f"of each; default {_RUNS}")
    add("--seed", type=int, default=4711, help="of due times and places; default 4711")
    add("--json", type=Path, metavar="FILE", help="merge the results into this file")
    add("--missing", action="store_true", help="leave out what was measured at this commit")
    add(
        "--publish",
        action="store_true",
        help="replace results in benchmarks/results/, and tables and plots in docs/",
    )
    return parser


if __name__ == "__main__":
    # Ended from outside, it still stops its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(sys.argv[1:]))
