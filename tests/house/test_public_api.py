"""What `import duetime` gives is what `__all__` says: sorted, importable, documented."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from types import ModuleType

import duetime
from tests.house.source import SRC, python_files

MODULES = [
    ".".join(path.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in python_files("src")
    if path.name != "__main__.py"
]


def test_all_equals_the_public_names() -> None:
    """`duetime.__all__` holds the public names, every one, each once."""
    assert inspect.isclass(duetime.AsyncScheduler)  # imported when it is first asked for
    public = {
        name
        for name, value in vars(duetime).items()
        if not (name.startswith("_") or name == "annotations" or isinstance(value, ModuleType))
    }
    # __version__ is public although it begins with an underscore.
    assert {name for name in duetime.__all__ if name != "__version__"} == public
    assert len(set(duetime.__all__)) == len(duetime.__all__)


def test_public_names_are_documented() -> None:
    """Whatever `duetime` exports, and each public method of it, has a docstring."""
    bare = []
    for name in duetime.__all__:
        value = getattr(duetime, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if not inspect.getdoc(value):
            bare.append(name)
        for member, method in vars(value).items() if inspect.isclass(value) else ():
            described = inspect.getdoc(getattr(value, member))
            if inspect.isroutine(method) and not member.startswith("_") and not described:
                bare.append(f"{name}.{member}")
    assert not bare, "\n".join(bare)


def test_every_module_holds_what_it_exports() -> None:
    """Each module imports, and holds every name of its `__all__`."""
    for name in MODULES:
        module = importlib.import_module(name)
        missing = [item for item in getattr(module, "__all__", ()) if not hasattr(module, item)]
        assert not missing, f"{name}: {missing}"


def test_importing_has_no_side_effects() -> None:
    """`import duetime` prints nothing, starts no thread, loads no optional part and nothing heavy.

    No driver and no server either: what a program does not use costs it no start-up time.
    """
    optional = ["duetime.cli", "duetime.testing", "duetime.server", "duetime.aio"]
    users = ["rich", "click", "hypothesis", "pytest", "sqlalchemy", "django"]
    drivers = ["apsw", "sqlite3", "pymysql", "psycopg", "psycopg2", "asyncpg"]
    heavy = ["asyncio", "concurrent.futures", "ssl", "subprocess", "tempfile", "hashlib"]
    heavy += ["tomllib", "json", "difflib", "multiprocessing", "http", "selectors"]
    program = (
        "import sys, threading; import duetime; assert threading.active_count() == 1; "
        f"heavy = {{*{[*optional, *users, *drivers, *heavy]!r}}}; "
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert (done.stdout.strip(), done.stderr) == (b"", b"")


def test_the_awaitable_door_opens_when_it_is_asked_for() -> None:
    """`AsyncScheduler` is imported at first use, is listed before, and no other name is made up."""
    program = (
        "import sys, duetime; assert 'AsyncScheduler' in dir(duetime); "
        "assert 'asyncio' not in sys.modules; "
        "from duetime import AsyncScheduler; assert AsyncScheduler is duetime.AsyncScheduler; "
        "assert 'asyncio' in sys.modules; assert not hasattr(duetime, 'BestScheduler')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_is_typed() -> None:
    """`py.typed` is shipped, so that users' type checkers read the annotations."""
    assert (SRC / "py.typed").is_file()
