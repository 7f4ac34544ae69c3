"""Where output goes: data to stdout, as JSON, as lines or as a table; words to stderr.

A table is for a terminal; into a pipe or a file go lines that `cut` and `awk` understand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from duetime.cli.text import escape, to_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["Column", "Output"]

_GAP = 2  # spaces between two columns, one of which the box draws
STYLES = {
    "scheduled": "cyan",
    "claimed": "yellow",
    "parked": "magenta",
    "dead": "red",
    "cancelled": "green",
    "rescheduled": "green",
    "redriven": "green",
    "in_flight": "yellow",
    "unknown": "red",
    "ok": "green",
    "warning": "yellow",
    "error": "red",
}


class Column(NamedTuple):
    """One column of a table."""

    title: str
    right: bool = False  # numbers are aligned to the right
    least: int = 0  # shown only where the terminal is at least this wide
    most: int = 0  # cut to this share of the terminal's width, in percent; 0: never cut
    rest: bool = False  # the last one: takes the room that is left, and is cut there
    wraps: bool = False  # goes on in the next line instead of being cut


class Output:
    """How one command answers."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.terminal = sys.stdout.isatty() and not as_json

    def say(self, text: str, *, style: str = "") -> None:
        """Tell something beside the data, on stderr; with --json nothing but errors is told."""
        sys.stdout.flush()  # so that on a terminal both come in the order they were said
        if not self.as_json:
            click.echo(click.style(escape(text), fg=style or None), err=True)

    def document(self, value: Any) -> None:
        """Print one JSON document."""
        sys.stdout.write(to_json(value) + "\n")

    def line(self, *cells: Any) -> None:
        """Print one line of tab-separated cells."""
        sys.stdout.write("\t".join(escape(str(cell)) for cell in cells) + "\n")

    def table(
        self, columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, title: str = ""
    ) -> None:
        """Print rows: a table on a terminal, else tab-separated lines without a header.

        A cell is a text, or a pair: the text for programs and the one for people.
        """
        if not self.terminal:
            for row in rows:
                self.line(*(cell[0] if isinstance(cell, tuple) else cell for cell in row))
            return
        from rich import box  # noqa: PLC0415 - rich is slow to import, and only terminals need it
        from rich.table import Table  # noqa: PLC0415 - as above

        console = self.console()
        kept = [i for i, column in enumerate(columns) if console.width >= column.least]
        texts = [[_shown(row[i]) for i in kept] for row in rows]
        if not texts:
            return
        table = Table(
            title=title or None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            header_style="bold",
            padding=(0, _GAP - 1, 0, 0),
            pad_edge=False,
            show_edge=False,
        )
        shown = [columns[i] for i in kept]
        for column, width in zip(shown, _widths(shown, texts, console.width), strict=True):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                width=width,
                no_wrap=not column.wraps,
                overflow="fold" if column.wraps else "ellipsis",
            )
        for row in texts:
            table.add_row(*(_styled(text) for text in row))
        console.print(table)

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Print names and values: aligned on a terminal, else separated by a tab."""
        width = max(len(name) for name, _ in facts)
        for name, value in facts:
            if self.terminal:
                label = click.style(name.rjust(width), bold=True)
                click.echo(f"{label}  {click.style(escape(value), fg=STYLES.get(value))}")
            else:
                self.line(name, value)

    def console(self) -> Console:
        """Return a rich console on stdout that takes nothing in a text for markup."""
        from rich.console import Console  # noqa: PLC0415 - as above

        return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def _shown(cell: Any) -> str:
    return escape(str(cell[1] if isinstance(cell, tuple) else cell))


def _styled(text: str) -> Text:
    from rich.text import Text  # noqa: PLC0415 - rich is slow to import

    return Text(text, style=STYLES.get(text, ""))


def _widths(columns: list[Column], texts: list[list[str]], total: int) -> list[int]:
    """Return how wide each column is to be: what it needs, up to its limit, and the rest."""
    from rich.cells import cell_len  # noqa: PLC0415 - rich is slow to import

    widths = [
        max(map(cell_len, [column.title, *(row[i] for row in texts)]))
        for i, column in enumerate(columns)
    ]
    room = total - _GAP * (len(columns) - 1)
    for i, column in enumerate(columns):
        if column.most:
            others = sum(w for w, c in zip(widths, columns, strict=True) if not (c.most or c.rest))
            limit = min(total * column.most // 100, room - others)
            widths[i] = min(widths[i], max(limit, len(column.title)))
    for i, column in enumerate(columns):
        if column.rest:
            widths[i] = min(widths[i], max(room - sum(widths) + widths[i], len(column.title)))
    return widths
