"""What the documents list is what the program has."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from duetime import Scheduler, Settings, Statistics
from duetime.tally import Tally
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
    """The page on configuration lists each setting once, with its true default and range."""
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


ANCESTORS = """
stat_interval_sec max_scheduled_events max_retry mysql6 username password host port db_name
table_name max_open_connection queue_name consumer_lock_timeout_sec consumer_time_window_sec
consumer_select_limit consumer_sleep_msec
Connection.MaxOpenConns MaxIdleConns RepositoryOptions.MaxCountTasksInCollection
RepositoryOptions.CleaningFrequency TaskManagerOptions.MaxRetry TimeGapBetweenRetry
PreloaderServiceOptions.TimePreload PreloaderServiceOptions.CoefTimePreloadOfNewTask
PreloaderServiceOptions.TaskNumberInOneSearch PreloaderServiceOptions.WorkersCount
WaitingServiceOptions.GreedyProcessingLimit SenderServiceOptions.BatchMaxItems
SenderServiceOptions.BatchTimeout SenderServiceOptions.ConfirmationWorkersCount
MonitoringServiceOptions.PeriodMeasure MonitoringServiceOptions.Subscriptions
ErrorServiceOptions.EventHandlers ErrorServiceOptions.Debug
""".split()  # noqa: SIM905 - a list of 35 strings would fill a screen
COMING = DOCS / "coming-from-futurama-and-triggerhook.md"


def test_every_option_of_the_ancestors_has_its_line() -> None:
    """Each option of futurama and triggerhook stands in the first column of a table."""
    text = COMING.read_text("utf-8")
    first = " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| "))
    missing = [option for option in ANCESTORS if f"`{option}`" not in first]
    assert not missing


def test_counterparts_exist() -> None:
    """Each setting, figure and counter that is named as a counterpart is one."""
    text = COMING.read_text("utf-8")
    info = msgspec.inspect.type_info(Settings)
    assert isinstance(info, msgspec.inspect.StructType)
    known = {field.name for field in info.fields}
    known |= {*Statistics.__struct_fields__, *Tally.__struct_fields__}
    known |= {*dir(Scheduler), "confirm", "rollback", "claims", "in_flight", "due_at", "error"}
    known |= {"duetime", "namespace_events"}  # a logger, a table
    rows = [line.split("|")[2:] for line in text.splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row[-2])}
    assert len(named) > 30
    assert named <= known, named - known
