"""How an error becomes one line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress

import click

from duetime.cli.text import escape
from duetime.errors import DuetimeError, InvalidInput, SchemaError, StoreError

__all__ = ["INTERRUPTED", "OK", "REFUSED", "Refused", "report"]

OK, REFUSED, USAGE, UNREACHABLE, SCHEMA, INTERRUPTED = 0, 1, 2, 3, 4, 130

_CODES: tuple[tuple[type[DuetimeError], int], ...] = (
    (SchemaError, SCHEMA),
    (StoreError, UNREACHABLE),
    (InvalidInput, USAGE),
)


class Refused(DuetimeError):
    """What was asked for was not done: exit code 1."""

    code = "refused"


def report(error: BaseException, *, debug: bool) -> int:
    """Tell an error in one line on stderr and return the exit code; with `debug`, where it was."""
    if isinstance(error, click.exceptions.Exit):
        return int(error.exit_code)
    if isinstance(error, OSError):
        _discard_output()
    if isinstance(error, BrokenPipeError):
        return OK  # whoever read our output has seen enough
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        interrupted = isinstance(error, KeyboardInterrupt) or isinstance(
            error.__context__, KeyboardInterrupt
        )
        return INTERRUPTED if interrupted else _tell("aborted", "Nothing was done.", REFUSED)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return USAGE
    if isinstance(error, click.UsageError):
        if error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        return _tell("usage", error.format_message(), USAGE)
    if isinstance(error, click.ClickException):
        return _tell("usage", error.format_message(), USAGE)
    if debug:
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    if isinstance(error, DuetimeError):
        code = next((code for kind, code in _CODES if isinstance(error, kind)), REFUSED)
        return _tell(error.code, str(error), code)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return _tell(
            errno.errorcode.get(error.errno or 0, "os").lower(),
            f"{name}{error.strerror or error}.",
            REFUSED,
        )
    hint = "" if debug else " (--debug shows where)"
    return _tell("internal", f"{type(error).__name__}: {error}{hint}", REFUSED)


def _tell(code: str, text: str, exit_code: int) -> int:
    word = click.style("error", fg="red", bold=True)
    click.echo(f"{word} [{code}]: {escape(text)}", err=True)
    return exit_code


def _discard_output() -> None:
    """Drop what could not be written, so that the interpreter's end does not try it again."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
