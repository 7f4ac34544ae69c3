"""APScheduler 3 with its SQLAlchemy store on PostgreSQL and a pool of 16 threads."""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import Any

from benchmarks.peers.harness import PAYLOAD, Peer, crowd, evenly, main, now

__all__ = ["ApschedulerPeer", "handle"]

_APPEND: list[Any] = []


def handle(due: int, payload: dict[str, Any]) -> None:
    """Append a line; found by its name when a stored job is loaded."""
    if not _APPEND:
        _APPEND.append(ApschedulerPeer("", os.environ["BENCH_FILE"]).appender())
    _APPEND[0](due)


def _at(due: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(due / 1e6, dt.UTC)


class ApschedulerPeer(Peer):
    """Jobs by a `date` trigger. Creator and worker are one process: its jobs are not shared."""

    def _scheduler(self, *, paused: bool) -> Any:
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
        from apscheduler.schedulers.background import BackgroundScheduler

        os.environ["BENCH_FILE"] = self.file
        url = self.url.replace("postgresql://", "postgresql+psycopg://")
        scheduler = BackgroundScheduler(
            jobstores={"default": SQLAlchemyJobStore(url=url)},
            executors={"default": ThreadPoolExecutor(16)},
            job_defaults={"misfire_grace_time": None, "coalesce": False},
            timezone=dt.UTC,
        )
        scheduler.start(paused=paused)
        return scheduler

    def prepare(self) -> None:
        scheduler = self._scheduler(paused=True)
        scheduler.remove_all_jobs()
        scheduler.shutdown()

    def _add(self, scheduler: Any, due: int) -> None:
        scheduler.add_job(
            "benchmarks.peers.apscheduler:handle", "date", run_date=_at(due), args=[due, PAYLOAD]
        )

    def create(self, callers: int, seconds: float) -> float:
        scheduler = self._scheduler(paused=True)
        due = now() + 3_600_000_000
        rate = crowd(lambda: self._add(scheduler, due), callers, seconds)
        scheduler.shutdown()
        return rate

    def fill(self, first: int, span: int, count: int) -> None:
        scheduler = self._scheduler(paused=True)
        for i in range(count):
            self._add(scheduler, first + i * span // count)
        scheduler.shutdown()

    def evenly(self, first: int, rate: int, count: int, ahead: float) -> None:
        scheduler = self._scheduler(paused=False)

        def make(dues: list[int]) -> None:
            for due in dues:
                self._add(scheduler, due)

        evenly(make, first, rate, count, ahead)
        while scheduler.get_jobs():
            time.sleep(0.1)
        scheduler.shutdown()

    def work(self) -> None:
        self._scheduler(paused=False)
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main(ApschedulerPeer)
