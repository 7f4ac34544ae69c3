"""An observer: told of what happens, once per batch, in the stages' own threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from duetime import Backoff, ErrorReport, Event, Level, Observer, Scheduler, Statistics


class Alarm(Observer):
    """Prints what an operator wants to know, and rings when an event was given up."""

    def __init__(self) -> None:
        self.rang = threading.Event()
        self.reported = threading.Event()

    def settled(self, done: int, retried: int, dead: int) -> None:
        print(f"settled: {done} done, {retried} retried, {dead} dead")

    def died(self, ids: Sequence[str]) -> None:
        print(f"ALARM: {', '.join(ids)} given up")
        self.rang.set()

    def error(self, report: ErrorReport) -> None:
        print(f"{Level(report.level).name} from {report.where}: {report.text}")

    def statistics(self, figures: Statistics) -> None:
        print(f"fired so far: {figures.tally.fired}, held: {figures.held}")
        self.reported.set()


def main() -> None:
    logging.getLogger("duetime").setLevel(logging.CRITICAL)  # the alarm tells it all
    alarm = Alarm()
    with Scheduler("memory://", observers=[alarm], stats_every=0.5) as scheduler:

        @scheduler.on("gate.open", retry=Backoff(retries=1, first=0.1))
        def open_gate(event: Event) -> None:
            raise OSError(f"gate {event.payload} is stuck")

        scheduler.start()
        scheduler.schedule("gate.open", 7, id="gate-7")
        alarm.rang.wait(10)
        alarm.reported.wait(10)


if __name__ == "__main__":
    main()
