"""What the documents list is what the program has."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from duetime import Settings
from tests.house.source import ROOT

DOCS = ROOT / "docs"
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.*?) ?\| (.+) \|$", re.MULTILINE)
# The rules of these stand in code, not in the type; the page says them in words.
IN_WORDS = {"namespace"}


def written(value: Any) -> str:
    """Return a value as the page writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"{value:,.15g}" if isinstance(value, float) else f"{value:,}"


def range_of(kind: msgspec.inspect.Type) -> str:
    """Return what a setting may be, as the page writes it."""
    if isinstance(kind, msgspec.inspect.LiteralType):
        return ", ".join(sorted(written(value) for value in kind.values))
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return f"{written(kind.ge)} to {written(kind.le)}"
    return ""


def test_every_setting_is_documented() -> None:
    """docs/configuration.md lists each setting once, with its true default and range."""
    rows = ROW.findall((DOCS / "configuration.md").read_text("utf-8"))
    documented = {name: (default, range_) for name, default, range_, _ in rows}
    info = msgspec.inspect.type_info(Settings)
    assert isinstance(info, msgspec.inspect.StructType)
    true = {field.name: (written(field.default), range_of(field.type)) for field in info.fields}
    assert len(rows) == len(documented)
    assert documented.keys() == true.keys()
    for name in true:
        default, range_ = documented[name]
        assert default == true[name][0], name
        assert name in IN_WORDS or range_ == true[name][1], name
