"""Celery with Redis, jobs by ETA: one worker, a pool of two processes, results ignored."""

from __future__ import annotations

import datetime as dt
import os
import sys
from typing import Any

from benchmarks.peers.harness import PAYLOAD, Peer, crowd, evenly, main

__all__ = ["CeleryPeer"]


def _at(due: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(due / 1e6, dt.UTC)


class CeleryPeer(Peer):
    """The broker hands out everything at once; the worker holds what is not yet due."""

    def _app(self) -> Any:
        from celery import Celery

        app = Celery("bench", broker=self.url)
        app.conf.update(
            task_ignore_result=True,
            worker_prefetch_multiplier=0,  # as many as there are: needed with ETA
            task_acks_late=False,
            broker_transport_options={"visibility_timeout": 86_400},
            broker_connection_retry_on_startup=True,
            broker_pool_limit=16,
            worker_send_task_events=False,
            task_send_sent_event=False,
        )
        append: list[Any] = []

        def handle(due: int, payload: dict[str, Any]) -> None:
            if not append:
                append.append(self.appender())
            append[0](due)

        app.task(name="bench")(handle)
        return app

    def prepare(self) -> None:
        import redis

        redis.Redis.from_url(self.url).flushall()

    def create(self, callers: int, seconds: float) -> float:
        task = self._app().tasks["bench"]
        eta = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        return crowd(lambda: task.apply_async((0, PAYLOAD), eta=eta), callers, seconds)

    def fill(self, first: int, span: int, count: int) -> None:
        app = self._app()
        task = app.tasks["bench"]
        with app.producer_pool.acquire(block=True) as producer:
            for i in range(count):
                due = first + i * span // count
                task.apply_async((due, PAYLOAD), eta=_at(due), producer=producer)

    def evenly(self, first: int, rate: int, count: int, ahead: float) -> None:
        app = self._app()
        task = app.tasks["bench"]
        with app.producer_pool.acquire(block=True) as producer:

            def make(dues: list[int]) -> None:
                for due in dues:
                    task.apply_async((due, PAYLOAD), eta=_at(due), producer=producer)

            evenly(make, first, rate, count, ahead)

    def work(self) -> None:
        words = ["--pool=prefork", "--concurrency=2", "--loglevel=ERROR", "--without-gossip"]
        os.environ["C_FORCE_ROOT"] = "1"
        self._app().worker_main(["worker", *words, "--without-mingle", "--without-heartbeat"])


if __name__ == "__main__":
    sys.argv[0] = "celery"
    main(CeleryPeer)
