"""The same door, awaitable: the words of `Scheduler`, for programs with an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from duetime import inputs
from duetime.aio_group import AsyncGroup
from duetime.errors import AnswerLost, LifecycleError
from duetime.event import Event, Row, State
from duetime.observer import Statistics
from duetime.pull import LOOK, Claim
from duetime.pull import Claims as SyncClaims
from duetime.retry import Backoff
from duetime.scheduler import Scheduler
from duetime.stores.contract import Answer, Counts, Member, Store
from duetime.within import is_awaited, through

__all__ = ["AsyncClaim", "AsyncClaims", "AsyncScheduler"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
_GROUP = 1000  # wishes written at once, at most
_ENDED = 0.05  # seconds between two looks whether a signal came


class AsyncScheduler:
    """A `Scheduler` whose calls are awaited; async handlers run on the caller's loop.

    Tasks that schedule or cancel at the same time share one commit. `sync` is the synchronous
    scheduler inside, which holds settings, handlers and figures.
    """

    def __init__(self, store: str | Store | None = None, **options: Any) -> None:
        self.sync = Scheduler(store, **options)
        self._executor = ThreadPoolExecutor(4, thread_name_prefix="duetime-aio")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._inserts: AsyncGroup[Row, Event] = AsyncGroup(self._insert, _GROUP, self._executor)
        self._cancels: AsyncGroup[str, Answer] = AsyncGroup(self._cancel, _GROUP, self._executor)

    def _insert(self, rows: list[Row]) -> list[Event]:
        return self.sync.intake.insert(rows)

    def _cancel(self, ids: list[str]) -> list[Answer | AnswerLost]:
        return self.sync.intake.cancel(ids)

    async def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = self._enter(function.__name__)
        return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def _enter(self, call: str) -> asyncio.AbstractEventLoop:
        """Return the running loop, or refuse the call."""
        if self._closed:
            raise LifecycleError(f"{call}() came after close().", code="closed")
        loop = asyncio.get_running_loop()
        if self._loop is None or self._loop.is_closed():
            self._loop = loop
        if loop is not self._loop:
            raise LifecycleError(
                f"{call}() from another event loop: make an AsyncScheduler for each loop.",
                code="other_loop",
            )
        return loop

    def on(
        self,
        kind: str,
        *,
        batch: bool | int = False,
        retry: Backoff | None = None,
        timeout: float | None = None,
    ) -> Callable[[F], F]:
        """Register the decorated function as the handler of a kind: see `Scheduler.on`."""
        return self.sync.on(kind, batch=batch, retry=retry, timeout=timeout)

    async def schedule(
        self,
        kind: str,
        payload: Any = None,
        *,
        at: datetime | None = None,
        after: timedelta | float | None = None,
        id: str | None = None,  # noqa: A002 - the word of the domain
        within: object = None,
    ) -> Event:
        """Store one event: see `Scheduler.schedule`.

        `within` may be SQLAlchemy's AsyncConnection or AsyncSession, too.
        """
        if within is not None:

            def store(connection: object) -> Event:
                return self.sync.schedule(
                    kind, payload, at=at, after=after, id=id, within=connection
                )

            return await self._within("schedule", within, store)
        intake = await self._intake("schedule")
        return await self._inserts.submit(intake.row(kind, payload, at, after, id))

    async def schedule_many(
        self, wishes: Iterable[Mapping[str, Any]], *, within: object = None
    ) -> list[Event]:
        """Store many events: see `Scheduler.schedule_many`, and `schedule` for `within`."""
        if within is not None:
            store = lambda to: self.sync.schedule_many(wishes, within=to)  # noqa: E731 - one call
            return await self._within("schedule_many", within, store)
        return await self._call(self.sync.schedule_many, wishes)

    async def cancel(self, event_id: str, *, within: object = None) -> Answer:
        """Take an event back: see `Scheduler.cancel`, and `schedule` for `within`."""
        if within is not None:
            cancel = lambda to: self.sync.cancel(event_id, within=to)  # noqa: E731 - one call
            return await self._within("cancel", within, cancel)
        await self._intake("cancel")
        return await self._cancels.submit(inputs.known_id(event_id))

    async def cancel_many(self, ids: Iterable[str], *, within: object = None) -> list[Answer]:
        """Take events back: see `Scheduler.cancel_many`, and `schedule` for `within`."""
        if within is not None:
            cancel = lambda to: self.sync.cancel_many(ids, within=to)  # noqa: E731 - one call
            return await self._within("cancel_many", within, cancel)
        return await self._call(self.sync.cancel_many, ids)

    async def reschedule(
        self,
        event_id: str,
        *,
        at: datetime | None = None,
        after: timedelta | float | None = None,
        within: object = None,
    ) -> Answer:
        """Move an event: see `Scheduler.reschedule`, and `schedule` for `within`."""
        if within is not None:
            move = lambda to: self.sync.reschedule(  # noqa: E731 - one call
                event_id, at=at, after=after, within=to
            )
            return await self._within("reschedule", within, move)
        return await self._call(self.sync.reschedule, event_id, at=at, after=after)

    async def fire_now(self, event_id: str, *, within: object = None) -> Answer:
        """Move an event to now: see `Scheduler.fire_now`, and `schedule` for `within`."""
        return await self.reschedule(event_id, within=within)

    async def redrive(self, event_id: str) -> Answer:
        """Schedule a dead event again: see `Scheduler.redrive`."""
        return await self._call(self.sync.redrive, event_id)

    async def redrive_many(self, ids: Iterable[str]) -> list[Answer]:
        """Schedule dead events again: see `Scheduler.redrive_many`."""
        return await self._call(self.sync.redrive_many, ids)

    async def get(self, event_id: str) -> Event | None:
        """Return an event that is kept, or None."""
        return await self._call(self.sync.get, event_id)

    async def find(
        self,
        *,
        kind: str | None = None,
        state: State | None = None,
        due_from: datetime | None = None,
        due_until: datetime | None = None,
        limit: int = 100,
        after: Event | None = None,
    ) -> list[Event]:
        """Return a page of events: see `Scheduler.find`."""
        return await self._call(
            self.sync.find,
            kind=kind,
            state=state,
            due_from=due_from,
            due_until=due_until,
            limit=limit,
            after=after,
        )

    async def dead(
        self, *, kind: str | None = None, limit: int = 100, after: Event | None = None
    ) -> list[Event]:
        """Return a page of dead events: see `Scheduler.dead`."""
        return await self._call(self.sync.dead, kind=kind, limit=limit, after=after)

    async def counts(self) -> Counts:
        """Count what is kept: see `Scheduler.counts`."""
        return await self._call(self.sync.counts)

    async def statistics(self) -> Statistics:
        """Return the figures of this process: see `Scheduler.statistics`."""
        return await self._call(self.sync.statistics)

    async def members(self) -> list[Member]:
        """Return the nodes on the roll: see `Scheduler.members`."""
        return await self._call(self.sync.members)

    async def claims(
        self, kind: str, *, prefetch: int = 1, retry: Backoff | None = None
    ) -> AsyncClaims:
        """Pull events of a kind: see `Scheduler.claims`."""
        self._enter("claims")
        self.sync.handlers.pull(kind, retry)
        await self.start()
        claims = await self._call(self.sync.claims, kind, prefetch=prefetch, retry=retry)
        return AsyncClaims(claims, max(1, prefetch))

    async def start(self, *, beater: bool = False) -> None:
        """Make this process a node; async handlers run on the loop that runs now."""
        await self._call(self.sync.start, asyncio.get_running_loop(), beater=beater)

    async def stop(self, grace: float | None = None) -> None:
        """Stop being a node: see `Scheduler.stop`."""
        await self._call(self.sync.stop, grace)

    async def run(self) -> None:
        """Be a node until SIGTERM or SIGINT, or until this task is cancelled."""
        with self.sync.signals() as ended:
            try:
                await self.start(beater=self.sync.settings.beater)
                never = asyncio.Event()  # a signal sets a flag, which no task can await
                while not ended.is_set() and self.sync.is_running("run"):
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(never.wait(), _ENDED)
            finally:
                await asyncio.shield(self.stop())

    async def close(self) -> None:
        """Stop, and let go of the store; safe to call twice."""
        if not self._closed:
            await self._call(self.sync.close)
            self._closed = True
            self._executor.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    async def _within(self, call: str, within: object, change: Callable[[object], R]) -> R:
        """Make a change in a transaction of the caller's, where his connection may be used.

        A synchronous connection is used here, in the loop's thread: it is the caller's choice.
        """
        intake = await self._intake(call)
        await self._call(intake.now)  # so that the loop need not wait for the store's clock
        return await through(within, change) if is_awaited(within) else change(within)

    async def _intake(self, call: str) -> Any:
        self._enter(call)
        # Opening the store and measuring its clock may block, so the loop does not do it.
        if self.sync.opened:
            return self.sync.intake
        return await self._call(getattr, self.sync, "intake")


class AsyncClaim:
    """A `Claim` as an async context manager."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.event = claim.event

    def confirm(self) -> bool:
        """Say that it is done: see `Claim.confirm`."""
        return self.claim.confirm()

    def rollback(self, after: timedelta | float | None = None, *, error: str | None = None) -> bool:
        """Give it back: see `Claim.rollback`."""
        return self.claim.rollback(after, error=error)

    def give_up(self, reason: str) -> bool:
        """Make the event dead: see `Claim.give_up`."""
        return self.claim.give_up(reason)

    def put_back(self) -> None:
        """Give it back unopened: see `Claim.put_back`."""
        self.claim.put_back()

    async def __aenter__(self) -> Event:
        """Return the event."""
        return self.claim.event

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Confirm, or roll back with the error."""
        self.claim.__exit__(kind, error, trace)


class AsyncClaims:
    """An endless async iterator of claims of one kind: see `Claims`."""

    def __init__(self, claims: SyncClaims, prefetch: int) -> None:
        self._claims = claims
        self._prefetch = prefetch

    async def take(self, most: int = 1, wait: float | None = None) -> list[AsyncClaim]:
        """Return up to `most` claims as soon as there is one: see `Claims.take`."""
        loop, due = asyncio.get_running_loop(), asyncio.Event()

        def hear() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(due.set)

        claims = self._claims
        with contextlib.suppress(TimeoutError), claims.asking(most, hear):
            async with asyncio.timeout(wait):
                # Nothing is awaited once something is taken: a cancel loses no claim.
                while not (taken := claims.collect(most)) and not claims.closed:
                    claims.look()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK):
                            await due.wait()
                    due.clear()
                return [AsyncClaim(claim) for claim in taken]
        return []

    def close(self) -> None:
        """End the iteration; claims handed out stay valid."""
        self._claims.close()

    async def __aiter__(self) -> AsyncIterator[AsyncClaim]:
        """Yield claims until closed; what was prefetched when the loop is left goes back."""
        while not self._claims.closed:
            taken = await self.take(self._prefetch)
            try:
                while taken:
                    yield taken.pop(0)
            finally:
                for one in taken:
                    one.put_back()
