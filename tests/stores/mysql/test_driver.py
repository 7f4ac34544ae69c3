"""What is read from the socket is what was sent: long values, odd bytes, and errors in between."""

from __future__ import annotations

import io
import struct

import pymysql
import pytest

from duetime.event import id_of
from duetime.stores.contract import Kinds
from duetime.stores.mysql import MysqlStore, driver
from duetime.stores.mysql.driver import Verdict
from duetime.stores.mysql.literals import Rendered, event_rows, places, render
from duetime.testing.promises.given import T, claim_all, number, row

END = b"\xfe\0\0\2\0"


def packet(body: bytes) -> bytes:
    """Frame a body as the server does, in several packets if it is too long for one."""
    framed = b""
    while True:
        part, body = body[:0xFFFFFF], body[0xFFFFFF:]
        framed += struct.pack("<I", len(part))[:3] + b"\0" + part
        if len(part) < 0xFFFFFF:
            return framed


def value(data: bytes) -> bytes:
    """Put the length before a value as the server does."""
    if len(data) < 251:
        return bytes([len(data)]) + data
    for mark, size in ((252, 2), (253, 3)):
        if len(data) < 1 << 8 * size:
            return bytes([mark]) + struct.pack("<I", len(data))[:size] + data
    return b"\xfe" + struct.pack("<Q", len(data)) + data


def test_values_of_every_length_are_read() -> None:
    """Values are whole at each length where the server changes how it sends them."""
    lengths = [0, 1, 250, 251, 252, 65_535, 65_536, 0xFFFFFF - 5, 0xFFFFFF - 4, 0xFFFFFF, 1 << 24]
    values = [bytes([i]) * length for i, length in enumerate(lengths)]
    sent = b"".join(packet(value(each)) for each in values) + packet(END)
    assert driver._values(io.BytesIO(sent).read) == values


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 40, 100, 110])
def test_an_answer_that_breaks_off_is_an_error(cut: int) -> None:
    """A connection that ends within an answer is never taken for the end of the answer."""
    sent = packet(value(b"x" * 100)) + packet(END)
    with pytest.raises(ConnectionError):
        driver._values(io.BytesIO(sent[:cut]).read)


def test_an_error_among_the_rows_is_raised() -> None:
    """An error that comes after some rows is raised as what it is."""
    sent = packet(value(b"a")) + packet(b"\xff" + struct.pack("<H", 1317) + b"#70100interrupted")
    with pytest.raises(pymysql.OperationalError) as caught:
        driver._values(io.BytesIO(sent).read)
    assert driver.judge(caught.value) == (1317, Verdict.CUT_OFF)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (1205, Verdict.BUSY),
        (1213, Verdict.AGAIN),
        (1020, Verdict.AGAIN),
        (1047, Verdict.AGAIN),
        (3101, Verdict.AGAIN),
        (4031, Verdict.AGAIN),
        (3159, Verdict.DENIED),
        (2006, Verdict.LOST),
        (2013, Verdict.LOST),
        (1180, Verdict.CUT_OFF),
        (1317, Verdict.CUT_OFF),
        (1062, Verdict.DUPLICATE),
        (1114, Verdict.FULL),
        (9999, Verdict.OTHER),
    ],
)
def test_errors_are_judged(code: int, verdict: Verdict) -> None:
    """Each error of the server has one meaning."""
    assert driver.judge(pymysql.OperationalError(code, "text")) == (code, verdict)


ODD = [b"\x1f", b"\x1f" * 11, b"a\x1fb", b"#\x1f1\x1f2", b"\xff\xfe\0", b"'; DROP TABLE x; --"]


@pytest.mark.parametrize("where", ["payload", "history"])
def test_separators_in_data_are_data(store: MysqlStore, where: str) -> None:
    """A payload or history that holds the separator of a claim's columns is claimed as it is."""
    plain = row(T, history=b'[{"attempt":1}]')
    odd = [
        row(T + i, payload=data) if where == "payload" else row(T + i, history=data)
        for i, data in enumerate(ODD)
    ]
    store.insert([plain, *odd])
    held = {id_of(each): each for each in store.claim(number(), [0], T, T + 99, 100)}
    for fresh in [plain, *odd]:
        mine = held[id_of(fresh)]
        assert (mine[:6], mine[6], mine[11]) == (fresh[:6], 1, fresh[11])
    assert [each and each.row for each in store.get(list(held))] == list(held.values())


def test_odd_kinds_are_told_apart(store: MysqlStore) -> None:
    """Kinds that end in a space, a zero byte or a separator are kinds of their own."""
    kinds = ["a", "a ", "a\0", "a\x1fb", "A", "\u00e4"]
    store.insert([row(T + i, kind=kind) for i, kind in enumerate(kinds)])
    assert {due.kind for due in store.peek([0], T, T + 99, 100)} == set(kinds)
    for kind in kinds:
        (held,) = store.claim(number(), [0], T, T + 99, 100, Kinds((kind,)))
        assert held[4] == kind


def test_names_that_end_in_spaces_are_different(store: MysqlStore) -> None:
    """Names that differ in a space at the end are different names."""
    assert store.insert([row(name="a"), row(name="a "), row(name="a  ")]) == [None] * 3
    assert [event and event.id for event in store.get(["a", "a ", "a  "])] == ["a", "a ", "a  "]


def test_large_payloads_are_split_among_statements(store: MysqlStore) -> None:
    """Rows that together are larger than a statement may be are stored and claimed whole."""
    rows = [row(T + i, payload=bytes([i]) * 3_000_000) for i in range(6)]
    rows.append(row(T + 9, payload=b"x" * 7_000_000, name="large"))
    assert store.insert(rows) == [None] * 7
    assert [held[5] for held in claim_all(store)] == [each[5] for each in rows]


def test_literals_are_digits_and_hexadecimals() -> None:
    """Whatever a value holds, its literal is made of digits, hexadecimals, commas and brackets."""
    text = render(
        "%(a)s %(b)s %(c)s %(d)s %(e)s", a=-5, b="x' OR 1=1 --%s", c=b"\\'", d=None, e=[1, "é"]
    )
    assert text == "-5 x'782720" + "4f5220313d31202d2d2573' x'5c27' NULL (1,x'c3a9')"
    with pytest.raises((TypeError, ValueError)):
        render("%(a)s", a=1.5)  # type: ignore[arg-type]  # what a careless caller might pass


def test_one_place_stands_twice() -> None:
    """A list of places has two members at least."""
    assert places([(1, 2, 3)]) == "((1,2,3),(1,2,3))"
    assert places([(1, 2, 3), (4, 5, 6)]) == "((1,2,3),(4,5,6))"


def test_rows_are_parted_by_size() -> None:
    """Parts of an INSERT stay within their room, but for a row that is larger by itself."""
    rows = [row(T + i, payload=b"x" * (5000 if i == 3 else 10)) for i in range(9)]
    parts = list(event_rows(rows, 1000))
    assert all(isinstance(part, Rendered) for part in parts)
    assert sum(part.count("),(") + 1 for part in parts) == 9
    assert [len(part) > 1000 for part in parts].count(True) == 1
    assert len(list(event_rows([row() for _ in range(2500)], 1 << 30))) == 3
