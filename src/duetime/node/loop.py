"""Where async handlers run: an event loop in a thread of its own, or the caller's.

Imported when there is a first async handler: asyncio takes as long as all the rest of Duetime.
"""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Generator

from duetime.clock import StoreClock
from duetime.handlers import Mode
from duetime.node.lanes import Job, Lane
from duetime.node.runner import Runner

__all__ = ["LoopPool"]


class LoopPool:
    """An event loop in a thread of its own, with a few long-lived tasks per kind.

    A task serves one event after the other, so that an event costs no task of its own.
    """

    def __init__(self, runner: Runner, clock: StoreClock) -> None:
        self._runner = runner
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}
        self._lock = threading.Lock()

    def feed(self, lane: Lane) -> None:
        """Tell that rows of this lane wait."""
        self.loop().call_soon_threadsafe(self._spread, lane)

    def use(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run handlers on the caller's own loop instead."""
        self._loop = loop

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop; where none was given, one is started at first use."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="duetime-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def cancel(self) -> None:
        """Ask every running async handler to stop; its result is dropped."""
        if self._loop is not None and self._tasks:
            self._loop.call_soon_threadsafe(self._cancel_all)

    def stop(self) -> None:
        """Cancel what still runs, and end the loop if it is ours."""
        self.cancel()
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(self._close(), loop)
            thread.join(5)
            if not thread.is_alive():
                loop.close()

    async def _close(self) -> None:
        tasks = [task for tasks in self._tasks.values() for task in tasks]
        await asyncio.gather(*tasks, return_exceptions=True)
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.stop)

    def _cancel_all(self) -> None:
        for tasks in self._tasks.values():
            for task in tasks:
                task.cancel()

    def _spread(self, lane: Lane) -> None:
        tasks = self._tasks.setdefault(lane.kind, set())
        for _ in range(min(lane.jobs(), lane.cap - len(tasks))):
            task = asyncio.get_running_loop().create_task(self._serve(lane))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _serve(self, lane: Lane) -> None:
        one_by_one = lane.handler.mode is Mode.ASYNC
        while (job := self._runner.job_of(lane, lane.share(), self._clock.now())) is not None:
            began, several = self._clock.boot(), len(job.rows) > 1
            try:
                await (self._call_each(job) if one_by_one else self._call(job))
            except asyncio.CancelledError:
                self._runner.interrupt(job)
                raise
            finally:
                self._runner.finish(job, self._clock.boot() - began)
            if several:
                await _turn()  # these handlers wait for nothing: others on the loop get theirs here

    async def _call_each(self, job: Job) -> None:
        function, timeout = job.lane.handler.function, job.lane.handler.timeout
        while (event := self._runner.next_event(job)) is not None:
            result: object
            try:
                if timeout is None:
                    result = await function(event)
                else:
                    async with asyncio.timeout(timeout):
                        result = await function(event)
            except asyncio.CancelledError as error:
                if _is_cancelled():
                    job.running, job.current = [event.row], None
                    raise
                result = error
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is a failure
                result = error
            self._runner.book(job, event.row, result)

    async def _call(self, job: Job) -> None:
        handler = job.lane.handler
        events = self._runner.begin(job)
        job.running = [event.row for event in events]
        if not events:
            return
        result: object
        try:
            async with asyncio.timeout(handler.timeout):
                result = await handler.function(events)
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            result = error
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is a failure
            result = error
        self._runner.take_results(job, events, result)
        job.running = []


def _is_cancelled() -> bool:
    """Tell whether we cancelled the task; a handler may also fail because its own part was."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Let the loop's other tasks run once."""
    yield
