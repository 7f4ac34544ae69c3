"""For receivers: tells whether a webhook was signed with our secret, just now, and is no replay."""

from __future__ import annotations

import binascii
import hmac
import re
import threading
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from duetime.clock import MICROS, Clock, SystemClock
from duetime.errors import InvalidInput
from duetime.webhook.signing import Secret, secrets_of

__all__ = ["Verified", "Verifier"]

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_ATTEMPT = re.compile(r"[0-9]{1,18}", re.ASCII)
_NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")
_LONGEST = 4096  # characters of a header
_MOST = 16  # signatures in a list


class Verified(msgspec.Struct, frozen=True):
    """A webhook that is genuine. `attempt` and `token` are not covered by the signature."""

    id: str  # the event's id: the same on every retry
    timestamp: int  # seconds since 1970 UTC: when this attempt was signed
    attempt: int | None = None  # grows with each attempt of an event
    token: str | None = None  # tells two attempts apart


class Verifier:
    """Checks what a webhook brings. May be shared by threads."""

    def __init__(
        self,
        secrets: str | Secret | Sequence[str | Secret],
        *,
        tolerance: float = 300.0,
        remember: int = 100_000,
        clock: Clock | None = None,
    ) -> None:
        """Take the secrets that may have signed, and the tolerance in seconds.

        Raises ConfigError `secret_invalid`.
        """
        self._secrets = secrets_of(secrets)
        self._tolerance = tolerance
        self._most = remember
        self._clock = clock or SystemClock()
        self._seen: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._lock = threading.Lock()

    def verify(
        self, headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes
    ) -> Verified:
        """Return what was verified: the headers, and the body exactly as it came in.

        The same message twice is a replay and refused; a retry is another message, with the same
        id and a time of its own. Raises InvalidInput: `signature_header`, `signature_time`,
        `signature_invalid` or `signature_replayed`.
        """
        found = _headers(headers)
        message_id, stamp, signatures = (found[name] for name in _NAMES)
        if _ID.fullmatch(message_id) is None or _TIMESTAMP.fullmatch(stamp) is None:
            raise _refuse("signature_header", "webhook-id or webhook-timestamp cannot be read")
        timestamp, now = int(stamp), self._clock.wall() // MICROS
        if abs(now - timestamp) > self._tolerance:
            raise _refuse("signature_time", f"it was signed {now - timestamp} s ago")
        message = b"%s.%s.%s" % (message_id.encode(), stamp.encode(), body)
        if not self._is_signed(message, signatures):
            raise _refuse("signature_invalid", "no signature of it is ours")
        self._remember((message_id, timestamp), now)
        attempt = found.get("duetime-attempt", "")
        return Verified(
            message_id,
            timestamp,
            int(attempt) if _ATTEMPT.fullmatch(attempt) else None,
            found.get("duetime-token"),
        )

    def _is_signed(self, message: bytes, signatures: str) -> bool:
        """Compare each signature with each secret's, all of them whatever comes out."""
        given = signatures.split(" ")
        if len(given) > _MOST:
            raise _refuse("signature_header", f"there are more than {_MOST} signatures")
        wanted = [secret.signature(message) for secret in self._secrets]
        good = False
        for entry in given:
            version, _, text = entry.partition(",")
            if version != "v1":
                continue
            try:
                signature = b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                continue
            for one in wanted:
                good |= hmac.compare_digest(one, signature)
        return good

    def _remember(self, key: tuple[str, int], now: int) -> None:
        with self._lock:
            if key in self._seen:
                raise _refuse("signature_replayed", "this very message was here before")
            self._seen[key] = now
            while self._seen:
                oldest, seen_at = next(iter(self._seen.items()))
                # A message from the future by the tolerance stays valid for twice as long.
                if now - seen_at <= 2 * self._tolerance and len(self._seen) <= self._most:
                    break
                del self._seen[oldest]


def _headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers that matter, each there once; names do not depend on case."""
    found: dict[str, str] = {}
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        low = name.lower()
        if low not in _NAMES and not low.startswith("duetime-"):
            continue
        if low in found:
            raise _refuse("signature_header", f"{low} is there twice")
        if len(value) > _LONGEST:
            raise _refuse("signature_header", f"{low} is longer than {_LONGEST:,} characters")
        found[low] = value
    for name in _NAMES:
        if not found.get(name):
            raise _refuse("signature_header", f"{name} is missing")
    return found


def _refuse(code: str, text: str) -> InvalidInput:
    return InvalidInput(f"Webhook not accepted: {text}.", code=code, field="headers")
