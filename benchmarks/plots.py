"""The plots of docs/benchmarks.md: `python -m benchmarks.plots RESULTS PLOTS DIGEST`.

Drawn by matplotlib in an environment of its own (benchmarks/plots.txt): it draws what others have
long agreed on, and neither users nor tests need it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["PLOTS", "main"]

Results = list[dict[str, Any]]
_COLOURS = {
    "sqlite": "#7a5195",
    "mariadb": "#ef8a17",
    "mysql": "#bc5090",
    "postgresql": "#2f6f9f",
    "redis": "#888888",
}


def main(results: str, folder: str, digest: str) -> None:
    """Draw all plots; each carries the digest of the results."""
    import matplotlib as mpl

    mpl.use("svg")
    # Text as text and fixed names: small files, the same for the same results.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "duetime", "font.size": 9})
    found: Results = []
    for path in sorted(Path(results).glob("*.json")):
        found += json.loads(path.read_bytes())
    place = Path(folder)
    place.mkdir(exist_ok=True)
    for name, draw in PLOTS.items():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.6), layout="constrained")
        draw(found, figure.subplots())
        about = {"Date": None, "Creator": None, "Description": f"results {digest}"}
        figure.savefig(place / f"{name}.svg", metadata=about)


def _stores(found: Results) -> list[str]:
    there = {one["store"] for one in found}
    return [store for store in _COLOURS if store in there]


def _of(found: Results, name: str, store: str, system: str = "duetime") -> dict[str, Any] | None:
    wanted = (name, system, store)
    return next((r for r in found if (r["name"], r["system"], r["store"]) == wanted), None)


def _peers(found: Results, name: str) -> Iterator[dict[str, Any]]:
    yield from (r for r in found if r["name"] == name and r["system"] != "duetime")


def _create(found: Results, axes: Any) -> None:
    callers = (1, 16, 64, 256)
    for store in _stores(found):
        for kind, style in (("threads", "-"), ("tasks", "--")):
            points = [(n, _of(found, f"create {n} {kind}", store)) for n in callers]
            line = [(n, r["value"]) for n, r in points if r]
            if line:
                label = f"{store}, {kind}"
                axes.plot(*zip(*line, strict=True), style, color=_COLOURS[store], label=label)
            limits = [(n, r["limit"]) for n, r in points if r and r["limit"] and kind == "threads"]
            if limits:
                axes.plot(*zip(*limits, strict=True), "x", color=_COLOURS[store])
    axes.set(xscale="log", xlabel="callers that wait (x: bare inserts)", ylabel="events/s")
    axes.set_xticks(callers, [str(n) for n in callers])
    _finish(axes, "Create: durable events per second")


def _drain(found: Results, axes: Any) -> None:
    bars: list[tuple[str, float, str]] = []
    for store in _stores(found):
        for name, label in (("drain sync", "no-op"), ("drain append", "append")):
            if one := _of(found, name, store):
                bars.append((f"{store}, {label}", one["value"], _COLOURS[store]))
                if name == "drain sync" and one["limit"]:
                    bars.append((f"{store}, bare loop", one["limit"], "#cccccc"))
    bars += [(r["system"], r["value"], "#555555") for r in _peers(found, "drain append")]
    _bars(axes, bars, "events/s")
    axes.set_title("Drain: one process, from the first firing to the last settlement")


def _lateness(found: Results, axes: Any) -> None:
    rates = ("200", "1,000", "5,000", "10,000")
    for store in _stores(found):
        for end, style in (("p50", ":"), ("p99", "-")):
            points = [(rate, _of(found, f"lateness {rate}/s {end}", store)) for rate in rates]
            line = [(float(rate.replace(",", "")), r["value"]) for rate, r in points if r]
            if line:
                label = f"{store}, {end}"
                axes.plot(*zip(*line, strict=True), style, color=_COLOURS[store], label=label)
    for rate in ("200", "1,000"):
        for one in _peers(found, f"lateness {rate}/s p99"):
            at = (float(rate.replace(",", "")), max(one["value"], 0.01))
            axes.plot(*at, "k.")
            axes.annotate(one["system"], at, fontsize=7)
    axes.set(xscale="log", yscale="log", xlabel="events/s (dots: peers, p99)", ylabel="ms")
    _finish(axes, "Lateness: fired minus due")


def _spike(found: Results, axes: Any) -> None:
    bars = []
    for count in ("15,000", "100,000", "300,000"):
        for store in _stores(found):
            for end in ("last fired", "settled"):
                if one := _of(found, f"spike {count} {end}", store):
                    colour = _COLOURS[store] if end == "last fired" else "#cccccc"
                    bars.append((f"{count}, {store}, {end}", one["value"], colour))
    _bars(axes, bars, "ms after the instant")
    axes.set_title("Spike: many events at one instant")


def _growth(found: Results, axes: Any) -> None:
    sizes = ("10,000", "100,000", "1,000,000", "5,000,000")
    for store in _stores(found):
        for case, style in (("create 64 threads", "-"), ("drain sync", "--")):
            points = [(s, _of(found, f"growth {case}, {s} pending", store)) for s in sizes]
            line = [(float(size.replace(",", "")), r["value"]) for size, r in points if r]
            if line:
                label = f"{store}, {case}"
                axes.plot(*zip(*line, strict=True), style, color=_COLOURS[store], label=label)
    axes.set(xscale="log", xlabel="events pending", ylabel="events/s", ylim=(0, None))
    _finish(axes, "Growth: does size matter?")


def _bars(axes: Any, bars: list[tuple[str, float, str]], label: str) -> None:
    if not bars:
        return
    names = [name for name, _, _ in bars]
    drawn = axes.barh(names, [value for _, value, _ in bars], color=[c for _, _, c in bars])
    axes.bar_label(drawn, fmt="{:,.0f}", fontsize=7, padding=2)
    axes.set(xlabel=label, xscale="log")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7, ncols=2)


PLOTS = {
    "create": _create,
    "drain": _drain,
    "lateness": _lateness,
    "spike": _spike,
    "growth": _growth,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
