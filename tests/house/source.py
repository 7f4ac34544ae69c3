"""The project's own files, as the house tests read them."""

from __future__ import annotations

import ast
import functools
import os
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "duetime"
CODE = ("src", "tests", "benchmarks", "examples", "scripts")

HIDDEN = {".ci", ".github"}  # folders of the project although their names begin with a dot
MADE = re.compile(r"\.|__pycache__$|build$|dist$|node_modules$")
MADE_FILE = re.compile(r"\.(py[co]|db(-shm|-wal)?)$|^\.(git|coverage)$")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """Return the path as one would type it from the root of the project."""
    return path.relative_to(ROOT).as_posix()


def python_files(*folders: str) -> list[Path]:
    """Return the Python files below these folders, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def functions_of(tree: ast.AST) -> Iterator[Function]:
    """Return all functions of a tree, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def comments_of(path: Path) -> Iterator[tuple[int, str]]:
    """Return a file's comments with their line numbers."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


@functools.cache
def project_files() -> tuple[Path, ...]:
    """Return every file that belongs to the project: not what was built, cached or installed.

    Walks instead of asking git, which a fresh machine with an unpacked archive does not have.
    """
    found: list[Path] = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name in HIDDEN or not MADE.match(name))
        found += [Path(folder, name) for name in sorted(names) if not MADE_FILE.search(name)]
    return tuple(found)
