"""Duetime in a program with an event loop: handlers run on that loop, beside everything else."""

from __future__ import annotations

import asyncio

from duetime import Answer, AsyncScheduler, Event


async def main() -> None:
    async with AsyncScheduler("memory://") as scheduler:
        left = {1, 2, 4, 5}
        all_fetched = asyncio.Event()

        @scheduler.on("page.fetch", timeout=5)
        async def fetch(event: Event) -> None:
            page = event.payload["page"]
            await asyncio.sleep(0.05)  # stands for a request
            print(f"page {page} fetched in attempt {event.attempt}")
            left.discard(page)
            if not left:
                all_fetched.set()

        await scheduler.start()
        # Tasks that schedule at the same time share one commit.
        events = await asyncio.gather(
            *(scheduler.schedule("page.fetch", {"page": n}, after=n * 0.2) for n in range(1, 6))
        )
        answer = await scheduler.cancel(events[2].id)
        assert answer is Answer.CANCELLED
        print("page 3 cancelled")
        await asyncio.wait_for(all_fetched.wait(), 10)


if __name__ == "__main__":
    asyncio.run(main())
