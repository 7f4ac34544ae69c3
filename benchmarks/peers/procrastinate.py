"""Procrastinate on PostgreSQL, asynchronous tasks, 100 at once, polling 20 times a second."""

from __future__ import annotations

import datetime as dt
from typing import Any

from benchmarks.peers.harness import PAYLOAD, Peer, crowd, evenly, main

__all__ = ["ProcrastinatePeer"]

_POOL = 16  # connections that callers share
_BATCH = 1000


def _at(due: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(due / 1e6, dt.UTC)


class ProcrastinatePeer(Peer):
    """Jobs by `schedule_at`; the polls find what has fallen due."""

    def _app(self, *, asynchronous: bool = False) -> Any:
        from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

        kind = PsycopgConnector if asynchronous else SyncPsycopgConnector
        app = App(connector=kind(conninfo=self.url, min_size=1, max_size=_POOL))
        append = self.appender()

        async def handle(due: int, **_: Any) -> None:
            append(due)

        app.task(name="bench")(handle)
        return app

    def prepare(self) -> None:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as db:
            found = db.execute("SELECT to_regclass('procrastinate_jobs')").fetchone()
            if found is not None and found[0] is not None:
                db.execute("TRUNCATE procrastinate_jobs CASCADE")
                return
        with self._app().open() as app:
            app.schema_manager.apply_schema()

    def create(self, callers: int, seconds: float) -> float:
        with self._app().open() as app:
            hour = {"hours": 1}

            def call() -> None:
                app.configure_task("bench", schedule_in=hour).defer(due=0, **PAYLOAD)

            return crowd(call, callers, seconds)

    def _make(self, app: Any, dues: list[int]) -> None:
        from procrastinate.jobs import Job

        jobs = [
            Job(
                id=None,
                queue="default",
                lock=None,
                queueing_lock=None,
                task_name="bench",
                task_kwargs={**PAYLOAD, "due": due},
                scheduled_at=_at(due),
            )
            for due in dues
        ]
        app.job_manager.batch_defer_jobs(jobs)

    def fill(self, first: int, span: int, count: int) -> None:
        with self._app().open() as app:
            for start in range(0, count, _BATCH):
                some = range(start, min(count, start + _BATCH))
                self._make(app, [first + i * span // count for i in some])

    def evenly(self, first: int, rate: int, count: int, ahead: float) -> None:
        with self._app().open() as app:
            evenly(lambda dues: self._make(app, dues), first, rate, count, ahead)

    def work(self) -> None:
        app = self._app(asynchronous=True)
        app.run_worker(concurrency=100, fetch_job_polling_interval=0.05, listen_notify=True)


if __name__ == "__main__":
    main(ProcrastinatePeer)
