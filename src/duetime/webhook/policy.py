"""What may be called, and within which limits: set by the operator, checked once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from duetime.errors import ConfigError, InvalidInput
from duetime.webhook.addresses import Guard
from duetime.webhook.url import Url

__all__ = ["Limits", "Policy"]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Which URLs may be called. Raises ConfigError for what cannot be."""

    allow_http: bool = False  # plain http:// too
    ports: tuple[int, ...] = (80, 443, 8080, 8443)
    # Names that may be called, where not all: "example.com" for itself, ".example.com" for all
    # below it.
    hosts: tuple[str, ...] = ()
    # Loopback and private networks too (never link-local, where clouds hand out credentials).
    allow_private: bool = False
    allow_networks: tuple[str, ...] = ()  # such as "10.1.0.0/16", though it is not public
    deny_networks: tuple[str, ...] = ()  # though they are public
    ca_file: str | None = None  # certificates to trust, PEM; None: those of the system

    def __post_init__(self) -> None:
        """Refuse what is no port, no network or no name."""
        self.guard()
        for port in self.ports:
            _check("ports", port, lambda value: isinstance(value, int) and 1 <= value <= 65_535)
        for host in self.hosts:
            _check("hosts", host, lambda value: value == value.lower() and value.strip("."))

    def guard(self) -> Guard:
        """Return what judges addresses by this policy."""
        return Guard(
            allow_private=self.allow_private,
            allow=self.allow_networks,
            deny=self.deny_networks,
        )

    def check(self, url: Url, guard: Guard) -> None:
        """Refuse a URL: InvalidInput `url_scheme` or `url_blocked`. Names are not resolved here."""
        if url.scheme == "http" and not self.allow_http:
            raise _refuse("url_scheme", "http:// is not allowed here; write https://")
        if url.port not in self.ports:
            raise _refuse("url_blocked", f"port {url.port} is not allowed")
        if self.hosts and not any(_matches(url.host, name) for name in self.hosts):
            raise _refuse("url_blocked", "this host is not on the list of those allowed")
        why = guard.refusal(url.host) if url.is_address else None
        if why is not None:
            raise _refuse("url_blocked", f"its address is {why}")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a call may take. Raises ConfigError `config_range`. Durations are in seconds."""

    timeout: float = 15.0  # for a whole attempt, where the webhook names none
    longest: float = 30.0  # what a webhook may name at most
    connect: float = 5.0  # for resolving the name, and for connecting
    body: int = 262_144  # bytes sent
    answer: int = 65_536  # bytes read of an answer
    headers: int = 16_384  # bytes of an answer's headers
    keep_answer: int = 0  # characters of an answer that go into the history of a failed attempt
    at_once: int = 32  # calls to one destination at the same time
    patience: float = 0.25  # how long a call may wait for its turn there; later it comes again
    failures: int = 5  # in a row open the circuit of a destination
    pause: float = 5.0  # for which it stays open at first; it doubles with each failed probe
    longest_pause: float = 300.0  # but not beyond this
    retry_after: float = 86_400.0  # the longest wait that a receiver may ask for
    dns_ttl: float = 30.0  # for which the addresses of a name stay pinned; 0: one attempt
    dns_threads: int = 16  # names that are resolved at the same time

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        zero = {"keep_answer", "dns_ttl"}
        for name in self.__struct_fields__:
            least = 0 if name in zero else 1e-3
            _check(name, getattr(self, name), partial(_is_between, least, 1e9))
        if self.timeout > self.longest or self.pause > self.longest_pause:
            raise ConfigError(
                "timeout must not exceed longest, nor pause longest_pause.", code="config_range"
            )


def _is_between(low: float, high: float, value: float) -> bool:
    return low <= value <= high


def _check(name: str, value: Any, fits: Callable[[Any], object]) -> None:
    try:
        good = not isinstance(value, bool) and fits(value)
    except (TypeError, AttributeError):
        good = False
    if not good:
        raise ConfigError(
            f"{name}: {value!a:.60} is not possible.", code="config_range", field=name
        )


def _matches(host: str, name: str) -> bool:
    return host.endswith(name) if name.startswith(".") else host == name


def _refuse(code: str, text: str) -> InvalidInput:
    return InvalidInput(f"URL refused: {text}.", code=code, field="url")
