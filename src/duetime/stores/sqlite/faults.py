"""What SQLite's errors mean: did it happen, may it be tried again, and what is to be done?"""

from __future__ import annotations

from duetime.errors import (
    AnswerLost,
    SchemaError,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnsupported,
)

__all__ = ["HARMLESS", "translate"]

# SQLite's primary result codes, which both libraries know by other classes.
_ERROR, _PERM, _BUSY, _LOCKED, _NOMEM, _READONLY, _INTERRUPT, _IOERR, _CORRUPT = (
    *(1, 3, 5, 6),
    *(7, 8, 9, 10, 11),
)
_FULL, _CANTOPEN, _PROTOCOL, _CONSTRAINT, _MISMATCH = 13, 14, 15, 19, 20
_NOLFS, _NOTADB = 22, 26

# After these the connection is as good as before.
HARMLESS = (_BUSY, _LOCKED, _FULL, _CONSTRAINT)
_REFUSED = (_ERROR, _CONSTRAINT, _MISMATCH, _NOTADB)  # the statement was, whatever came after
_UNAVAILABLE = (_IOERR, _CANTOPEN, _READONLY, _PERM, _NOMEM, _INTERRUPT, _PROTOCOL, _NOLFS)


def translate(
    error: Exception, code: int, path: str, waited: float, *, committing: bool
) -> StoreError:
    """Return our error for one of SQLite's, which came at a COMMIT or before one.

    `code` is its primary result code, `waited` the busy time-out in seconds.
    """
    if code in (_BUSY, _LOCKED):
        return StoreUnavailable(
            f"{path} was locked by another process for longer than {waited:g} s ({error}).",
            code="sqlite_busy",
        )
    if code == _FULL:
        return StoreFull(f"No room is left for {path}: free some space ({error}).")
    if committing and code not in _REFUSED:
        return AnswerLost(f"{path}: the commit failed midway ({error}).")
    if code in (_NOTADB, _CORRUPT):
        return StoreUnsupported(
            f"{path} is damaged or no SQLite database ({error}): restore a backup, or "
            "give another path.",
            code="sqlite_damaged",
        )
    if code == _ERROR:
        return SchemaError(
            f"{path} does not have the tables of this program ({error}): "
            "run `duetime migrate`, then `duetime check`."
        )
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"{path} cannot be used ({error}).")
    return StoreError(f"{path} refused a value or a call ({error}).", code="sqlite_refused")
