"""SQL is copied per database, not abstracted; these tests keep the copies honest."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.source import SRC, python_files, tree_of

QUERIES = sorted((SRC / "stores").glob("*/queries.sql"))
NAME = re.compile(r"^-- name: *(\w+)(.*)$", re.MULTILINE)
# A statement that asks the database for the time cannot be tested, and trusts a second clock.
CLOCK = re.compile(
    r"\b(now *\(|current_timestamp|current_time|current_date|sysdate|utc_timestamp|unix_timestamp"
    r"|clock_timestamp|statement_timestamp|getdate|julianday|unixepoch|strftime|datetime *\()",
    re.IGNORECASE,
)
# The one question that is about the database's clock: `beat` measures the offset to it.
ASKS_FOR_THE_TIME = {"clock", "members"}  # with each beat, so that it costs no round trip more

# Statements that one dialect needs and another cannot use, by database, each with its reason.
OWN = {
    "sqlite": {
        "version_exists": "MySQL tells a missing table by its error",
        "hold": "others lock rows, not the file",
        "read_name": "one snapshot holds for several statements, so no join is needed",
        "read_dead": "as read_name",
        "claim_boundary": "MySQL's pick returns the boundary with the rows",
        "claim_until": "MySQL bounds every claim by a tail",
        "claim_kinds": "a prepared statement cannot fold `all kinds` away",
        "claim_count_kinds": "as claim_kinds",
        "claim_boundary_kinds": "as claim_kinds",
        "claim_until_kinds": "as claim_kinds",
        "peek_kinds": "as claim_kinds",
        "peek_shards": "a store in the process peeks first at all there is, then shard by shard",
        "peek_shards_kinds": "as peek_shards and claim_kinds",
        "settle_move": "row by row costs no round trip",
        "claim_count": "PostgreSQL picks, locks and marks in one statement",
        "names_among": "PostgreSQL asks within the insert",
        "read_at": "PostgreSQL reads many ids in one statement",
        "put_name": "PostgreSQL changes both tables in one statement",
        "drop_name": "as put_name",
        "drop_name_at": "as put_name",
        "drop_at": "as put_name",
    },
    "mysql": {
        "claim_count": "as in sqlite",
        "names_among": "as in sqlite",
        "read_at": "as in sqlite",
        "put_name": "as in sqlite",
        "drop_name": "as in sqlite",
        "drop_name_at": "as in sqlite",
        "drop_at": "as in sqlite",
        "version_lock": "DDL ends its transaction, so the lock is a row held elsewhere",
        "clock": "the server's clock is not this machine's",
        "insert_named": "a name is new before its row is stored",
        "new_names": "the primary key refuses what others took meanwhile",
        "read_named": "one statement sees one moment, two do not",
        "cancel_plain": "one round trip for many",
        "peek_shard": "a part of a UNION ALL: one round trip for many shards",
        "claim_pick": "SKIP LOCKED: other writers exist",
        "claim_places": "as claim_pick",
        "claim_around": "as claim_pick",
        "claim_one": "as claim_pick",
        "range_places": "a DELETE waits for other writers",
        "rescue_pick": "an UPDATE waits for other writers, and takes no SKIP LOCKED",
        "rescue_at": "as rescue_pick",
        "held": "rows are moved four statements at a time, not one by one",
        "take_at": "as held",
        "database": "a caller's connection may have another default database",
        "where_am_i": "one asks the server whether a statement would commit by itself",
        "ends_after_waiting": "a wait in vain never ends a transaction elsewhere",
        "take_free": "gaps must not be locked in a caller's REPEATABLE READ",
        "hold_free": "as take_free",
        "await_at": "as take_free",
        "lead_name": "as take_free",
        "forget_name": "as take_free",
        "own_at": "as take_free",
        "own_named": "as take_free",
        "settings": "a server has settings to judge",
        "galera": "as settings",
        "galera_settings": "as settings",
        "engines": "as settings",
        "columns": "as settings",
    },
    "postgres": {
        "version_exists": "a failed statement would end the migration's transaction",
        "version_lock": "the lock is the table's, and ends with the transaction",
        "session": "a pooler may have dropped what the connection began with",
        "clock": "the server's clock is not this machine's",
        "insert_again": "COPY refuses all rows for one that is there",
        "insert_named": "names and rows in one statement",
        "read": "many ids in one statement, which sees one moment",
        "cancel_named": "an event and its name in one statement",
        "claim_by_key": "engines without ctid",
        "put_again": "events and their names in one statement",
        "settle_move": "many moves and their names in one statement",
        "schema": "a caller's search path may be another",
        "enter": "a caller may wait for locks without end",
        "leave_limit": "as enter",
        "ring": "others have no notifications",
        "listen": "as ring",
        "settings": "a server has settings to judge",
        "tables": "as settings",
        "oldest": "as settings",
    },
}

per_file = pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.parent.name)


def statements(text: str) -> dict[str, str]:
    """Return the text after each `-- name: x`, by name."""
    marks = list(NAME.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return {mark[1]: text[mark.end(2) : end] for mark, end in zip(marks, ends, strict=True)}


def strings_of_the_package() -> set[str]:
    """Return every string and attribute in the stores' modules: how statements are named."""
    words: set[str] = set()
    for path in python_files("src/duetime/stores"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            elif isinstance(node, ast.Attribute):
                words.add(node.attr)
    return words


def test_there_is_sql_to_look_at() -> None:
    """At least one database keeps its statements in a queries.sql."""
    assert QUERIES


def test_the_copies_have_the_same_names() -> None:
    """Every statement stands in every database's file, but for those with a reason."""
    names = {path.parent.name: set(statements(path.read_text("utf-8"))) for path in QUERIES}
    shared = {database: found - set(OWN.get(database, {})) for database, found in names.items()}
    common = set().union(*shared.values())
    lacking = {database: common - there for database, there in names.items() if common - there}
    assert lacking == {}


def test_reasons_are_for_statements_that_differ() -> None:
    """A statement with a reason to stand alone exists, and is missing elsewhere."""
    names = {path.parent.name: set(statements(path.read_text("utf-8"))) for path in QUERIES}
    everywhere = set.intersection(*names.values())
    idle = {
        database: set(own) & everywhere | set(own) - names[database]
        for database, own in OWN.items()
    }
    assert {database: left for database, left in idle.items() if left} == {}


@per_file
def test_names_are_unique_and_explained(path: Path) -> None:
    """No name occurs twice, and each statement has a sentence that says why it is shaped so."""
    text = path.read_text("utf-8")
    names = [mark[1] for mark in NAME.finditer(text)]
    assert len(names) == len(set(names))
    bare = [name for name, body in statements(text).items() if not body.lstrip().startswith("-- ")]
    assert not bare, "\n".join(bare)


@per_file
def test_every_statement_is_used(path: Path) -> None:
    """Each statement is named somewhere in the stores' Python, whole or as stem and suffix."""
    words = strings_of_the_package()
    suffixes = tuple(word for word in words if re.fullmatch(r"_[a-z]+", word))
    whole = words | {stem + suffix for stem in words for suffix in suffixes}
    unused = set(statements(path.read_text("utf-8"))) - whole
    assert not unused, "\n".join(sorted(unused))


@per_file
def test_no_statement_asks_for_the_time(path: Path) -> None:
    """Times come in as parameters; only the measurement of the clock's offset asks."""
    found = [
        f"{name}: {match[0]}"
        for name, body in statements(path.read_text("utf-8")).items()
        for match in CLOCK.finditer(re.sub(r"--.*", "", body))
        if name not in ASKS_FOR_THE_TIME
    ]
    assert not found, "\n".join(found)
