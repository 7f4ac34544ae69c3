"""What the tests of real processes share: a fleet that never outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.fleet import Fleet
from tests.processes.places import Place


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Make fleets, each in a folder of its own, with the settings that the test gives."""
    fleets: list[Fleet] = []

    def make(place: Place | None = None, **settings: Any) -> Fleet:
        folder = tmp_path / str(len(fleets))
        folder.mkdir()
        fleets.append(Fleet(folder, place, **settings))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()
