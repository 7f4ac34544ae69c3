"""Everything that can go wrong, drawn at the top; each error has a stable code and says what to do.

DuetimeError
├── InvalidInput            refused before anything was written
│   └── ConfigError         a setting, a file or a URL is wrong
├── CorruptPayload          the stored payload of an event is not JSON
├── LifecycleError          a call at the wrong time: after close, in a forked child, …
├── StoreError              the store did not do what was asked
│   ├── StoreUnavailable    it surely did not happen; trying again is safe
│   ├── AnswerLost          it may or may not have happened
│   ├── StoreFull           no room left; it did not happen
│   ├── StoreUnsupported    this database, or the way it is set up, cannot keep the promises
│   └── SchemaError         the tables are missing, older or newer than this program
"""

from __future__ import annotations

__all__ = [
    "AnswerLost",
    "ConfigError",
    "CorruptPayload",
    "DuetimeError",
    "InvalidInput",
    "LifecycleError",
    "SchemaError",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "StoreUnsupported",
]


class DuetimeError(Exception):
    """The root of all errors that Duetime raises.

    `code` is stable across versions and the same in the library and on the command line;
    `field` names the argument or setting at fault, where there is one.
    """

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.field = field


class InvalidInput(DuetimeError, ValueError):
    """An argument was refused; nothing was written."""

    code = "invalid"


class ConfigError(InvalidInput):
    """A setting, a configuration file or a store URL was refused."""

    code = "config_invalid"


class CorruptPayload(DuetimeError, ValueError):
    """The stored payload of an event is not JSON; an attempt that meets it makes the event dead."""

    code = "payload_corrupt"


class LifecycleError(DuetimeError, RuntimeError):
    """A call came at a time when it cannot be answered; the message names the call."""

    code = "lifecycle"


class StoreError(DuetimeError):
    """The store did not do what was asked."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """The store could not be reached or was busy for too long; nothing was changed."""

    code = "store_unavailable"


class AnswerLost(StoreError):
    """The answer was lost on its way: the change may or may not have been made.

    Asking again with the same ids and claim numbers is always safe.
    """

    code = "answer_lost"


class StoreFull(StoreError):
    """The store has no room left; nothing was changed."""

    code = "store_full"


class StoreUnsupported(StoreError):
    """This database, or the way it is set up, cannot keep Duetime's promises."""

    code = "store_unsupported"


class SchemaError(StoreError):
    """The tables are missing, or older or newer than this program: see `duetime migrate`."""

    code = "schema_mismatch"
