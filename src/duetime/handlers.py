"""Which handler answers which kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import msgspec

from duetime import inputs
from duetime.errors import InvalidInput
from duetime.retry import Backoff

__all__ = ["Handler", "Handlers", "Mode"]


class Mode(Enum):
    """How a handler is called."""

    SYNC = "sync"  # one event, in a thread
    ASYNC = "async"  # one event, on the event loop
    BATCH = "batch"  # a list of events, in a thread
    ASYNC_BATCH = "async batch"  # a list of events, on the event loop
    PULL = "pull"  # handed out as claims, at the caller's pace


class Handler(msgspec.Struct, frozen=True):
    """What answers a kind."""

    kind: str
    function: Callable[..., Any]
    mode: Mode
    backoff: Backoff
    batch: int = 1  # events per call at most
    timeout: float | None = None  # seconds; async handlers only


def _nothing(_: object) -> None:
    """Stand in where claims are pulled and nothing is called."""


class Handlers:
    """The registry of one scheduler."""

    def __init__(self, backoff: Backoff, batch_size: int) -> None:
        self._backoff = backoff
        self._batch_size = batch_size
        self._by_kind: dict[str, Handler] = {}

    def add(
        self,
        kind: str,
        function: Callable[..., Any],
        *,
        batch: bool | int = False,
        retry: Backoff | None = None,
        timeout: float | None = None,
    ) -> Handler:
        """Register a function for a kind.

        Raises InvalidInput: `kind_invalid`, `handler_duplicate`, `handler_signature`,
        `batch_range`, `retry_invalid` or `timeout_range`.
        """
        inputs.kind(kind)
        if kind in self._by_kind:
            raise InvalidInput(
                f"The kind {kind!r} has a handler already: {_name(self._by_kind[kind].function)}.",
                code="handler_duplicate",
                field="kind",
            )
        _check_callable(function)
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
        )
        if batch:
            mode = Mode.ASYNC_BATCH if is_async else Mode.BATCH
        else:
            mode = Mode.ASYNC if is_async else Mode.SYNC
        if timeout is not None:
            _check_timeout(timeout, is_async=is_async)
        if retry is not None and not isinstance(retry, Backoff):
            raise InvalidInput(
                f"retry must be a Backoff, not {retry!r:.80}.", code="retry_invalid", field="retry"
            )
        wish: object = batch
        if not isinstance(wish, int) or wish < 0:
            raise InvalidInput(
                f"batch must be true, false or a whole number from 1, not {batch!r:.80}.",
                code="batch_range",
                field="batch",
            )
        size = self._batch_size if batch is True else int(batch) or 1
        handler = Handler(kind, function, mode, retry or self._backoff, size, timeout)
        self._by_kind[kind] = handler
        return handler

    def pull(self, kind: str, retry: Backoff | None = None) -> Handler:
        """Register a kind whose events are pulled; a second time changes nothing."""
        found = self._by_kind.get(kind)
        if found is not None and found.mode is Mode.PULL:
            return found
        handler = msgspec.structs.replace(self.add(kind, _nothing, retry=retry), mode=Mode.PULL)
        self._by_kind[kind] = handler
        return handler

    def get(self, kind: str) -> Handler | None:
        """Return the handler of a kind, or None."""
        return self._by_kind.get(kind)

    def __iter__(self) -> Iterator[Handler]:
        """Iterate over all handlers."""
        return iter(tuple(self._by_kind.values()))

    def __len__(self) -> int:
        """Count the kinds that have a handler."""
        return len(self._by_kind)


def _check_callable(function: object) -> None:
    if not callable(function):
        raise InvalidInput(
            f"A handler must be callable, not {type(function).__name__}.",
            code="handler_signature",
            field="function",
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidInput(
            f"{_name(function)} is a generator: calling it does nothing yet.",
            code="handler_signature",
            field="function",
        )
    try:
        inspect.signature(function).bind(None)
    except ValueError:
        return  # some builtins have no signature to look at
    except TypeError as error:
        raise InvalidInput(
            f"{_name(function)} must take exactly one argument, the event ({error}).",
            code="handler_signature",
            field="function",
        ) from None


def _check_timeout(timeout: Any, *, is_async: bool) -> None:
    if not is_async:
        raise InvalidInput(
            "A time-out needs an async handler: a thread cannot be stopped from outside.",
            code="timeout_range",
            field="timeout",
        )
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not 0 < timeout < float("inf"):
        raise InvalidInput(
            f"timeout must be a positive number of seconds, not {timeout!r:.80}.",
            code="timeout_range",
            field="timeout",
        )


def _name(function: object) -> str:
    return getattr(function, "__qualname__", None) or repr(function)[:80]
