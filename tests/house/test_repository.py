"""Nothing in the project tells where it was written, where its parts came from, or a secret."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.house.source import ROOT, name_of, project_files

# Written with classes of one letter, so that this file does not hold what it looks for.
PATTERNS = {
    "a machine's path": r"/(?:home|Users|work|root)/[\w.-]+|[A-Z]:\\Users",
    "a registry's address": r"files[.]pythonhosted|pypi[.]org/simple|registry[.]npmjs|file:/{2}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE[ ]KEY",
    "a token": r"\b(?:ghp|gho|github_pat|glpat|xox[abp]|sk-live|AKIA)[_-]?[A-Za-z0-9]{16,}",
}


@pytest.mark.parametrize("what", PATTERNS)
def test_no_file_holds(what: str) -> None:
    """No file of the project holds a machine's path, a registry's address or a secret."""
    pattern = re.compile(PATTERNS[what])
    found = [
        f"{name_of(path)}: {match[0]}"
        for path in project_files()
        for match in pattern.finditer(path.read_text("utf-8", errors="replace"))
    ]
    assert not found, "\n".join(found)


def test_the_patterns_match() -> None:
    """Each pattern finds what it is named after."""
    samples = {
        "a machine's path": "/ho" + "me/ada/duetime",
        "a registry's address": "https://files.python" + "hosted.org/x.whl",
        "a private key": "-----BEGIN RSA PRIVATE " + "KEY-----",
        "a token": "gh" + "p_" + "a" * 36,
    }
    assert {what for what in samples if re.search(PATTERNS[what], samples[what])} == set(PATTERNS)


def test_locks_are_pinned_by_hash() -> None:
    """Every line of the locks names one version and its hashes, and nothing from elsewhere."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text("utf-8").replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(" ")]
        for line in (line for line in lines if not line.startswith("#")):
            assert re.match(r"[\w.-]+==[\w.!+]+ .*--hash=sha256:[0-9a-f]{64}", line), line


def test_locks_hold_every_dependency() -> None:
    """What pyproject.toml asks for at run time is in both locks, at one version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    pin = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
    runtime, dev = (
        dict(pin.findall((ROOT / "requirements" / name).read_text("utf-8")))
        for name in ("runtime.txt", "dev.txt")
    )
    asked = {re.split(r"[<>=!~\[; ]", line)[0] for line in project["project"]["dependencies"]}
    assert asked <= set(runtime)
    assert {name: dev.get(name) for name in runtime} == runtime


def test_ci_runs_the_tests_and_nothing_else() -> None:
    """`.ci/run` changes to the root and calls `make test`."""
    text = (ROOT / ".ci" / "run").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "set -euo pipefail"
    assert lines[1].startswith("cd ")
    assert lines[2:] == ["make test"]
