"""The handler of a kind whose events carry webhooks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from duetime.clock import MICROS
from duetime.errors import InvalidInput
from duetime.event import Event
from duetime.outcome import Dead, Outcome
from duetime.retry import Backoff
from duetime.webhook.answer import outcome_of
from duetime.webhook.request import request_for
from duetime.webhook.sender import Sender
from duetime.webhook.signing import Secret, secrets_of
from duetime.webhook.target import target_of

__all__ = ["Secrets", "webhook_handler"]

DEFAULT = "default"
Some = str | Secret | Sequence[str | Secret]
Secrets = Some | Mapping[str, Some]


def webhook_handler(
    sender: Sender,
    secrets: Secrets,
    *,
    retry: Backoff | None = None,
    gone: Callable[[str, str], None] | None = None,
) -> Callable[[Event], Coroutine[Any, Any, Outcome]]:
    """Return an async handler that makes the call which an event's payload describes.

    `secrets`: one, several (the newest first, while they rotate), or a mapping of those by the
    name that a target gives; without a name it is "default". `retry` is the kind's backoff, so
    that a receiver which asks to wait is never asked sooner than by it. `gone` hears (event id,
    url) when a receiver answers 410. Raises ConfigError `secret_invalid`.
    """
    named = secrets if isinstance(secrets, Mapping) else {DEFAULT: secrets}
    keys = {name: secrets_of(some) for name, some in named.items()}
    backoff = retry or Backoff()
    limits, clock, random = sender.limits, sender.clock, sender.random

    async def deliver(event: Event) -> Outcome:
        try:
            target = target_of(event.payload)
            url = target.check(sender.policy, limits, sender.guard)
            signed_with = _known(keys, target.secret or DEFAULT)
        except InvalidInput as error:
            return Dead(f"{error.code}: {error}")  # no later attempt could do better
        request = request_for(event, target, url, signed_with, clock.wall() // MICROS)
        answer = await sender.call(request)
        outcome = outcome_of(answer, event.failures, backoff, clock.wall(), limits, random)
        if gone is not None and answer.fault is None and answer.status == 410:
            gone(event.id, target.url)
        return outcome

    return deliver


def _known(keys: Mapping[str, tuple[Secret, ...]], name: str) -> tuple[Secret, ...]:
    try:
        return keys[name]
    except KeyError:
        raise InvalidInput(
            f"There is no webhook secret named {name!a:.80}.", code="secret_unknown", field="secret"
        ) from None
