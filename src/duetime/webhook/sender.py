"""One thread that makes thousands of calls at once, and keeps every destination to its share.

A call goes: inbox, its destination's limit and circuit, the addresses of its name (checked, all of
them), libcurl, and back to whoever waits for it. Everything but `send` and the waiting happens in
the sender's own thread, so nothing of it needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from heapq import heappop, heappush
from types import TracebackType
from typing import Any, Self

from duetime.chance import Chance, SystemChance
from duetime.clock import MICROS, Clock, SystemClock
from duetime.errors import ConfigError, InvalidInput, LifecycleError
from duetime.webhook.answer import Answer, Fault, asked_wait, is_well
from duetime.webhook.destinations import Destination, Destinations, Held
from duetime.webhook.policy import Limits, Policy
from duetime.webhook.request import Request
from duetime.webhook.resolver import Found, Resolver, look_up

__all__ = ["Sender"]

_log = logging.getLogger("duetime")
_LONGEST_SLEEP = 60 * MICROS  # µs
_STOP_WAIT = 5.0  # seconds: how long `close` waits for the thread


class _Call:
    """A request on its way."""

    __slots__ = ("began", "deadline", "exchange", "future", "loop", "place", "request")

    def __init__(
        self, request: Request, future: Any, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self.request = request
        self.future = future  # of asyncio where there is a loop, else of concurrent.futures
        self.loop = loop
        self.began = 0  # µs of the boot clock
        self.deadline = 0
        self.place: Destination[_Call] | None = None  # whose share it takes
        self.exchange: Any = None  # while libcurl has it

    def __lt__(self, other: object) -> bool:
        """Any order will do among those of one deadline."""
        return False


class Sender:
    """Makes calls. Starts at the first one; may be shared by threads and event loops."""

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        limits: Limits | None = None,
        told: Callable[[str, str], None] | None = None,
        clock: Clock | None = None,
        chance: Chance | None = None,
        resolve: Callable[[str], tuple[str, ...]] = look_up,
    ) -> None:
        """Take what may be called, and how much it may take.

        `told` hears ("opened" or "closed", destination) of circuits, in the sender's thread: be
        quick. Raises ConfigError `extra_missing` where pycurl is not installed.
        """
        self.policy = policy or Policy()
        self.limits = limits or Limits()
        self.guard = self.policy.guard()
        self.clock = clock or SystemClock()
        self.random = (chance or SystemChance()).random
        self._told = told
        self._multi = _multi()
        self._destinations: Destinations[_Call] = Destinations(self.limits, self.random)
        self._resolver = Resolver(
            resolve,
            lambda host, found: self._post(self._resolved, host, found),
            self.limits.dns_threads,
            int(self.limits.dns_ttl * MICROS),
        )
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._resolving: dict[str, list[_Call]] = {}
        self._deadlines: list[tuple[int, _Call]] = []  # of those that are being resolved
        self._calls: set[_Call] = set()
        self._outbox: dict[asyncio.AbstractEventLoop, list[tuple[Any, Answer]]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._pid = os.getpid()

    # --- called by others ------------------------------------------------------------------

    def send(self, request: Request) -> Future[Answer]:
        """Make a call; the future never fails, whatever comes of it.

        Raises LifecycleError after `close` and in a forked child.
        """
        future: Future[Answer] = Future()
        self._admit(_Call(request, future, None))
        return future

    async def call(self, request: Request) -> Answer:
        """Make a call from an event loop; when cancelled, the call is cut off.

        Raises LifecycleError after `close` and in a forked child.
        """
        loop = asyncio.get_running_loop()
        call = _Call(request, loop.create_future(), loop)
        self._admit(call)
        try:
            answer: Answer = await call.future
        except asyncio.CancelledError:
            self._post(self._abort, call)
            raise
        return answer

    def open_circuits(self) -> list[str]:
        """Return the destinations that are left alone for a while."""
        return self._destinations.open_circuits()

    def close(self) -> None:
        """Cut off what is under way and end the thread; those who wait hear `Fault.CLOSED`."""
        with self._lock:
            closed, self._closed = self._closed, True
            thread = self._thread
        if closed or os.getpid() != self._pid:
            return
        if thread is None:
            self._multi.close()
            return
        self._post(lambda: None)
        if thread is not threading.current_thread():
            thread.join(_STOP_WAIT)

    def __enter__(self) -> Self:
        """Return the sender; it is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _admit(self, call: _Call) -> None:
        if os.getpid() != self._pid:
            raise LifecycleError(
                "This Sender belongs to the process that made it: make one after the fork.",
                code="forked",
            )
        with self._lock:
            if self._closed:
                raise LifecycleError("send() after close(): make another Sender.", code="closed")
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="duetime-sender", daemon=True
                )
                self._thread.start()
            # In the lock, so that nothing is put in after the thread has looked for the last time.
            self._inbox.append((self._take, (call,)))
        self._multi.wake()

    def _post(self, what: Callable[..., None], *arguments: Any) -> None:
        self._inbox.append((what, arguments))
        self._multi.wake()

    # --- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        sleep = 0
        while not self._closed:
            try:
                sleep = self._step(sleep)
            except Exception:  # noqa: BLE001 - what ought not to happen must leave nobody waiting
                _log.exception("The webhook sender failed; the calls under way count as broken off")
                self._drop_all(Fault.BROKEN)
                sleep = MICROS // 10
        with self._lock:
            self._work_off()
        self._drop_all(Fault.CLOSED)
        self._resolver.stop()
        self._multi.close()

    def _step(self, sleep: int) -> int:
        """Wait for at most so many µs, do what there is to do, say how long to wait next."""
        # What ended comes first: after that, its handles serve other calls.
        for exchange, code, text in self._multi.wait(sleep, self._inbox):
            self._end(exchange, code, text)
        self._work_off()
        now = self.clock.boot()
        while self._deadlines and self._deadlines[0][0] <= now:
            self._resolving_failed(heappop(self._deadlines)[1], now)
        for call, held in self._destinations.sent_away(now):
            self._hold(call, held, now)
        self._hand_out()
        sleep = _LONGEST_SLEEP
        if self._deadlines:
            sleep = min(sleep, self._deadlines[0][0] - now)
        again = self._destinations.look_again(now)
        return sleep if again is None else min(sleep, again)

    def _work_off(self) -> None:
        for _ in range(len(self._inbox)):
            what, arguments = self._inbox.popleft()
            what(*arguments)

    def _take(self, call: _Call) -> None:
        now = self.clock.boot()
        limits = self.limits
        call.began = now
        call.deadline = now + int((call.request.timeout or limits.timeout) * MICROS)
        self._calls.add(call)
        try:
            self.policy.check(call.request.url, self.guard)
        except InvalidInput as error:
            self._answer(call, Answer(fault=Fault.BLOCKED, detail=str(error)), now)
            return
        place = self._destinations.get(call.request.url.origin)
        verdict = self._destinations.enter(place, call, now)
        if isinstance(verdict, Held):
            self._hold(call, verdict, now)
        elif verdict:
            self._start(call, place, now)

    def _start(self, call: _Call, place: Destination[_Call], now: int) -> None:
        """Begin a call that has its place: first find where it goes."""
        call.place = place
        url = call.request.url
        if url.is_address:
            self._connect(call, (url.host,), now)
            return
        addresses = self._resolver.pinned(url.host, now)
        if addresses is not None:
            self._connect(call, addresses, now)
            return
        waiting = self._resolving.setdefault(url.host, [])
        waiting.append(call)
        limit = min(call.deadline, now + int(self.limits.connect * MICROS))
        heappush(self._deadlines, (limit, call))
        self._resolver.ask(url.host)

    def _resolved(self, host: str, found: Found) -> None:
        now = self.clock.boot()
        self._resolver.keep(host, found, now)
        for call in self._resolving.pop(host, ()):
            if isinstance(found, str):
                self._finish(call, Answer(fault=Fault.RESOLVING, detail=found), now)
            else:
                self._connect(call, found, now)
        if not self._resolving:
            self._deadlines.clear()

    def _resolving_failed(self, call: _Call, now: int) -> None:
        waiting = self._resolving.get(call.request.url.host)
        if waiting and call in waiting:
            waiting.remove(call)
            self._finish(call, Answer(fault=Fault.RESOLVING, detail="no answer in time"), now)

    def _connect(self, call: _Call, addresses: tuple[str, ...], now: int) -> None:
        # All of them must be public: of mixed answers, somebody else may choose the one that is
        # called.
        for address in addresses:
            why = self.guard.refusal(address)
            if why is not None:
                self._finish(call, Answer(fault=Fault.BLOCKED, detail=why), now)
                return
        exchange = self._multi.lend(self.policy, self.limits, self.guard)
        exchange.call = call
        call.exchange = exchange
        exchange.begin(call.request, addresses, call.deadline - now)
        self._multi.add(exchange)

    def _end(self, exchange: Any, code: int, text: str) -> None:
        call = exchange.call
        answer = exchange.end(code, text)
        self._take_back(call)
        self._finish(call, answer, self.clock.boot())

    def _take_back(self, call: _Call) -> None:
        exchange, call.exchange = call.exchange, None
        exchange.call = None
        self._multi.give_back(exchange)

    def _finish(self, call: _Call, answer: Answer, now: int) -> None:
        """Tell who waits, and what was learned of the destination; then the next has its turn."""
        place = call.place
        assert place is not None
        asked = asked_wait(answer, self.clock.wall(), self.limits) or 0
        changed = self._destinations.leave(
            place, now, now - call.began, well=is_well(answer), asked=asked
        )
        self._answer(call, answer, now)
        if changed is not None:
            self._tell("opened" if changed else "closed", place.origin)
        self._next(place, now)

    def _next(self, place: Destination[_Call], now: int) -> None:
        while (call := self._destinations.next_in_line(place, now)) is not None:
            if call in self._calls:
                self._start(call, place, now)
            else:
                self._destinations.release(place)  # given up while it waited in line

    def _hold(self, call: _Call, held: Held, now: int) -> None:
        if call in self._calls:
            fault = Fault.OPEN if held.is_open else Fault.BUSY
            self._answer(call, Answer(fault=fault, wait=held.wait), now)

    def _abort(self, call: _Call) -> None:
        """Let go of a call whose caller does not wait any more."""
        if call not in self._calls:
            return
        self._calls.discard(call)
        if call.exchange is not None:
            call.exchange.drop()
            self._take_back(call)
        waiting = self._resolving.get(call.request.url.host, [])
        if call in waiting:
            waiting.remove(call)
        if call.place is not None:
            self._destinations.release(call.place)
            self._next(call.place, self.clock.boot())

    def _drop_all(self, fault: Fault) -> None:
        for call in list(self._calls):
            if call.exchange is not None:
                call.exchange.drop()
                self._take_back(call)
            self._answer(call, Answer(fault=fault), self.clock.boot())
        self._resolving.clear()
        self._deadlines.clear()
        self._destinations = Destinations(self.limits, self.random)
        self._hand_out()

    def _answer(self, call: _Call, answer: Answer, now: int) -> None:
        self._calls.discard(call)
        answer.took = now - call.began
        if call.loop is not None:
            self._outbox.setdefault(call.loop, []).append((call.future, answer))
        elif call.future.set_running_or_notify_cancel():
            call.future.set_result(answer)

    def _hand_out(self) -> None:
        """Wake each event loop once for all that came of its calls."""
        if not self._outbox:
            return
        outbox, self._outbox = self._outbox, {}
        for loop, answers in outbox.items():
            with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, answers)

    def _tell(self, what: str, origin: str) -> None:
        _log.log(
            logging.WARNING if what == "opened" else logging.INFO,
            "The circuit of the webhook receiver %s has %s",
            origin,
            what,
        )
        if self._told is not None:
            try:
                self._told(what, origin)
            except Exception:  # noqa: BLE001 - whatever the caller's function raises is its own
                _log.exception("told(%r) of the webhook sender failed", what)


def _settle(answers: list[tuple[asyncio.Future[Answer], Answer]]) -> None:
    for future, answer in answers:
        if not future.done():
            future.set_result(answer)


def _multi() -> Any:
    """Return the part that needs pycurl, which is an extra."""
    try:
        from duetime.webhook.multi import Multi  # noqa: PLC0415 - only who sends needs it
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Webhooks are sent by {error.name}: pip install 'duetime[webhook]'",
            code="extra_missing",
        ) from None
    return Multi()
