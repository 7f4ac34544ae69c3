"""Group commit for the tasks of one event loop: see `duetime.group`, which is for threads.

A module of its own, because importing asyncio takes as long as all the rest of Duetime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["AsyncGroup"]

T = TypeVar("T")
R = TypeVar("R")
Write = Callable[[list[T]], Sequence[R | Exception]]


class AsyncGroup(Generic[T, R]):
    """For tasks of one event loop: writes happen in one thread, the loop never waits for them."""

    def __init__(self, write: Write[T, R], most: int, executor: ThreadPoolExecutor) -> None:
        self._write = write
        self._most = most
        self._executor = executor
        self._queue: list[tuple[T, asyncio.Future[R]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        """Write one item, perhaps together with others'; return its answer once it is durable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._queue.append((item, future))
        if self._writer is None:
            self._writer = loop.create_task(self._run())
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                batch = self._queue[: self._most]
                del self._queue[: self._most]
                items = [item for item, _ in batch]
                try:
                    answers = await loop.run_in_executor(self._executor, self._write, items)
                except BaseException as error:  # noqa: BLE001 - every waiting task must hear of it
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), answer in zip(batch, answers, strict=True):
                        if not future.done():
                            _put(future, answer)
        finally:
            self._writer = None


def _put(future: asyncio.Future[R], answer: R | Exception) -> None:
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
