"""How the demo shows itself: a live picture on a terminal, one plain line per second elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple, Protocol

from demo_audit import Audit, Record
from demo_plan import SORTS
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from duetime import Statistics

LEVELS = " ▁▂▃▄▅▆▇█"
ROWS = 4  # lines of the chart
WIDE = 90  # columns that have room for everything
TALL = 24  # lines of a terminal that has room for everything
DONE, WAITING, AGAIN, DEAD, CANCELLED = "green", "cyan", "yellow", "red", "magenta"
LEGEND = Text.assemble(
    ("  █", DONE), (" fired  ", "dim"), ("█", f"dim {WAITING}"), (" to come", "dim")
)


class Frame(NamedTuple):
    """One moment of the demo."""

    elapsed: float  # seconds since the start
    seconds: float  # until the last due time
    figures: Statistics
    record: Record
    dead: set[str]
    dues: Sequence[float]  # planned due times, seconds after the start
    start: datetime


class Screen(Protocol):
    """Where frames are shown."""

    every: float  # seconds between two frames

    def show(self, frame: Frame) -> None:
        """Show one frame."""


@contextmanager
def screen(title: str) -> Iterator[Screen]:
    """Give the screen that fits where stdout goes."""
    console = Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        console.print()
        with Live(console=console, auto_refresh=False) as live:
            yield Picture(live, title)
    else:
        print(title, flush=True)
        yield Lines()


class Lines:
    """One line per second, for files and pipes."""

    every = 1.0

    def show(self, frame: Frame) -> None:
        """Print the counts."""
        counts = "  ".join(f"{name} {value:,}" for name, value, _ in counts_of(frame))
        late = "  ".join(f"{name} {value}" for name, value in lateness_of(frame.figures))
        print(f"{frame.elapsed:5.1f} s  {counts}  lateness {late}", flush=True)


def counts_of(frame: Frame) -> list[tuple[str, int, str]]:
    """Return what is counted, with its colour."""
    tally = frame.figures.tally
    settled = tally.done + tally.retried + tally.dead
    return [
        ("scheduled", tally.scheduled, WAITING),
        ("held", frame.figures.held + frame.figures.queued, WAITING),
        ("fired", tally.fired, DONE),
        ("settled", settled, DONE),
        ("retried", tally.retried, AGAIN),
        ("dead", tally.dead, DEAD),
        ("cancelled", tally.cancelled, CANCELLED),
    ]


def lateness_of(figures: Statistics) -> list[tuple[str, str]]:
    """Return the lateness so far in milliseconds."""
    found = (figures.lateness_p50, figures.lateness_p99, figures.lateness_max)
    texts = [f"{micros / 1000:.{2 if micros < 10_000 else 0}f} ms" for micros in found]
    return list(zip(("p50", "p99", "max"), texts, strict=True))


class Seen:
    """What the picture has counted so far, so that a frame costs only what is new."""

    def __init__(self) -> None:
        self.calls = 0
        self.done: Counter[str] = Counter()  # by kind
        self.failed: Counter[str] = Counter()
        self.started: list[float] = []  # seconds after the start

    def look(self, frame: Frame) -> None:
        """Count the calls that came since."""
        new = frame.record.calls[self.calls :]
        self.calls += len(new)
        for call in new:
            (self.done if call.well else self.failed)[call.kind] += 1
            self.started.append((call.started_at - frame.start).total_seconds())


class Picture:
    """A live picture: what falls due when, what has fired, and the counts."""

    every = 0.2

    def __init__(self, live: Live, title: str) -> None:
        self._live = live
        self._title = title
        self._seen = Seen()

    def show(self, frame: Frame) -> None:
        """Draw the frame in place of the one before."""
        self._seen.look(frame)
        width = min(self._live.console.width - 4, 96)
        parts: list[RenderableType] = [
            Text(self._title, style="bold", no_wrap=True, overflow="ellipsis"),
            LEGEND,
            *chart(frame, self._seen.started, width),
            Text(),
            figures_table(frame, width),
        ]
        if self._live.console.height > TALL:
            parts += [Text(), kinds_table(frame, self._seen, width)]
        self._live.update(Group(*parts), refresh=True)


def chart(frame: Frame, started: Sequence[float], width: int) -> list[Text]:
    """Return bars of how many events fired, and will fall due, in each slice of time."""
    span = max(frame.seconds * 1.1, frame.elapsed)
    now = int(frame.elapsed / span * (width - 1))
    fired = Counter(int(start / span * (width - 1)) for start in started)
    coming = Counter(int(due / span * (width - 1)) for due in frame.dues)
    bars = [fired[i] if i <= now else coming[i] for i in range(width)]
    # A root keeps an instant with a thousand events from flattening all the others.
    heights = [bar**0.5 for bar in bars]
    top = max(*heights, 1.0)
    return [
        *(_bars(heights, top, row, now) for row in reversed(range(ROWS))),
        _axis(span, width, now),
    ]


def _bars(heights: Sequence[float], top: float, row: int, now: int) -> Text:
    """Return one line of the chart, the lowest being row 0."""
    cells = []
    for height in heights:
        level = max(0, min(8, round((height / top * ROWS - row) * 8)))
        cells.append(LEVELS[max(level, 1) if height and row == 0 else level])
    line = Text("  ")
    line.append("".join(cells[: now + 1]), style=DONE)
    line.append("".join(cells[now + 1 :]), style=f"dim {WAITING}")
    return line


def _axis(span: float, width: int, now: int) -> Text:
    cells = ["─"] * width
    cells[now] = "┴"
    step = next((s for s in (1, 2, 5, 10, 30, 60, 300) if span / s <= 8), 600)
    labels = [" "] * (width + 8)
    for second in range(0, int(span) + 1, step):
        place = int(second / span * (width - 1))
        text = f"{second} s"
        labels[place : place + len(text)] = text
    axis = Text("  ")
    axis.append("".join(cells[: now + 1]), style=DONE)
    axis.append("".join(cells[now + 1 :]) + "\n  " + "".join(labels[:width]), style="dim")
    return axis


def figures_table(frame: Frame, width: int) -> Table:
    """Return the counts and the lateness as two lines of big figures."""
    table = Table(box=None, padding=(0, 0), show_header=False, width=width + 2, pad_edge=False)
    counts = counts_of(frame)
    for _ in counts:
        table.add_column(justify="right", ratio=1)
    table.add_row(*(Text(f"{value:,}", style=f"bold {style}") for _, value, style in counts))
    table.add_row(*(Text(name, style="dim") for name, _, _ in counts))
    table.add_row()
    late = lateness_of(frame.figures)
    cells = [Text("lateness", style="dim")]
    for name, value in late:
        cells += [Text(value, style="bold"), Text(f" {name}", style="dim", justify="left")]
    table.add_row(*cells)
    return table


def kinds_table(frame: Frame, seen: Seen, width: int) -> Table:
    """Return a line for each kind of event: where its events are."""
    kinds = frame.record.kinds
    scheduled = Counter(list(kinds.values()))
    cancelled = Counter(kinds[i] for i in list(frame.record.cancelled()) if i in kinds)
    dead = Counter(kinds[i] for i in list(frame.dead) if i in kinds)
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False, show_edge=False)
    table.add_column("  kind", no_wrap=True, min_width=14)
    if wide:
        table.add_column("handler", no_wrap=True, style="dim", min_width=14)
    for name in ("scheduled", "done", "failed", "dead", "cancelled"):
        table.add_column(name, justify="right", no_wrap=True, min_width=9)
    for kind, sort in SORTS.items():
        numbers = [
            (scheduled[kind], WAITING),
            (seen.done[kind], DONE),
            (seen.failed[kind], AGAIN),
            (dead[kind], DEAD),
            (cancelled[kind], CANCELLED),
        ]
        cells = [Text(f"{n:,}", style=s) if n else Text("·", style="dim") for n, s in numbers]
        table.add_row(f"  {kind}", *([sort] if wide else []), *cells)
    return table


def summary(result: Audit, figures: Statistics, notes: Sequence[str]) -> None:
    """Print what came of it all."""
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    for check in result.checks:
        mark = Text("  ✓ ", style="bold green") if check.holds else Text("  ✗ ", style="bold red")
        console.print(mark + Text(check.text, style="" if check.holds else "bold red"))
    late = ", ".join(f"{name} {value}" for name, value in lateness_of(figures))
    console.print(Text("    lateness: ", style="dim") + Text(late, style="bold"))
    for note in notes:
        console.print(Text(f"    {note}", style="dim"))
    console.print()
    sys.stdout.flush()
