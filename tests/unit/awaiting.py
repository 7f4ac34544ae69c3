"""What the tests of the awaitable door share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from duetime.aio import AsyncScheduler
from duetime.config import Settings
from duetime.stores.memory import MemoryStore
from tests.unit.node.stand import DEADLINE, QUICK


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until a condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - conditions of threads set no asyncio event
            await asyncio.sleep(0.002)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(2 * DEADLINE):
            await main()

    asyncio.run(limited())


@asynccontextmanager
async def door(**settings: Any) -> AsyncIterator[tuple[AsyncScheduler, MemoryStore]]:
    store = MemoryStore(4)
    async with AsyncScheduler(store, settings=Settings(**{**QUICK, **settings})) as scheduler:
        yield scheduler, store
