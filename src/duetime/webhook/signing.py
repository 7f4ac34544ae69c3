"""Signatures by the Standard Webhooks scheme: secrets, and what is computed with them."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence

from duetime.errors import ConfigError

__all__ = ["Secret", "secrets_of", "sign"]

_PREFIX = "whsec_"
_FEWEST, _MOST = 24, 64  # bytes of a key
_VARIETY = 8  # different bytes that a random key has at least: 24 with fewer come once in 10**20


class Secret:
    """A key to sign with: "whsec_" and 24 to 64 random bytes in base64. It shows nowhere."""

    __slots__ = ("_mac",)

    def __init__(self, text: str) -> None:
        """Read a secret. Raises ConfigError `secret_invalid`, which never holds the value."""
        if not text.startswith(_PREFIX):
            raise _refuse(f"it must begin with {_PREFIX}")
        body = text.removeprefix(_PREFIX)
        try:
            key = b64decode(body + "=" * (-len(body) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise _refuse(f"what follows {_PREFIX} must be base64") from None
        if not _FEWEST <= len(key) <= _MOST:
            raise _refuse(f"it holds {len(key)} bytes; {_FEWEST} to {_MOST} random ones are needed")
        if len(set(key)) < _VARIETY:
            raise _refuse("its bytes are not random")
        # One that has seen the key: it is copied for each message, and no key lies about.
        self._mac = hmac.new(key, digestmod="sha256")

    def signature(self, message: bytes) -> bytes:
        """Return the HMAC-SHA256 of a message: 32 bytes."""
        mac = self._mac.copy()
        mac.update(message)
        return mac.digest()

    def __eq__(self, other: object) -> bool:
        """Tell whether both are the same key."""
        return isinstance(other, Secret) and self._mac.digest() == other._mac.digest()

    def __hash__(self) -> int:
        """Hash by the key."""
        return hash(self._mac.digest())

    def __repr__(self) -> str:
        """Show nothing of the key."""
        return "Secret(***)"

    def __reduce__(self) -> tuple[object, ...]:
        """Refuse to be pickled: a key must not end up in a file by accident."""
        raise TypeError("A Secret cannot be pickled or copied.")


def secrets_of(value: str | Secret | Sequence[str | Secret]) -> tuple[Secret, ...]:
    """Return one or several secrets: a text holds them separated by spaces, the newest first.

    Raises ConfigError `secret_invalid`, also where there is none.
    """
    parts = [value] if isinstance(value, Secret) else value
    parts = parts.split() if isinstance(parts, str) else parts
    found = tuple(part if isinstance(part, Secret) else Secret(part) for part in parts)
    if not found:
        raise _refuse("there is none")
    return found


def sign(secrets: Sequence[Secret], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: one signature per secret, so that keys can rotate.

    `timestamp` is in seconds since 1970 UTC.
    """
    message = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return " ".join(f"v1,{b64encode(key.signature(message)).decode()}" for key in secrets)


def _refuse(reason: str) -> ConfigError:
    return ConfigError(f"Webhook secret: {reason}.", code="secret_invalid", field="secret")
