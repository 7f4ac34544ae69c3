"""Commands about the scheduler itself, and what every command does when things go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from duetime.cli import main
from tests.cli.conftest import Call

COMMANDS = tuple(main.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(bare: Call, command: str) -> None:
    """Every command has help with its options and --json."""
    result = bare(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: duetime {command} ")
    assert "--json" in result.stdout


def test_the_list_of_commands(bare: Call) -> None:
    """Help lists all commands in one line each; without a command it goes to stderr, code 2."""
    result = bare("--help")
    assert result.exit_code == 0
    assert all(f"\n  {command} " in result.stdout for command in COMMANDS)
    assert result.stdout.count("...") == 1  # that of the usage line: no summary is cut
    result = bare()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


def test_near_names(bare: Call) -> None:
    """An unknown command is refused with the near name."""
    result = bare("lst")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith("did you mean list?")


def test_without_tables(bare: Call) -> None:
    """Where no tables are, every command says what to run, and makes no file."""
    for command in (["list"], ["schedule", "k"], ["stats"], ["cancel", "a"], ["dead"]):
        result = bare(*command)
        assert (result.exit_code, result.stdout) == (4, "")
        assert "duetime migrate" in result.stderr
    result = bare("check")
    assert result.exit_code == 4
    assert "error\tschema\t" in result.stdout
    assert list(Path().iterdir()) == []


def test_migrate(bare: Call) -> None:
    """The first migrate makes the tables, the second has nothing to do."""
    first = bare("migrate")
    assert (first.exit_code, first.stdout) == (0, "0001_events\n")
    assert bare("migrate").stdout == ""
    assert json.loads(bare("migrate", "--json").stdout) == {"steps": []}


def test_stats(duetime: Call) -> None:
    """Events are counted by state and kind; overdue ones are pointed out."""
    duetime("schedule", "a", "--after", "1h")
    duetime("schedule", "b")
    result = duetime("stats")
    assert result.stdout == "a\t1\t0\t0\t0\nb\t1\t0\t0\t0\n"
    assert "1 scheduled events are overdue" in result.stderr
    counts = json.loads(duetime("stats", "--json").stdout)
    assert counts["scheduled"] == {"a": 1, "b": 1}
    assert (counts["overdue"], counts["total"]["scheduled"]) == (1, 2)


def test_check(duetime: Call) -> None:
    """A sound database has no errors; each finding is a line."""
    result = duetime("check")
    assert result.exit_code == 0
    assert all(line.startswith(("ok\t", "warning\t")) for line in result.stdout.splitlines())
    findings = json.loads(duetime("check", "--json").stdout)
    assert {finding["level"] for finding in findings} <= {"ok", "warning"}


def test_a_foreign_file(bare: Call) -> None:
    """A file that is no database is refused as a store that cannot be used."""
    Path("duetime.db").write_text("this is not a database, and long enough to be read as one")
    result = bare("list")
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1


def test_config_shows_origins(bare: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is shown with its value and where it came from."""
    Path("duetime.toml").write_text("\nworkers = 3\n")
    monkeypatch.setenv("DUETIME_RETRIES", "7")
    lines = bare("config", "--namespace", "shop").stdout.splitlines()
    assert "workers\t3\tduetime.toml:2" in lines
    assert "retries\t7\tDUETIME_RETRIES" in lines
    assert "namespace\tshop\targument" in lines
    assert "grace\t30\tdefault" in lines
    assert "beater\ttrue\tdefault" in lines
    found = json.loads(bare("config", "--json").stdout)
    assert found["workers"] == {"value": 3, "from": "duetime.toml:2"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--store", "sqlite://x"], "store_url_invalid"),
        (["--store", "mysql://root:hunter2@db"], "store_url_invalid"),
        (["--store", "memory://"], "store_memory"),
        (["--namespace", "x; drop"], "prefix_invalid"),
        (["--config", "nowhere.toml"], "config_file"),
    ],
)
def test_bad_configuration(bare: Call, arguments: list[str], code: str) -> None:
    """Bad configuration ends with code 2 and one line, in which no password stands."""
    result = bare("list", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error [{code}]: ")
    assert len(result.stderr.splitlines()) == 1
    assert "hunter2" not in result.stderr


def test_a_bad_line_of_the_file_is_named(bare: Call) -> None:
    """An unknown key is told with file, line and near name."""
    Path("duetime.toml").write_text("workers = 3\nretry = 5\n")
    result = bare("config")
    assert result.exit_code == 2
    assert "duetime.toml:2: " in result.stderr
    assert "retries?" in result.stderr


def test_namespaces_do_not_see_each_other(duetime: Call) -> None:
    """Events of one namespace are not listed in another."""
    assert duetime("migrate", "--namespace", "other").exit_code == 0
    duetime("schedule", "k", "--after", "1h", "--namespace", "other")
    assert duetime("list").stdout == ""
    assert "k" in duetime("list", "--namespace", "other").stdout


def test_version(bare: Call) -> None:
    """The versions that a report of a fault needs are shown."""
    found = json.loads(bare("version", "--json").stdout)
    assert set(found) == {"duetime", "python", "sqlite", "apsw"}
    assert "python\t" in bare("version").stdout


def test_debug_shows_where(bare: Call) -> None:
    """A traceback is shown with --debug, and only then."""
    assert "Traceback" not in bare("list").stderr
    result = bare("list", "--debug")
    assert result.exit_code == 4
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error [schema_missing]: ")


def test_an_unforeseen_error_is_one_line(bare: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a fault of our own ends in one line and code 1."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by \x1b zero")

    monkeypatch.setattr("duetime.cli.admin.trace", fail)
    result = bare("config")
    assert result.exit_code == 1
    assert (
        result.stderr
        == "error [internal]: ZeroDivisionError: by \\x1b zero (--debug shows where)\n"
    )


def test_ctrl_c(bare: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with code 130 and without a word."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("duetime.cli.admin.trace", interrupt)
    result = bare("config")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


def test_importing_is_cheap() -> None:
    """The command line imports neither rich nor the scheduler before it needs them."""
    code = (
        "import sys, duetime.cli.program\n"
        "print(*sorted({'rich', 'hypothesis', 'pytest'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
