"""The group of all commands, and the one place where errors become exit codes."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from duetime.cli import admin, events, listing, running, scheduling
from duetime.cli.faults import report

__all__ = ["Program", "main"]


class Program(click.Group):
    """A group of commands that keeps the order they were added in and knows near names."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """Return the commands in the order of an event's life, not of the alphabet."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or refuse with the near name."""
        name = args[0]
        if not name.startswith("-") and name not in self.commands:
            close = difflib.get_close_matches(name, self.commands, 1)
            hint = f": did you mean {close[0]}?" if close else "; see duetime --help."
            ctx.fail(f"There is no command {name[:40]!a}{hint}")
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]  # click's answers None where this one never returns
        self, args: Sequence[str] | None = None, prog_name: str = "duetime", **extra: Any
    ) -> NoReturn:
        """Run a command and exit: 0 done, 1 refused, 2 usage or configuration, 3 the store
        cannot be reached, 4 its schema does not fit, 130 interrupted.
        """
        arguments = list(sys.argv[1:] if args is None else args)
        try:
            with self.make_context(prog_name, arguments, **extra) as context:
                code = self.invoke(context)
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - where all errors end
            code = report(error, debug="--debug" in arguments)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 store not reached, "
    "4 schema. Data goes to stdout, messages go to stderr.",
)
def main() -> None:
    """Schedule events, and see that they fire on time."""


for command in (
    running.run,
    scheduling.schedule,
    listing.list_,
    listing.show,
    events.cancel,
    events.reschedule,
    events.fire_now,
    listing.dead,
    events.redrive,
    admin.stats,
    admin.migrate,
    admin.check,
    admin.config,
    admin.version,
):
    main.add_command(command)
