"""The command `run`: be a node, or the parent of several."""

from __future__ import annotations

import importlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from duetime.cli.faults import OK
from duetime.cli.session import Session, common
from duetime.cli.supervisor import Supervisor
from duetime.cli.text import escape, to_json
from duetime.clock import MICROS, SystemClock
from duetime.config import redact
from duetime.errors import ConfigError

if TYPE_CHECKING:
    from duetime.scheduler import Scheduler

__all__ = ["load_app", "run"]

_PREFIX = "DUETIME_"


@click.command(short_help="Be a node: claim events and fire them.")
@click.argument("app", metavar="MODULE:OBJECT")
@common
@click.option(
    "--processes",
    type=click.IntRange(1, 512),
    default=1,
    show_default=True,
    help="How many nodes; one that dies is started again.",
)
@click.option("--supervised", is_flag=True, hidden=True)
def run(session: Session, app: str, processes: int, *, supervised: bool) -> int:
    """Run the scheduler that MODULE:OBJECT names as a node, until SIGTERM or Ctrl-C.

    The module is looked for in the working directory first. Handlers get the grace time to
    finish; a second signal ends it. With --json the log is JSON lines, on stderr.
    """
    _set_environment(session)
    _set_up_log(as_json=session.output.as_json)
    scheduler = load_app(app)
    _check_choice(session, scheduler)
    if processes > 1:
        return _supervise(session, app, processes, scheduler)
    if supervised:
        _watch_parent()
    else:
        _greet(session, scheduler, 1)
    _heed_hang_up(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        scheduler.run()
    finally:
        scheduler.close()
    if not supervised:
        session.output.say("stopped")
    return OK


def load_app(app: str) -> Scheduler:
    """Return the scheduler that "module:object" names. Raises ConfigError `app_invalid`."""
    from duetime.scheduler import Scheduler  # noqa: PLC0415 - heavy, and only `run` needs it

    module_name, colon, path = app.partition(":")
    if not (module_name and colon and path):
        raise _bad_app(app, "it must look like module:object, e.g. shop:scheduler")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        known = find_spec(module_name) is not None
    except (ImportError, ValueError):
        known = False
    if not known:
        hint = ": write a dot for each slash, and no .py" if "/" in app or ".py" in app else ""
        raise _bad_app(app, f"there is no module {module_name} in {here} or on the path{hint}")
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            names = [n for n in dir(found) if isinstance(getattr(found, n), Scheduler)]
            hint = f": did you mean {module_name}:{names[0]}?" if names else ""
            raise _bad_app(app, f"{module_name} has no {name}{hint}") from None
    if not isinstance(found, Scheduler):
        raise _bad_app(app, f"it is of type {type(found).__name__}, not a Scheduler")
    return found


def _bad_app(app: str, reason: str) -> ConfigError:
    end = "" if reason.endswith("?") else "."
    return ConfigError(f"{app[:200]}: {reason}{end}", code="app_invalid", field="app")


def _set_environment(session: Session) -> None:
    """Hand the options on to the program, and to child processes, as environment variables."""
    for name, value in {**session.arguments, "config": session.config}.items():
        if value is not None:
            os.environ.pop(f"{_PREFIX}{name.upper()}_FILE", None)
            os.environ[f"{_PREFIX}{name.upper()}"] = str(value)
    _ = session.settings  # raises where they are wrong, before the program is imported


def _check_choice(session: Session, scheduler: Scheduler) -> None:
    """Refuse an option that the program overrules with an argument of its own."""
    for name, value in session.arguments.items():
        chosen = getattr(scheduler.settings, name)
        if value is not None and chosen != value:
            raise ConfigError(
                f"--{name} has no effect: the program itself says {redact(chosen)}.",
                code="config_conflict",
                field=name,
            )


def _greet(session: Session, scheduler: Scheduler, processes: int) -> None:
    kinds = [handler.kind for handler in scheduler.handlers]
    if not kinds:
        session.output.say("no handler is registered: every event will be parked", style="yellow")
    listed = ", ".join(sorted(kinds)[:8]) + (", …" if len(kinds) > 8 else "")
    nodes = "1 node" if processes == 1 else f"{processes} nodes"
    store = redact(scheduler.settings.store)
    count = "1 kind" if len(kinds) == 1 else f"{len(kinds)} kinds"
    session.output.say(f"{nodes} on {store}, answering {count}: {listed or 'none'}")
    session.output.say("Ctrl-C or SIGTERM stops")


def _supervise(session: Session, app: str, processes: int, scheduler: Scheduler) -> int:
    command = [sys.executable, "-m", "duetime", "run", app, "--supervised"]
    command += ["--json"] * session.output.as_json + ["--debug"] * session.debug

    def spawn() -> subprocess.Popen[bytes]:
        # A group of its own keeps Ctrl-C from reaching the child beside our SIGTERM, which it
        # would take for a second signal. Its stdin is a pipe that ends when we die.
        return subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.PIPE, process_group=0
        )

    supervisor = Supervisor(spawn, processes, scheduler.settings.grace, session.output.say)
    scheduler.close()
    _attend(supervisor, lambda: _greet(session, scheduler, processes))
    session.output.say("stopped")
    return supervisor.exit_code


def _attend(supervisor: Supervisor, greet: Callable[[], None]) -> None:
    """Call the supervisor when a signal arrives, a child ends, or it asked to be called.

    `greet` says how to stop it, and so is called when that will be heeded.
    """
    clock = SystemClock()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop(clock.boot()))
    _heed_hang_up(lambda: supervisor.stop(clock.boot()))
    signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it writes to the pipe
    try:
        greet()
        while not supervisor.finished:
            again = supervisor.step(clock.boot())
            if supervisor.finished:
                break
            patience = None if again is None else max(0.0, (again - clock.boot()) / MICROS)
            if select.select([reader], [], [], patience)[0]:
                os.read(reader, 4096)
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _heed_hang_up(stop: Callable[[], None]) -> None:
    """Stop in order when the terminal goes away, unless `nohup` had it ignored."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: stop())


def _watch_parent() -> None:
    """Stop when the supervisor dies: the pipe on stdin, which it never writes to, ends then."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="duetime-parent", daemon=True).start()


class _JsonLines(logging.Formatter):
    """One record, one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        value = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            value["error"] = self.formatException(record.exc_info)
        return to_json(value)


class _PlainLines(logging.Formatter):
    """One record, one line; a traceback follows it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without anything that could disturb a terminal."""
        return escape(super().formatMessage(record))


def _set_up_log(*, as_json: bool) -> None:
    """Log to stderr; a program that sets up logging itself adds to it, or replaces it."""
    handler = logging.StreamHandler(sys.stderr)
    plain = "%(asctime)s %(process)d %(levelname)-7s %(name)s: %(message)s"
    handler.setFormatter(_JsonLines() if as_json else _PlainLines(plain))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
