"""SQL kept as SQL: named statements of `queries.sql`, and numbered schema files with checksums."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from duetime.errors import ConfigError, SchemaError

__all__ = [
    "Migration",
    "load_migrations",
    "load_queries",
    "pending",
    "require_all",
    "valid_prefix",
]

# A namespace of at most 31 characters and an underscore; SQLite keeps sqlite_ for itself.
_PREFIX = re.compile(r"((?!sqlite_)[a-z][a-z0-9_]{0,31})?")
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
# A step that only adds names the oldest program that can still work on the tables after it: that
# of the schema version that follows `since`.
_STEP = re.compile(r"(\d{4})_\w+(?:\.since\d{4})?\.sql")
_SINCE = re.compile(r"\.since(\d{4})$")


class Migration(NamedTuple):
    """One numbered schema file."""

    number: int
    name: str  # the file's name without .sql
    checksum: str  # SHA-256 of the file as shipped, before the prefix is filled in
    sql: str


def valid_prefix(prefix: str) -> str:
    """Return a table prefix, or raise ConfigError `prefix_invalid`: it becomes part of the SQL."""
    if _PREFIX.fullmatch(prefix) is None:
        raise ConfigError(
            f"The table prefix {prefix!r:.60} must match [a-z][a-z0-9_]{{0,31}} or be empty, "
            "and not begin with sqlite_.",
            code="prefix_invalid",
            field="prefix",
        )
    return prefix


def load_queries(package: str, prefix: str) -> dict[str, str]:
    """Return the statements of a package's `queries.sql` by name, for tables with this prefix."""
    text = files(package).joinpath("queries.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return {name: _fill(body, prefix) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def load_migrations(package: str, prefix: str) -> list[Migration]:
    """Return the steps in a package's folder `schema`, in order, for tables with this prefix."""
    steps = []
    for file in files(package).joinpath("schema").iterdir():
        if match := _STEP.fullmatch(file.name):
            text = file.read_text(encoding="utf-8")
            checksum = sha256(text.encode()).hexdigest()
            name = file.name.removesuffix(".sql")
            steps.append(Migration(int(match[1]), name, checksum, _fill(text, prefix)))
    return sorted(steps)


def pending(
    steps: Sequence[Migration], applied: Sequence[tuple[int, str, str]], where: str
) -> list[Migration]:
    """Return the steps that are still to be taken, given (number, checksum, name) of those taken.

    Tables that know more steps than this program are its own all the same where each further one
    says in its name that it suits a program of this version. Raises SchemaError `schema_newer`
    when one does not (`where` is for the message), `schema_changed` when a step that was taken
    differs from ours.
    """
    if not all(_suits(name, steps[-1].number) for _, _, name in applied[len(steps) :]):
        raise SchemaError(
            f"{where} is at schema version {applied[-1][0]}; this program knows up to version "
            f"{steps[-1].number}. Use a newer Duetime.",
            code="schema_newer",
        )
    for step, (number, checksum, _) in zip(steps, applied, strict=False):
        if (step.number, step.checksum) != (number, checksum):
            raise SchemaError(
                f"{where} has a schema step {number} that differs from {step.name} of this "
                "program: it was made by another build. Restore the tables or use that build.",
                code="schema_changed",
            )
    return list(steps[len(applied) :])


def require_all(steps: Sequence[Migration], missing: Sequence[Migration], where: str) -> None:
    """Raise SchemaError unless no step is missing: `schema_missing` or `schema_older`."""
    if not missing:
        return
    have = steps[-1].number - len(missing)
    if not have:
        raise SchemaError(
            f"{where} has no tables of this program yet: run `duetime migrate`.",
            code="schema_missing",
        )
    raise SchemaError(
        f"{where} is at schema version {have}; this program needs version "
        f"{steps[-1].number}: run `duetime migrate`.",
        code="schema_older",
    )


def _suits(name: str, version: int) -> bool:
    """Tell whether a program that knows the schema up to a version can work after this step."""
    since = _SINCE.search(name)
    return since is not None and int(since[1]) <= version


def _fill(text: str, prefix: str) -> str:
    """Drop the comment lines and put the prefix in; the prefix was checked by `valid_prefix`."""
    lines = (line for line in text.splitlines() if not line.startswith("--"))
    return "\n".join(lines).replace("{prefix}", prefix).strip()
