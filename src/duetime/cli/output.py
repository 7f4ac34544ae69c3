"""Where output goes: data to stdout, as JSON, as tab-separated lines or as a table; words to stderr.

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

__all__ = ["Column", "Output"]

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
    whole: bool = False  # never cut: an id must stay one that can be copied
    wraps: bool = False  # goes on in the next line where it is too long
    shown: bool = True  # in a table; lines for programs hold every column


class Output:
    """How one command answers."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.terminal = sys.stdout.isatty() and not as_json

    def say(self, text: str, *, style: str = "") -> None:
        """Tell something beside the data, on stderr; with --json nothing but errors is told."""
        if not self.as_json:
            click.echo(click.style(escape(text), fg=style or None), err=True)

    def document(self, value: Any) -> None:
        """Print one JSON document."""
        click.echo(to_json(value))

    def line(self, *cells: Any) -> None:
        """Print one line of tab-separated cells."""
        click.echo("\t".join(escape(str(cell)) for cell in cells))

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
        kept = [i for i, c in enumerate(columns) if c.shown and console.width >= c.least]
        table = Table(
            title=title or None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            header_style="bold",
            padding=(0, 1, 0, 0),
            pad_edge=False,
            show_edge=False,
        )
        for i in kept:
            table.add_column(
                columns[i].title,
                justify="right" if columns[i].right else "left",
                no_wrap=not columns[i].wraps,
                overflow="fold" if columns[i].wraps else "ellipsis",
                min_width=34 if columns[i].whole else None,
            )
        for row in rows:
            table.add_row(*(self._cell(row[i]) for i in kept))
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

    def _cell(self, cell: Any) -> Any:
        from rich.text import Text  # noqa: PLC0415 - as above

        text = str(cell[1] if isinstance(cell, tuple) else cell)
        return Text(escape(text), style=STYLES.get(text, ""))
