"""A webhook as an event carries it: what to call, checked when it is scheduled."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from duetime.errors import InvalidInput
from duetime.webhook.addresses import Guard
from duetime.webhook.policy import Limits, Policy
from duetime.webhook.url import Url, parse_url

__all__ = ["METHODS", "Target", "target_of"]

METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?|")
_SECRET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_MOST_HEADERS, _LONGEST_HEADERS = 40, 8192  # count, characters in all
# Hop-by-hop headers, those that decide where a message ends or whom it is for, and what would
# change the answer's form.
_FORBIDDEN = {
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_OURS = ("webhook-", "duetime-")
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_NOTHING: Any = msgspec.UNSET


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What to call. `payload()` is what an event carries."""

    url: str
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    headers: dict[str, str] = {}
    body: Any = _NOTHING  # a JSON value, sent as JSON
    text: str | None = None  # or a text, sent as it is, in UTF-8
    timeout: float | None = None  # seconds for a whole attempt
    secret: str | None = None  # the name of the secret to sign with; None: the default one

    def __post_init__(self) -> None:
        """Check all that does not depend on the settings. Raises InvalidInput."""
        fault = _type_fault(self)
        if fault is not None:
            raise _refuse("target_type", fault, "must be of another type: see the reference")
        parse_url(self.url)
        if self.method not in METHODS:
            raise _refuse("method_invalid", "method", f"must be one of {', '.join(METHODS)}")
        if self.body is not _NOTHING and self.text is not None:
            raise _refuse("body_both", "body", "is given, and text as well: give one")
        if self.method == "GET" and (self.body is not _NOTHING or self.text is not None):
            raise _refuse("body_method", "body", "is not sent with GET")
        _check_headers(self.headers)
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise _refuse("timeout_range", "timeout", "must be a positive number of seconds")
        if self.secret is not None and _SECRET.fullmatch(self.secret) is None:
            raise _refuse("secret_unknown", "secret", "must be the name of a secret")

    def payload(self) -> dict[str, Any]:
        """Return it as a JSON value, without what was not given."""
        default: dict[str, Any] = {
            "method": "POST",
            "headers": {},
            "text": None,
            "timeout": None,
            "secret": None,
        }
        return {
            name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not _NOTHING
            and (name not in default or value != default[name])
        }

    def check(self, policy: Policy, limits: Limits, guard: Guard) -> Url:
        """Check it by the settings, and return its URL.

        Raises InvalidInput: `url_scheme`, `url_blocked`, `timeout_range` or `body_too_large`.
        """
        url = parse_url(self.url)
        policy.check(url, guard)
        if self.timeout is not None and self.timeout > limits.longest:
            raise _refuse("timeout_range", "timeout", f"is more than {limits.longest:g} s")
        size = len(self.content())
        if size > limits.body:
            raise _refuse(
                "body_too_large", "body", f"takes {size:,} bytes; the limit is {limits.body:,}"
            )
        return url

    def content(self) -> bytes:
        """Return the bytes that are signed and sent. Raises InvalidInput `payload_type`."""
        if self.text is not None:
            return self.text.encode("utf-8", "surrogatepass")
        if self.body is _NOTHING:
            return b""
        try:
            return msgspec.json.encode(self.body)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            raise _refuse("payload_type", "body", f"is no JSON value ({error})") from None

    def lines(self) -> list[str]:
        """Return the header lines of the caller, with a content type where there is a body."""
        lines = [
            f"{name}: {value}" if value else f"{name};" for name, value in self.headers.items()
        ]
        has_type = any(name.lower() == "content-type" for name in self.headers)
        if not has_type and (self.text is not None or self.body is not _NOTHING):
            lines.append(f"Content-Type: {_JSON if self.text is None else _TEXT}")
        return lines


def target_of(value: Any) -> Target:
    """Return the target that a payload describes.

    Raises InvalidInput: `target_type`, `field_unknown` with a near name, or as `Target` does.
    """
    if not isinstance(value, dict) or "url" not in value:
        raise _refuse("target_type", "payload", 'must be an object with a "url"')
    names = Target.__struct_fields__
    for name in value:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidInput(
                f"A webhook has no field {name!a:.60}{hint}", code="field_unknown", field="payload"
            )
    return Target(**value)


def _type_fault(target: Target) -> str | None:
    """Return the name of a field whose type is wrong: a struct checks none when it is made."""
    number: Any = target.timeout
    good = {
        "url": isinstance(target.url, str),
        "method": isinstance(target.method, str),
        "headers": _maps_texts(target.headers),
        "text": target.text is None or isinstance(target.text, str),
        "timeout": number is None or (isinstance(number, int | float) and number is not True),
        "secret": target.secret is None or isinstance(target.secret, str),
    }
    return next((name for name, fits in good.items() if not fits), None)


def _maps_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, str) for pair in value.items() for one in pair
    )


def _check_headers(headers: Mapping[str, str]) -> None:
    if not headers:
        return
    seen = set()
    for name, value in headers.items():
        low = name.lower()
        if _NAME.fullmatch(name) is None:
            raise _refuse("header_forbidden", "headers", f"has {name!a:.60}, which is no name")
        if low in _FORBIDDEN or low.startswith(_OURS):
            raise _refuse("header_forbidden", "headers", f"must not set {name}")
        if low in seen:
            raise _refuse("header_forbidden", "headers", f"sets {name} twice")
        if _VALUE.fullmatch(value) is None:
            raise _refuse(
                "header_forbidden",
                "headers",
                f"has a value for {name} that is not printable ASCII, or has blanks around it",
            )
        seen.add(low)
    size = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > _MOST_HEADERS or size > _LONGEST_HEADERS:
        text = f"are more than {_MOST_HEADERS}, or {_LONGEST_HEADERS:,} characters"
        raise _refuse("header_forbidden", "headers", text)


def _refuse(code: str, field: str, text: str) -> InvalidInput:
    return InvalidInput(f"Webhook refused: {field} {text}.", code=code, field=field)
