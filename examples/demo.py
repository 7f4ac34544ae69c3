"""The main job, to watch: thousands of events over ten seconds, each of which must come to its end.

A node on an SQLite file schedules, cancels, moves, fires, retries and gives up; at the end the
demo adds up its own record of every handler call and compares it with what the store says.
Exit code 0: all adds up; 1: it does not; 2: bad usage; 130: interrupted.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from demo_audit import Audit, Call, Move, Record, audit
from demo_plan import Action, Plan, Wish, make_plan
from demo_screen import Frame, Screen, screen, summary

from duetime import (
    Backoff,
    ConfigError,
    DuetimeError,
    ErrorReport,
    Event,
    Level,
    Observer,
    Retry,
    Scheduler,
    State,
)

ACTORS = 4  # threads that schedule, cancel and move while the node fires
PATIENCE = 30.0  # seconds after the last due time in which all must have come to its end


class Watcher(Observer):
    """Keeps the ids of the dead, and what goes wrong in the node itself."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.errors: list[str] = []

    def died(self, ids: Sequence[str]) -> None:
        """Keep the dead."""
        self.dead.update(ids)

    def error(self, report: ErrorReport) -> None:
        """Keep an error; what handlers raise is only a warning, and here on purpose."""
        if report.level >= Level.ERROR:
            self.errors.append(f"{report.where}: {report.text}")


def add_handlers(scheduler: Scheduler, record: Record) -> None:
    """Register a handler of every sort; each notes its calls in the record."""

    @scheduler.on("order.expire")
    def expire(event: Event) -> None:
        record.ran(event)

    @scheduler.on("mail.send")
    async def send(event: Event) -> None:
        record.ran(event)
        await asyncio.sleep(0.005)  # as a mail server would let us wait

    @scheduler.on("meter.read", batch=True)
    def read(events: list[Event]) -> None:
        for event in events:
            record.ran(event)

    @scheduler.on("sale.open")
    def open_sale(event: Event) -> None:
        record.ran(event)

    @scheduler.on("card.charge", retry=Backoff(first=0.2, maximum=0.5))
    def charge(event: Event) -> Retry | None:
        if event.failures >= event.payload["declined"]:
            record.ran(event)
            return None
        record.failed(event)
        if event.failures == 0:
            return Retry(after=timedelta(milliseconds=200))
        raise ConnectionError("the bank did not answer")

    @scheduler.on("parcel.trace", retry=Backoff(retries=2, first=0.2, maximum=0.5))
    def trace(event: Event) -> None:
        record.failed(event)
        raise LookupError("nobody has seen this parcel")


class Show:
    """One performance of the plan."""

    def __init__(self, scheduler: Scheduler, plan: Plan) -> None:
        self.scheduler = scheduler
        self.plan = plan
        self.record = Record()
        self.watcher = Watcher()
        self.start = datetime.now(UTC)
        self._began = time.monotonic()
        self._bulk: list[Event] = []
        self._actions = iter(plan.actions)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._actors = [threading.Thread(target=self._act, daemon=True) for _ in range(ACTORS)]
        self._dues = [wish.due for wish in plan.bulk]
        self._dues += [action.wish.due for action in plan.actions if action.wish]
        scheduler.observers.add(self.watcher)
        add_handlers(scheduler, self.record)

    def perform(self, shown: Screen) -> None:
        """Do all that is planned, and wait until every event has come to its end."""
        self.scheduler.start()
        self.start = datetime.now(UTC)
        self._began = time.monotonic()
        self._bulk = self.scheduler.schedule_many(map(self._wish, self.plan.bulk))
        for event in self._bulk:
            self.record.scheduled(event)
        for actor in self._actors:
            actor.start()
        shown.show(self.frame())
        turn = 1
        while not self._over():
            pause = turn * shown.every - (time.monotonic() - self._began)
            if pause > 0:
                time.sleep(min(pause, 0.05))
            else:
                shown.show(self.frame())
                turn = int((time.monotonic() - self._began) / shown.every) + 1
        shown.show(self.frame())

    def end(self) -> None:
        """Let nobody act any more."""
        self._ended.set()
        for actor in self._actors:
            if actor.ident is not None:
                actor.join()

    def frame(self) -> Frame:
        """Return this moment."""
        return Frame(
            time.monotonic() - self._began,
            self.plan.seconds,
            self.scheduler.statistics(),
            self.record,
            self.watcher.dead,
            self._dues,
            self.start,
        )

    def _over(self) -> bool:
        """Tell whether all is settled, or will not be."""
        if time.monotonic() - self._began > self.plan.seconds + PATIENCE or self.watcher.errors:
            return True
        tally = self.scheduler.tally
        acting = any(actor.is_alive() for actor in self._actors)
        return not acting and tally.scheduled == tally.done + tally.cancelled + tally.dead

    def _at(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    def _wish(self, wish: Wish) -> dict[str, Any]:
        return {"kind": wish.kind, "payload": wish.payload, "at": self._at(wish.due)}

    def _act(self) -> None:
        """Do one action after the other, each at its time."""
        while True:
            with self._lock:
                action = next(self._actions, None)
            if action is None:
                return
            if self._ended.wait(max(0.0, action.at - (time.monotonic() - self._began))):
                return
            try:
                self._do(action)
            except DuetimeError as error:
                self.watcher.errors.append(f"while acting: {error}")
                return

    def _do(self, action: Action) -> None:
        if action.wish is not None:
            self.record.scheduled(self.scheduler.schedule(**self._wish(action.wish)))
            return
        event = self._bulk[action.bulk]
        if action.due is None:
            self.record.cancels[event.id] = self.scheduler.cancel(event.id)
        else:
            new = self._at(action.due)
            answer = self.scheduler.reschedule(event.id, at=new)
            self.record.moves[event.id] = Move(answer, event.due_at, new)


def dead_of(scheduler: Scheduler) -> list[Event]:
    """Return every dead event that the store lists, page by page."""
    found: list[Event] = []
    while page := scheduler.dead(limit=1000, after=found[-1] if found else None):
        found += page
    return found


def late(call: Call) -> float:
    """Return how late a call was, in ms."""
    return (call.started_at - call.due_at).total_seconds() * 1000


def report(show: Show) -> Audit:
    """Stop, compare all records, and print what came of it."""
    show.end()
    figures = show.scheduler.statistics()
    show.scheduler.stop(grace=2)
    scheduler, calls = show.scheduler, show.record.calls
    counts = scheduler.counts()
    result = audit(show.record, scheduler.tally, counts, {e.id for e in dead_of(scheduler)})
    notes = [f"error: {text}" for text in show.watcher.errors]
    instant = [late(call) for call in calls if call.kind == "sale.open"]
    others = sorted(late(call) for call in calls if call.kind != "sale.open")
    if instant and others:
        ends = (others[len(others) // 2], others[len(others) * 99 // 100], others[-1])
        p50, p99, last = (f"{end:.2f} ms" for end in ends)
        most = f"{max(instant):.0f} ms"
        notes += [
            f"the {len(instant):,} events of one instant had all started {most} after it",
            f"the others by our record: p50 {p50}, p99 {p99}, max {last}",
        ]
    summary(result, figures, notes)
    return result


@contextmanager
def chosen(store: str | None) -> Iterator[str]:
    """Give the URL of the store: the one chosen, or a file that is removed afterwards."""
    if store is not None:
        yield store
        return
    with tempfile.TemporaryDirectory(prefix="duetime-demo-") as folder:
        yield f"sqlite:///{Path(folder) / 'demo.db'}"


def perform(url: str, plan: Plan) -> int:
    """Perform the plan on a store and return the exit code."""
    with Scheduler(url, stats_every=0) as scheduler:
        counts = scheduler.counts()
        kept = sum(sum(getattr(counts, state.value).values()) for state in State)
        if kept:
            raise ConfigError(f"{url} holds {kept:,} events already: name a file of its own.")
        show = Show(scheduler, plan)
        number = len(plan.bulk) + sum(1 for action in plan.actions if action.wish)
        try:
            with screen(f"  Duetime · {number:,} events in {plan.seconds:g} s · {url}") as shown:
                show.perform(shown)
        except KeyboardInterrupt:
            click.echo("\ninterrupted", err=True)
            report(show)
            return 130
        return 0 if report(show).holds and not show.watcher.errors else 1


@click.command()
@click.option("--events", type=click.IntRange(100, 1_000_000), default=10_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(1, 3600), default=10.0, show_default=True)
@click.option("--store", metavar="URL", help="An empty store; default: a temporary SQLite file.")
@click.option("--seed", default=1, show_default=True, help="Another number, another plan.")
def main(events: int, seconds: float, store: str | None, seed: int) -> None:
    """Schedule events, watch them fire, and see that they add up."""
    logging.getLogger("duetime").setLevel(logging.CRITICAL)  # the watcher tells errors at the end
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with chosen(store) as url:
            sys.exit(perform(url, make_plan(events, seconds, seed)))
    except DuetimeError as error:
        click.echo(f"error [{error.code}]: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
