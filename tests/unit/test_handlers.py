"""The registry: which function answers which kind, checked when it is registered."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from duetime.errors import InvalidInput
from duetime.handlers import Handlers, Mode
from duetime.retry import Backoff

DEFAULT = Backoff(retries=7)


def registry() -> Handlers:
    return Handlers(DEFAULT, 50)


def plain(_event: object) -> None:
    """Do nothing."""


async def awaited(_event: object) -> None:
    """Do nothing."""


class Caller:
    def __call__(self, _event: object) -> None:
        """Do nothing."""

    def method(self, _event: object) -> None:
        """Do nothing."""


class AsyncCaller:
    async def __call__(self, _event: object) -> None:
        """Do nothing."""


def refused(function: Any, kind: str = "k", **options: Any) -> str:
    handlers = registry()
    with pytest.raises(InvalidInput) as caught:
        handlers.add(kind, function, **options)
    assert len(handlers) == 0
    return caught.value.code


@pytest.mark.parametrize(
    ("function", "batch", "mode"),
    [
        (plain, False, Mode.SYNC),
        (awaited, False, Mode.ASYNC),
        (plain, True, Mode.BATCH),
        (awaited, 5, Mode.ASYNC_BATCH),
        (lambda _event: None, False, Mode.SYNC),
        (Caller(), False, Mode.SYNC),
        (Caller().method, False, Mode.SYNC),
        (AsyncCaller(), False, Mode.ASYNC),
        (functools.partial(awaited), False, Mode.ASYNC),
        (print, False, Mode.SYNC),
    ],
)
def test_the_mode_is_seen_from_the_function(
    function: Callable[..., Any], batch: int, mode: Mode
) -> None:
    """Whether a handler is async is seen from it, whether it takes lists is said."""
    handler = registry().add("k", function, batch=batch)
    assert handler.mode is mode
    assert handler.function is function


def test_defaults_come_from_the_settings() -> None:
    """Backoff and batch size are the registry's unless said otherwise."""
    handlers = registry()
    first = handlers.add("a", plain, batch=True)
    own = Backoff(retries=1)
    second = handlers.add("b", plain, batch=3, retry=own)
    assert (first.backoff, first.batch) == (DEFAULT, 50)
    assert (second.backoff, second.batch) == (own, 3)
    assert handlers.add("c", plain).batch == 1


def test_a_kind_has_one_handler() -> None:
    """The second handler of a kind is refused, and the first one named."""
    handlers = registry()
    handlers.add("k", plain)
    with pytest.raises(InvalidInput, match="plain") as caught:
        handlers.add("k", awaited)
    assert caught.value.code == "handler_duplicate"
    found = handlers.get("k")
    assert found is not None
    assert found.function is plain


def no_argument() -> None:
    """Take nothing."""


def two_arguments(_one: object, _two: object) -> None:
    """Take two."""


def keyword_needed(_one: object, *, _more: object) -> None:
    """Need a keyword."""


def generator(_event: object) -> Iterator[int]:
    yield 1


async def async_generator(_event: object) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "function",
    [no_argument, two_arguments, keyword_needed, "text", None, 7, generator, async_generator],
)
def test_what_cannot_be_called_with_an_event_is_refused(function: Any) -> None:
    """A handler takes exactly one argument and does its work when called; a generator does not."""
    assert refused(function) == "handler_signature"


@pytest.mark.parametrize("kind", ["", "a b", "x" * 65, "-a", "a/b", None, 7])
def test_kinds_are_checked(kind: Any) -> None:
    """A kind that no event may have gets no handler."""
    assert refused(plain, kind) == "kind_invalid"


@pytest.mark.parametrize("batch", [-1, "5", 2.5])
def test_batch_sizes_are_checked(batch: Any) -> None:
    """A batch is at least one event, said as a whole number."""
    assert refused(plain, batch=batch) == "batch_range"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "5"])
def test_timeouts_are_checked(timeout: Any) -> None:
    """A time-out is a positive number of seconds."""
    assert refused(awaited, timeout=timeout) == "timeout_range"


def test_a_thread_cannot_be_timed_out() -> None:
    """A time-out for a sync handler is refused with the reason: nothing could stop it."""
    assert refused(plain, timeout=5) == "timeout_range"
    assert registry().add("k", awaited, timeout=5).timeout == 5


@pytest.mark.parametrize("retry", [3, "often", Backoff])
def test_a_retry_policy_is_a_backoff(retry: Any) -> None:
    """Anything but a Backoff is refused at once, not at the first failure."""
    assert refused(plain, retry=retry) == "retry_invalid"


def test_pulling_twice_is_once() -> None:
    """A kind that is pulled may be pulled again, from several places."""
    handlers = registry()
    first = handlers.pull("k")
    assert first.mode is Mode.PULL
    assert handlers.pull("k") is first
    assert len(handlers) == 1


def test_a_kind_is_handled_or_pulled() -> None:
    """A kind that has a handler cannot be pulled, nor the other way round."""
    for first, second in (("add", "pull"), ("pull", "add")):
        handlers = registry()
        calls: dict[str, Callable[[], Any]] = {
            "add": functools.partial(handlers.add, "k", plain),
            "pull": functools.partial(handlers.pull, "k"),
        }
        calls[first]()
        with pytest.raises(InvalidInput) as caught:
            calls[second]()
        assert caught.value.code == "handler_duplicate"


def test_it_iterates_over_what_was_there() -> None:
    """Handlers may be registered while others look through them."""
    handlers = registry()
    handlers.add("a", plain)
    for handler in handlers:
        handlers.add("b" + handler.kind, plain)
    assert {handler.kind for handler in handlers} == {"a", "ba"}
    assert handlers.get("none") is None
