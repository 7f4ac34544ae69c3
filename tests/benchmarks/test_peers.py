"""The peers' programs, without their packages: what each must offer, and how it is run."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import contestants
from benchmarks.contestants import PEERS
from benchmarks.databases import STORES
from benchmarks.result import ROOT
from benchmarks.usage import usage

FOLDER = ROOT / "benchmarks" / "peers"


def program_of(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.peers.{name}")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_has_a_program(name: str) -> None:
    """A peer's program is a Peer that does all a peer must, and imports without its packages."""
    harness = program_of("harness")
    module = program_of(name)
    kinds = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, harness.Peer) and kind is not harness.Peer
    ]
    assert len(kinds) == 1
    kinds[0]("url", "file")  # none of what a peer must do is abstract
    assert PEERS[name].store in STORES


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_pinned(name: str) -> None:
    """Every package of a peer has one version, and the peer itself is among them."""
    lines = PEERS[name].requirements.read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.!+]+", line) for line in lines)
    assert name in PEERS[name].versions()


def test_every_program_belongs_to_a_peer() -> None:
    """No program and no list of packages stands there that nobody runs."""
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(PEERS)
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "harness"} == set(PEERS)


def test_programs_need_nothing_of_duetime() -> None:
    """A peer's environment has no Duetime: its program imports its package and the harness."""
    for path in FOLDER.glob("*.py"):
        text = path.read_text("utf-8")
        assert not re.search(
            r"^\s*(from|import) (duetime|msgspec|benchmarks(?!\.peers))", text, re.MULTILINE
        )


@pytest.mark.timeout(120)
def test_a_program_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program gets its command, and what it says comes back; a failure comes back as one."""
    peer = contestants.Peer("harness", "sqlite", 1, {})
    monkeypatch.setattr(contestants, "environment", lambda *_: Path(sys.executable))
    fake = tmp_path / "benchmarks" / "peers"
    fake.mkdir(parents=True)
    (fake / "harness.py").write_text(
        "import json, sys\n"
        "command, url, file, text = sys.argv[1:]\n"
        "assert command != 'fail', 'refused'\n"
        "open(file, 'w').write('5 7\\n' * json.loads(text)['count'])\n"
        "print(json.dumps({'answer': url}))\n"
    )
    monkeypatch.setattr(contestants, "ROOT", tmp_path)
    file = tmp_path / "lines"
    answer = peer.ask("fill", "sqlite:///x/bench.db", file, count=2)
    assert answer == {"answer": "sqlite:///x/peer.db"}
    assert peer.lines(file, 2) == [(5, 7), (5, 7)]
    with pytest.raises(RuntimeError, match="refused"):
        peer.ask("fail", "", file)


def test_usage_is_of_a_process_and_its_children() -> None:
    """What a process uses is told; one that is gone uses nothing."""
    import os

    here = usage(os.getpid())
    assert here.megabytes > 5
    assert here.seconds > 0
    assert usage(2**30) == (0, 0)
