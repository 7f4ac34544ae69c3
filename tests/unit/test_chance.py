"""Chance: tails tell events apart, and a forked child draws its own."""

from __future__ import annotations

import os
from random import Random

from duetime.chance import SystemChance, Tails
from duetime.event import TAIL_BITS
from tests.forked import forked


def in_child(value: object) -> bytes:
    """Return what `str(value())` is in a forked child."""
    read, write = os.pipe()

    def child() -> int:
        os.write(write, str(value() if callable(value) else value).encode())
        return 0

    assert forked(child) == 0
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read()


def test_tails_count_up() -> None:
    """Events of one process keep their order: each tail is the next one."""
    tails = Tails(Random(7))
    first = tails.next()
    assert [tails.next() for _ in range(5)] == [first + n for n in range(1, 6)]


def test_tails_fit_their_bits() -> None:
    """After the largest tail comes 0."""

    class Last:
        def random(self) -> float:
            return 0.0

        def getrandbits(self, k: int, /) -> int:
            return (1 << k) - 1

    tails = Tails(Last())
    assert [tails.next(), tails.next()] == [2**TAIL_BITS - 1, 0]


def test_the_same_seed_draws_the_same_tails() -> None:
    """A simulation with a seed repeats."""
    assert Tails(Random(1)).next() == Tails(Random(1)).next() != Tails(Random(2)).next()


def test_two_processes_draw_differently() -> None:
    """Two generators of the system are not the same."""
    assert SystemChance().getrandbits(64) != SystemChance().getrandbits(64)


def test_a_forked_child_draws_its_own() -> None:
    """After a fork parent and child draw different tails and different chances."""
    chance = SystemChance()
    tails = Tails(chance)
    tails.next()
    assert int(in_child(tails.next)) not in {tails.next(), tails.next()}
    assert in_child(lambda: chance.getrandbits(64)) != str(chance.getrandbits(64)).encode()
