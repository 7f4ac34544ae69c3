"""Every block of the documents is tried as a reader would try it: see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house.blocks import Block, Terminal, blocks_of
from tests.house.source import ROOT, name_of

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LANGUAGES = {"python", "console", "sh", "toml", "json", "sql", "text", "mermaid", "markdown"}
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(?:#[\w-]+)?\)")

document = pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)


def run_python(block: Block, path: Path, namespace: dict[str, object]) -> None:
    """Run a block in the document's namespace; tracebacks point into the document."""
    tree = ast.increment_lineno(ast.parse(block.body), block.line - 1)
    exec(compile(tree, str(path), "exec"), namespace)


def try_out(path: Path, folder: Path) -> None:
    """Do what a reader does: save the files, run the code, type the commands, in order."""
    terminal = Terminal(folder)
    namespace: dict[str, object] = {"__name__": "__document__"}
    try:
        for block in blocks_of(path.read_text("utf-8")):
            if block.title is not None:
                (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.title).write_text(block.body, "utf-8")
            elif block.language == "python":
                run_python(block, path, namespace)
            elif block.language == "console":
                terminal.run(block)
    finally:
        terminal.close()


@document
@pytest.mark.processes
def test_blocks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python blocks run in order in one namespace, console blocks show what they print."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    for name in [name for name in os.environ if name.startswith("DUETIME_")]:
        monkeypatch.delenv(name)
    try:
        try_out(path, tmp_path)
    finally:
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[name]


@document
def test_blocks_parse(path: Path) -> None:
    """Each block names a language we know, and is well-formed in it."""
    for block in blocks_of(path.read_text("utf-8")):
        where = f"{name_of(path)}:{block.line}"
        assert block.language in LANGUAGES, where
        if block.language == "python":
            ast.parse(block.body, filename=where)
        elif block.language == "toml":
            tomllib.loads(block.body)
        elif block.language == "json":
            json.loads(block.body)
        elif block.language == "sh":
            subprocess.run(["bash", "-n"], input=block.body, text=True, check=True)


@document
def test_links_lead_somewhere(path: Path) -> None:
    """A link to a file of the project leads to a file that exists."""
    links = LINK.findall(path.read_text("utf-8"))
    broken = [link for link in links if not (path.parent / link).exists()]
    assert not broken, "\n".join(broken)


def test_the_reader_sees_faults(tmp_path: Path) -> None:
    """A failing block, a failing command and a wrong output are all noticed."""
    for text in (
        "```python\nassert 1 == 2\n```\n",
        "```console\n$ false\n```\n",
        "```console\n$ echo one\ntwo\n```\n",
    ):
        path = tmp_path / "bad.md"
        path.write_text(text)
        with pytest.raises(AssertionError):
            try_out(path, tmp_path)


@pytest.mark.processes
def test_the_reader_can_press_ctrl_c(tmp_path: Path) -> None:
    """A command whose output ends with ^C is interrupted once it has shown that output."""
    program = "import signal, time\ntry:\n    print('up')\n    signal.pause()\n"
    program += "except KeyboardInterrupt:\n    print('down')\n"
    path = tmp_path / "good.md"
    path.write_text(
        f'```python title="wait.py"\n{program}```\n```console\n$ python wait.py\nu...\n^C\n```\n'
        "```console\n$ python wait.py &\nup\n$ echo a; echo b; echo c\na\n...\nc\n```\n"
    )
    try_out(path, tmp_path)
