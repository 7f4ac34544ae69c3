"""What the tests of both doors share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from duetime.config import Settings
from duetime.scheduler import Scheduler
from tests.unit.node.stand import QUICK


@pytest.fixture(params=["memory", "sqlite"])
def scheduler(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scheduler]:
    """Return a scheduler on each embedded store; it is no node yet.

    What survives a power cut is tested elsewhere: here nobody waits for the disk.
    """
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/events.db"
    with Scheduler(settings=Settings(store=url, synchronous="NORMAL", **QUICK)) as one:
        yield one
