"""Huey on SQLite with flushed commits, four threads, its schedule read once a second."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.harness import PAYLOAD, Peer, crowd, evenly, main, now

__all__ = ["HueyPeer"]


class HueyPeer(Peer):
    """Jobs by `eta`; one second is the shortest interval of its scheduler."""

    def _huey(self) -> tuple[Any, Any]:
        from huey import SqliteHuey

        huey = SqliteHuey("bench", filename=self.url.removeprefix("sqlite:///"), fsync=True)
        append = self.appender()

        def handle(due: int, payload: dict[str, Any]) -> None:
            append(due)

        return huey, huey.task(name="bench")(handle)

    def prepare(self) -> None:
        huey, _ = self._huey()
        huey.flush()

    def create(self, callers: int, seconds: float) -> float:
        _, task = self._huey()
        return crowd(lambda: task.schedule((0, PAYLOAD), delay=3600), callers, seconds)

    def _add(self, task: Any, due: int) -> None:
        task.schedule((due, PAYLOAD), delay=max(0.0, (due - now()) / 1e6))

    def fill(self, first: int, span: int, count: int) -> None:
        _, task = self._huey()
        for i in range(count):
            self._add(task, first + i * span // count)

    def evenly(self, first: int, rate: int, count: int, ahead: float) -> None:
        _, task = self._huey()

        def make(dues: list[int]) -> None:
            for due in dues:
                self._add(task, due)

        evenly(make, first, rate, count, ahead)

    def work(self) -> None:
        huey, _ = self._huey()
        consumer = huey.create_consumer(
            workers=4,
            worker_type="thread",
            initial_delay=0.01,
            max_delay=0.05,
            scheduler_interval=1,
        )
        consumer.run()


if __name__ == "__main__":
    main(HueyPeer)
