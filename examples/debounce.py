"""Debouncing with an id of one's own: many changes, one indexing, when things have been quiet."""

from __future__ import annotations

import threading

from duetime import Answer, Event, Scheduler

QUIET = 0.3  # seconds without a change


def changed(scheduler: Scheduler, document: str) -> None:
    """Have a document indexed once nobody has changed it for a while."""
    pause = threading.Event()
    while True:
        event = scheduler.schedule("index", document, after=QUIET, id=f"index-{document}")
        if event.created:
            return
        answer = scheduler.reschedule(event.id, after=QUIET)
        if answer is Answer.RESCHEDULED:
            return
        # In flight: it is being indexed, perhaps without our change. Once it is done, the id is
        # free again.
        pause.wait(0.02)


def main() -> None:
    indexed = threading.Event()
    changes = 0
    with Scheduler("memory://") as scheduler:

        @scheduler.on("index")
        def index(event: Event) -> None:
            print(f"{event.payload} indexed after {changes} changes")
            indexed.set()

        scheduler.start()
        for _ in range(20):
            changes += 1
            changed(scheduler, "manual")
            threading.Event().wait(0.02)
        indexed.wait(10)


if __name__ == "__main__":
    main()
