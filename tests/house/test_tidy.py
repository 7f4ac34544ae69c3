"""Style is a test: size, words, docstrings, and where time and chance may appear."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.source import (
    CODE,
    SRC,
    Function,
    comments_of,
    functions_of,
    name_of,
    python_files,
    tree_of,
)

FILE_LINES, FUNCTION_LINES, COLUMNS = 500, 70, 100
# Words that promise a later change, which nobody makes.
FORBIDDEN = re.compile(r"\b(currently|for now|TODO|FIXME|XXX)\b", re.IGNORECASE)

# Whoever asks for time or chance cannot be simulated. Each exception has its reason.
MODULES = {"random", "sched", "secrets", "time", "uuid"}
CALLS = {
    "asyncio.sleep",
    "datetime.now",
    "datetime.today",
    "datetime.utcnow",
    "date.today",
    "os.getrandom",
    "os.urandom",
}
ALLOWED = {
    "src/duetime/chance.py": "the only module that knows chance",
    "src/duetime/clock.py": "the only module that knows the time",
    "src/duetime/retry.py": "draws jitter from the generator it is given",
    "src/duetime/testing": "the simulation's chance is seeded, its time virtual",
}
REASON = re.compile(r"(?:noqa:|type: ignore\[|pragma:|nosec).*? [-#] ?\S+")
EXCLUSION = re.compile(r"\b(noqa|type: ignore|pragma:|nosec)\b")


def length_of(function: Function) -> int:
    """Return a function's lines, decorators and docstring not counted."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        first = function.body[0]
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def sentences(text: str) -> int:
    """Count the sentences of a text."""
    return len(re.findall(r"[.!?](?=\s|$)", text))


def public_definitions(tree: ast.Module) -> set[str]:
    """Return the names of public classes and functions at the top of a module."""
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_")
    }


def exported(tree: ast.Module) -> list[str] | None:
    """Return a module's `__all__`, or None."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def forbidden_sources(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Find imports and calls that ask for the time or for chance, or that sleep."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").partition(".")[0]} & MODULES
        elif isinstance(node, ast.Attribute):
            tail = ".".join(ast.unparse(node).split(".")[-2:])
            names = {tail} & CALLS
        else:
            continue
        yield from ((node.lineno, name) for name in names)


def test_files_are_short() -> None:
    """No file is longer than 500 lines."""
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in python_files(*CODE)}
    long = [name_of(path) for path, size in sizes.items() if size > FILE_LINES]
    assert sizes
    assert not long, "\n".join(long)


def test_functions_are_short() -> None:
    """No function is longer than 70 lines."""
    long = [
        f"{name_of(path)}:{function.lineno} {function.name}"
        for path in python_files(*CODE)
        for function in functions_of(tree_of(path))
        if length_of(function) > FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_lines_are_short() -> None:
    """No line is longer than 100 columns."""
    long = [
        f"{name_of(path)}:{number}"
        for path in [*python_files(*CODE), *SRC.rglob("*.sql")]
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert not long, "\n".join(long)


def test_the_source_promises_nothing_for_later() -> None:
    """No file of the package holds a word that means "not finished"."""
    found = [
        f"{name_of(path)}:{number} {match[0]}"
        for path in [*SRC.rglob("*.py"), *SRC.rglob("*.sql")]
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for match in FORBIDDEN.finditer(line)
    ]
    assert not found, "\n".join(found)


def test_time_and_chance_are_passed_in() -> None:
    """Only clock.py, retry.py and testing/ ask for the time, draw at random or sleep."""
    found = [
        f"{name_of(path)}:{line} {what}"
        for path in python_files("src")
        if not name_of(path).startswith(tuple(ALLOWED))
        for line, what in forbidden_sources(tree_of(path))
    ]
    assert not found, "\n".join(found)


def test_modules_say_what_is_here() -> None:
    """Every module opens with one to three sentences that say what is here."""
    wrong = [
        name_of(path)
        for path in python_files(*CODE)
        if not 1 <= sentences(opening(tree_of(path))) <= 3
    ]
    assert not wrong, "\n".join(wrong)


def opening(tree: ast.Module) -> str:
    """Return the first paragraph of a module's docstring; details may follow it."""
    return (ast.get_docstring(tree) or "").partition("\n\n")[0]


def test_public_names_are_exported_and_described() -> None:
    """`__all__` names every public class and function of a module, and each has a docstring."""
    wrong = []
    for path in python_files("src"):
        tree = tree_of(path)
        missing = public_definitions(tree) - set(exported(tree) or ())
        if missing and path.name != "__main__.py":
            wrong.append(f"{name_of(path)}: not in __all__: {sorted(missing)}")
        wrong += [
            f"{name_of(path)}: {node.name} has no docstring"
            for node in tree.body
            if isinstance(node, ast.ClassDef | Function)
            and node.name in public_definitions(tree)
            and not ast.get_docstring(node)
        ]
    assert not wrong, "\n".join(wrong)


def test_every_test_makes_a_claim() -> None:
    """The first line of every test's docstring is a sentence."""
    wrong = [
        f"{name_of(path)}:{function.lineno} {function.name}"
        for path in python_files("tests", "src/duetime/testing")
        for function in functions_of(tree_of(path))
        if function.name.startswith("test_") and not states_a_claim(function)
    ]
    assert not wrong, "\n".join(wrong)


def states_a_claim(function: Function) -> bool:
    """Tell whether a docstring opens with a sentence (it may run over two lines)."""
    claim = (ast.get_docstring(function) or "").partition("\n\n")[0]
    return re.fullmatch(r"[^a-z\s].+[.!?]", claim, re.DOTALL) is not None and " " in claim


def test_exclusions_carry_their_reason() -> None:
    """Whoever silences a checker says which rule, and why."""
    wrong = [
        f"{name_of(path)}:{line} {comment}"
        for path in python_files(*CODE)
        for line, comment in comments_of(path)
        if EXCLUSION.search(comment) and not REASON.search(comment)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_detector_sees(tmp_path: Path) -> None:
    """The detector of time and chance finds every way of asking for them."""
    path = tmp_path / "bad.py"
    path.write_text(
        "import time\nfrom random import random\nimport os, asyncio, datetime as dt\n"
        "dt.datetime.now()\nos.urandom(8)\nasyncio.sleep(1)\nfrom uuid import uuid4\n"
    )
    found = {what for _, what in forbidden_sources(tree_of(path))}
    assert found == {"time", "random", "datetime.now", "os.urandom", "asyncio.sleep", "uuid"}
