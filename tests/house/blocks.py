"""The fenced blocks of a document, and how a reader would try them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>[\w+-]*)(?P<info>[^\n]*)\n"
    r"(?P<body>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
TITLE = re.compile(r'title="([^"]+)"')
PATIENCE = 30.0  # seconds that a command of a document may take


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the file it is to be saved as, and where it stands."""

    language: str
    title: str | None
    body: str
    line: int


def blocks_of(text: str) -> list[Block]:
    """Return a document's fenced blocks in order, unindented."""
    found = []
    for match in FENCE.finditer(text):
        body = re.sub(rf"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        title = TITLE.search(match["info"])
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(match["language"], title and title[1], body, line))
    return found


def pattern_of(expected: str) -> str:
    """Return a regular expression for expected output, where `...` stands for anything."""
    lines = [re.escape(line.strip()) for line in expected.strip().splitlines()]
    return r"\s*\n\s*".join(lines).replace(re.escape("..."), ".*?")


class Terminal:
    """Runs console blocks: `$ command`, then the output it must show.

    No output shown means that any will do. A command that ends in `&` stays until the end of the
    document, and one whose output ends with `^C` until then; both are interrupted as a reader
    would, when what they must show has appeared.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._background: list[subprocess.Popen[str]] = []
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("DUETIME_")
        } | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, block: Block) -> None:
        """Run a block's commands, and fail where one fails or shows something else."""
        commands = re.split(r"^\$ ", block.body, flags=re.MULTILINE)
        assert not commands[0].strip(), f"line {block.line}: output before the first command"
        for text in commands[1:]:
            command, _, expected = text.replace("\\\n", "").partition("\n")
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command.removesuffix('&')}" if stays(text) else command],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if command.endswith("&"):
                self._background.append(process)
                read_until(process, pattern_of(expected))
            elif expected.rstrip().endswith("^C"):
                read_until(process, pattern_of(expected.rstrip().removesuffix("^C")))
                interrupt(process)
            else:
                output, _ = process.communicate(timeout=PATIENCE)
                where = f"line {block.line}: $ {command}\n{output}"
                assert process.returncode == 0, where
                assert re.search(f"^{pattern_of(expected)}", output, re.MULTILINE | re.DOTALL), (
                    where
                )

    def close(self) -> None:
        """Interrupt what is still running; it must end well."""
        for process in self._background:
            interrupt(process)


def stays(text: str) -> bool:
    """Tell whether a command is to be interrupted, and so must not hide behind a shell."""
    return text.partition("\n")[0].endswith("&") or text.rstrip().endswith("^C")


def read_until(process: subprocess.Popen[str], pattern: str) -> None:
    """Read a process's output until it matches; kill it when it does not in time."""
    assert process.stdout is not None
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    seen = ""
    while not re.search(pattern, seen, re.DOTALL):
        line = process.stdout.readline()
        assert line, f"it ended, or {PATIENCE:.0f} s passed, before {pattern!r}:\n{seen}"
        seen += line
    watchdog.cancel()


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C; the process must end and say that it ended well."""
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, output
