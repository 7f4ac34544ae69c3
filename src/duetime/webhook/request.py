"""One call as it is sent: the very bytes that were signed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from duetime.event import Event
from duetime.webhook.signing import Secret, sign
from duetime.webhook.target import Target
from duetime.webhook.url import Url

__all__ = ["Request", "request_for"]

# libcurl would send these by itself: a name without a value takes a header away.
_WITHOUT = ("Expect:", "Accept: */*")
_WITHOUT_TYPE = "Content-Type:"


class Request(NamedTuple):
    """What the sender sends."""

    url: Url
    method: str
    headers: list[str]  # "Name: value"
    body: bytes
    timeout: float | None = None  # seconds for the whole attempt; None: the sender's own


def request_for(
    event: Event, target: Target, url: Url, secrets: Sequence[Secret], timestamp: int
) -> Request:
    """Return the signed request of one attempt; `timestamp` is in seconds since 1970 UTC."""
    body = target.content()
    number, attempt = event.token
    headers = target.lines()
    if not any(line[:13].lower() == "content-type:" for line in headers):
        headers.append(_WITHOUT_TYPE)
    headers += (
        *_WITHOUT,
        f"webhook-id: {event.id}",
        f"webhook-timestamp: {timestamp}",
        f"webhook-signature: {sign(secrets, event.id, timestamp, body)}",
        f"duetime-kind: {event.kind}",
        f"duetime-attempt: {attempt}",
        f"duetime-token: {number}-{attempt}",
    )
    return Request(url, target.method, headers, body, target.timeout)
