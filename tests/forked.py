"""Runs a function in a forked child, which ends there whatever happens."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

__all__ = ["forked"]

_FAILED = 99


def forked(work: Callable[[], int]) -> int:
    """Return what `work` returned in a forked child (0 to 98), or 99 when it raised.

    A child that came back from here would go on as a second test session.
    """
    child = os.fork()
    if child == 0:
        try:
            os._exit(work())
        except BaseException:  # noqa: BLE001 - it goes no further than this line
            traceback.print_exc()
        finally:
            os._exit(_FAILED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
