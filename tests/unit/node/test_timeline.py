"""The timeline holds claimed rows, soonest first."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from duetime.event import Row
from duetime.node.timeline import Timeline
from tests.unit.node.stand import NOW, row

ALL = 10**6


def test_it_gives_rows_in_due_order() -> None:
    """Rows come out soonest first, however they came in."""
    timeline = Timeline()
    late, soon, middle = row(NOW + 3), row(NOW + 1), row(NOW + 2)
    timeline.add([late])
    timeline.add([soon, middle])
    assert timeline.take(NOW + 9, ALL) == [soon, middle, late]


def test_ties_are_broken_by_tail() -> None:
    """Rows due in the same microsecond come out in the order of their tails."""
    timeline = Timeline()
    timeline.add([row(NOW, 7)])
    timeline.add([row(NOW, 2), row(NOW, 9)])
    assert [one[1] for one in timeline.take(NOW, ALL)] == [2, 7, 9]


def test_nothing_is_taken_early() -> None:
    """A row due a microsecond later stays."""
    timeline = Timeline()
    timeline.add([row(NOW), row(NOW + 1)])
    assert timeline.take(NOW, ALL) == [row(NOW)]
    assert timeline.take(NOW, ALL) == []
    assert timeline.next() == NOW + 1
    assert len(timeline) == 1


def test_a_row_is_taken_once() -> None:
    """What was taken is no longer held, and is not given again."""
    timeline = Timeline()
    timeline.add([row(NOW)])
    assert timeline.take(NOW, ALL) == [row(NOW)]
    assert timeline.take(NOW + 100, ALL) == []
    assert timeline.next() is None
    assert len(timeline) == 0


def test_a_crowd_is_taken_in_portions() -> None:
    """Of many rows due at once so many are taken as are asked for, the soonest; the rest stays."""
    timeline = Timeline()
    timeline.add([row(NOW, tail) for tail in range(10)])
    assert [one[1] for one in timeline.take(NOW, 4)] == [0, 1, 2, 3]
    assert timeline.next() == NOW
    assert [one[1] for one in timeline.take(NOW, 100)] == [4, 5, 6, 7, 8, 9]


def test_it_tells_when_a_row_is_the_soonest() -> None:
    """Adding tells whether the firer must wake earlier than it planned."""
    timeline = Timeline()
    assert timeline.add([row(NOW + 5)])
    assert not timeline.add([row(NOW + 6)])
    assert timeline.add([row(NOW + 4)])
    assert not timeline.add([])
    timeline.take(NOW + 9, ALL)
    assert timeline.add([row(NOW + 20)])


def test_the_soonest_is_asked_of_what_is_still_held() -> None:
    """Rows that were taken already do not count when the soonest is told."""
    timeline = Timeline()
    timeline.add([row(NOW), row(NOW + 50)])
    timeline.take(NOW, ALL)
    assert timeline.add([row(NOW + 10)])
    assert timeline.next() == NOW + 10


def test_clear_lets_go_of_everything() -> None:
    """Clear returns what is held, without what was taken, and leaves nothing."""
    timeline = Timeline()
    timeline.add([row(NOW), row(NOW + 1), row(NOW + 2)])
    timeline.take(NOW, ALL)
    assert timeline.clear() == [row(NOW + 1), row(NOW + 2)]
    assert timeline.next() is None
    assert timeline.add([row(NOW + 9)])


def test_a_long_life_does_not_keep_what_was_taken() -> None:
    """Memory holds what is held, and of what was taken a part at most."""
    timeline = Timeline()
    everything = [row(NOW + at) for at in range(60_000)]
    for start in range(0, 60_000, 1_000):
        timeline.add(everything[start : start + 1_000])
        timeline.take(NOW + start + 500, ALL)
    assert len(timeline) == 499
    elsewhere = sys.getrefcount(row(NOW)) + 1  # the list of everything
    kept = sum(1 for one in everything if sys.getrefcount(one) > elsewhere + 1)
    assert 499 <= kept < 25_000


batches = st.lists(
    st.one_of(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10**6)), max_size=90),
        st.tuples(st.integers(0, 70), st.integers(0, 99)),
    ),
    max_size=12,
)


@given(batches)
def test_it_is_a_sorted_list(moves: list[list[tuple[int, int]] | tuple[int, int]]) -> None:
    """Whatever is added and taken, it answers as a sorted list would; of a crowd, with a part."""
    timeline, model = Timeline(), list[Row]()
    used: set[tuple[int, int]] = set()
    for move in moves:
        if isinstance(move, tuple):
            due = [one for one in model if one[0] <= move[0]]
            taken = timeline.take(*move)
            if len(due) < move[1]:
                assert taken == due
            elif move[1]:
                assert taken[0] == due[0]
                assert len(set(taken)) == move[1]
                assert set(taken) <= set(due)
            model = [one for one in model if one not in taken]
        else:
            new = sorted(row(due, tail) for due, tail in set(move) - used)
            used |= set(move)
            soonest = bool(new) and (not model or new[0] < model[0])
            assert timeline.add(new) == soonest
            model = sorted(model + new)
        assert len(timeline) == len(model)
        assert timeline.next() == (model[0][0] if model else None)
    assert timeline.clear() == model
