"""What the tests of the command line share: a folder with tables, and a way to call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from duetime.cli import main

Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DUETIME_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def bare() -> Call:
    """Call `duetime` where no tables are."""

    def call(*arguments: str, feed: str | bytes | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=feed, prog_name="duetime")

    return call


@pytest.fixture
def duetime(bare: Call) -> Call:
    """Call `duetime` where the tables are made."""
    assert bare("migrate").exit_code == 0
    return bare
