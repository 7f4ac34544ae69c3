"""What SQLite's errors mean: did it happen, may it be tried again, and what is to be done?"""

from __future__ import annotations

import apsw

from duetime.errors import (
    AnswerLost,
    SchemaError,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnsupported,
)

__all__ = ["HARMLESS", "translate"]

# After these the connection is as good as before.
HARMLESS = (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.ConstraintError)
_UNAVAILABLE = (
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.NoMemError,
    apsw.InterruptError,
    apsw.ProtocolError,
    apsw.NoLFSError,
)


def translate(error: apsw.Error, path: str, waited: float, *, committing: bool) -> StoreError:
    """Return our error for one of SQLite's, which came at a COMMIT or before one.

    `waited` is the busy time-out in seconds.
    """
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreUnavailable(
            f"{path} was locked by another process for longer than {waited:g} s ({error}).",
            code="sqlite_busy",
        )
    if isinstance(error, apsw.FullError):
        return StoreFull(f"No room is left for {path}: free some space ({error}).")
    if committing:
        return AnswerLost(f"{path}: the commit failed midway ({error}).")
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return StoreUnsupported(
            f"{path} is damaged or no SQLite database ({error}): restore a backup, or "
            "give another path.",
            code="sqlite_damaged",
        )
    if isinstance(error, apsw.SQLError):
        return SchemaError(
            f"{path} does not have the tables of this program ({error}): "
            "run `duetime migrate`, then `duetime check`."
        )
    if isinstance(error, _UNAVAILABLE):
        return StoreUnavailable(f"{path} cannot be used ({error}).")
    return StoreError(f"{path} refused a value or a call ({error}).", code="sqlite_refused")
