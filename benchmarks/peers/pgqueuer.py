"""PgQueuer on PostgreSQL by asyncpg and uvloop, with batches of 1,000."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import timedelta
from functools import partial
from typing import Any

from benchmarks.peers.harness import PAYLOAD, Peer, crowd_of_tasks, main, now

__all__ = ["PgQueuerPeer"]

_KIND = "bench"
_BATCH = 1000
_CONNECTIONS = 16  # callers share them
_TURN = 0.02


def _payload(due: int) -> bytes:
    return json.dumps({**PAYLOAD, "due": due}).encode()


class PgQueuerPeer(Peer):
    """Jobs by `execute_after`; the worker is told of new ones and polls 20 times a second."""

    async def _queries(self) -> Any:
        import asyncpg
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.queries import Queries

        return Queries(AsyncpgDriver(await asyncpg.connect(self.url)))

    def _run(self, work: Any) -> Any:
        import uvloop

        return uvloop.run(work)

    def prepare(self) -> None:
        async def run() -> None:
            queries = await self._queries()
            if await queries.schema_is_installed():
                await queries.uninstall()
            await queries.install()

        self._run(run())

    def create(self, callers: int, seconds: float) -> float:
        async def run() -> float:
            made = [await self._queries() for _ in range(min(callers, _CONNECTIONS))]
            locks = [asyncio.Lock() for _ in made]
            hour = timedelta(hours=1)

            async def one(index: int) -> None:
                async with locks[index]:
                    await made[index].enqueue(_KIND, _payload(0), execute_after=hour)

            calls = [partial(one, i % len(made)) for i in range(callers)]
            return await crowd_of_tasks(calls, seconds)

        rate: float = self._run(run())
        return rate

    async def _enqueue(self, queries: Any, dues: list[int]) -> None:
        at = now()
        waits = [timedelta(microseconds=max(0, due - at)) for due in dues]
        payloads = [_payload(due) for due in dues]
        await queries.enqueue([_KIND] * len(dues), payloads, [0] * len(dues), waits)

    def fill(self, first: int, span: int, count: int) -> None:
        async def run() -> None:
            queries = await self._queries()
            for start in range(0, count, _BATCH):
                some = range(start, min(count, start + _BATCH))
                await self._enqueue(queries, [first + i * span // count for i in some])

        self._run(run())

    def evenly(self, first: int, rate: int, count: int, ahead: float) -> None:
        async def run() -> None:
            queries, made = await self._queries(), 0
            while made < count:
                upto = min(count, int((now() + ahead * 1e6 - first) * rate / 1e6) + 1)
                if upto > made:
                    dues = [first + i * 1_000_000 // rate for i in range(made, upto)]
                    await self._enqueue(queries, dues)
                    made = upto
                await asyncio.sleep(_TURN)

        self._run(run())

    def work(self) -> None:
        async def run() -> None:
            import asyncpg
            from pgqueuer import PgQueuer
            from pgqueuer.db import AsyncpgDriver

            append = self.appender()
            queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(self.url)))

            async def handle(job: Any) -> None:
                append(json.loads(job.payload)["due"])

            queue.entrypoint(_KIND)(handle)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
            await queue.run(dequeue_timeout=timedelta(seconds=0.05), batch_size=_BATCH)

        self._run(run())


if __name__ == "__main__":
    main(PgQueuerPeer)
