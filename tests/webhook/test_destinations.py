"""How a destination is kept to its share, left alone, and tried again."""

from __future__ import annotations

from itertools import pairwise

import pytest

from duetime.clock import MICROS
from duetime.webhook.destinations import Destination, Destinations, Held
from duetime.webhook.policy import Limits

LIMITS = Limits(at_once=8, patience=0.25, failures=3, pause=10, longest_pause=60)
A = "https://a.example:443"


class Desk:
    """Destinations, and a clock that is moved by hand."""

    def __init__(self, limits: Limits = LIMITS, chance: float = 0.5) -> None:
        self.chance = chance
        self.all: Destinations[str] = Destinations(limits, lambda: self.chance)
        self.now = 1000 * MICROS
        self.place: Destination[str] = self.all.get(A)

    def enter(self, who: str = "x") -> bool | Held:
        return self.all.enter(self.place, who, self.now)

    def leave(self, *, well: bool, took: int = 1000, asked: int = 0) -> bool | None:
        return self.all.leave(self.place, self.now, took, well=well, asked=asked)

    def opened(self) -> None:
        """Fail until the circuit opens."""
        for _ in range(3):
            assert self.enter() is True
            changed = self.leave(well=False)
        assert changed is True

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * MICROS)


def test_a_stranger_gets_few_calls_and_a_friend_more() -> None:
    """Each good answer allows one more call at once, up to the limit; a bad one halves them."""
    desk = Desk()
    assert [desk.enter() for _ in range(6)] == [True] * 4 + [False] * 2
    for _ in range(4):
        desk.leave(well=True)
    assert desk.place.window == 8
    for _ in range(20):
        desk.all.next_in_line(desk.place, desk.now)
        if desk.place.in_flight:
            desk.leave(well=True)
    assert desk.place.window == 8
    desk.enter()
    desk.leave(well=False)
    assert desk.place.window == 4


def test_calls_in_line_have_their_turn_in_order() -> None:
    """Whoever waits begins when another has ended, first come first."""
    desk = Desk()
    for who in "abcdef":
        desk.enter(who)
    assert desk.all.next_in_line(desk.place, desk.now) is None
    desk.leave(well=True)
    assert [desk.all.next_in_line(desk.place, desk.now) for _ in range(3)] == ["e", "f", None]
    assert desk.place.in_flight == 5


def test_nobody_waits_longer_than_the_patience() -> None:
    """A call that waits in line for too long is sent away, and comes again later."""
    desk = Desk()
    for who in "abcdef":
        desk.enter(who)
    assert desk.all.look_again(desk.now) == 250_000
    desk.wait(0.2)
    assert desk.all.sent_away(desk.now) == []
    assert desk.all.look_again(desk.now) == 50_000
    desk.wait(0.05)
    away = desk.all.sent_away(desk.now)
    assert [who for who, _ in away] == ["e", "f"]
    assert all(not held.is_open and held.wait >= 250_000 for _, held in away)
    assert desk.all.look_again(desk.now) is None


def test_where_the_line_would_be_too_long_nobody_joins_it() -> None:
    """When answers take long, or none has come for long, a call is sent away at once."""
    desk = Desk()
    for _ in range(4):
        desk.enter()
    desk.wait(1.1)
    held = desk.enter()
    assert isinstance(held, Held)
    slow = Desk()
    slow.place.pace = 0.5 * MICROS
    assert [slow.enter() is True for _ in range(5)] == [True] * 4 + [False]
    assert slow.enter() is False
    assert isinstance(slow.enter(), Held)


def test_those_sent_away_come_back_at_the_destinations_pace() -> None:
    """Each is told to come when those before it are through, so that they do not come together."""
    desk = Desk(chance=0.0)
    desk.place.pace = 8.0 * MICROS  # eight at once: one a second
    for _ in range(4):
        desk.enter()
    waits = []
    for _ in range(1000):
        held = desk.enter()
        assert isinstance(held, Held)
        waits.append(held.wait)
    steps = {later - sooner for sooner, later in pairwise(waits[:400])}
    assert steps == {MICROS}
    assert waits[-1] == 600 * MICROS
    desk.place.failures, desk.place.window, desk.place.horizon = 1, 2, 0
    first, second = desk.enter(), desk.enter()
    assert isinstance(first, Held)
    assert isinstance(second, Held)
    assert second.wait - first.wait == 4 * MICROS  # one that fails is believed to stay slow


def test_the_circuit_opens_after_failures_in_a_row() -> None:
    """A success in between starts the count anew; at the limit nothing is sent any more."""
    desk = Desk()
    for well in (False, False, True, False, False):
        desk.enter()
        assert desk.leave(well=well) is None
    desk.enter()
    assert desk.leave(well=False) is True
    held = desk.enter()
    assert isinstance(held, Held)
    assert held.is_open
    assert held.wait >= 10 * MICROS
    assert desk.all.open_circuits() == [A]


def test_one_probe_decides() -> None:
    """After the pause one call goes out alone; if it is well, the circuit is closed."""
    desk = Desk()
    desk.opened()
    desk.wait(9.9)
    assert isinstance(desk.enter(), Held)
    desk.wait(0.1)
    assert desk.enter() is True
    assert isinstance(desk.enter(), Held)
    assert desk.leave(well=True) is False
    assert desk.all.open_circuits() == []


def test_who_comes_back_is_not_run_over() -> None:
    """After an outage the calls at once grow from one."""
    desk = Desk()
    desk.opened()
    desk.wait(10)
    desk.enter()
    desk.leave(well=True)
    assert [desk.enter() for _ in range(3)] == [True, True, False]


def test_a_probe_that_fails_doubles_the_pause() -> None:
    """Each failed probe makes the next pause twice as long, up to the longest."""
    desk = Desk()
    desk.opened()
    for pause in (20, 40, 60, 60):
        desk.wait(1000)
        assert desk.enter() is True
        assert desk.leave(well=False) is None
        assert desk.place.open_until == desk.now + pause * MICROS
    desk.wait(1000)
    desk.enter()
    desk.leave(well=True)
    desk.opened()
    assert desk.place.open_until == desk.now + 10 * MICROS


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 7.5), (1.0, 12.5)])
def test_probes_are_jittered(chance: float, seconds: float) -> None:
    """Nodes that lost the same receiver together do not probe it together."""
    desk = Desk(chance=chance)
    desk.opened()
    assert desk.place.open_until == desk.now + seconds * MICROS


def test_a_receiver_may_ask_for_a_longer_pause() -> None:
    """A Retry-After keeps the circuit open for longer, and never beyond the longest pause."""
    for asked, seconds in ((30, 30), (10**6, 60), (1, 10)):
        desk = Desk()
        for _ in range(3):
            desk.enter()
            desk.leave(well=False, asked=asked * MICROS)
        assert desk.place.open_until == desk.now + seconds * MICROS


def test_those_under_way_do_not_open_it_twice() -> None:
    """Calls that were sent before the circuit opened fail without making the pause longer."""
    desk = Desk()
    for _ in range(4):
        desk.enter()
    assert [desk.leave(well=False) for _ in range(4)] == [None, None, True, None]
    assert desk.place.pause == 10
    desk.wait(11)
    assert desk.enter() is True


def test_the_line_is_sent_home_when_the_circuit_opens() -> None:
    """Nobody waits in line for a receiver that is left alone."""
    desk = Desk()
    for who in "abcdef":
        desk.enter(who)
    for _ in range(3):
        desk.leave(well=False)
    assert desk.all.next_in_line(desk.place, desk.now) is None
    away = desk.all.sent_away(desk.now)
    assert [(who, held.is_open) for who, held in away] == [("e", True), ("f", True)]


def test_a_call_given_up_tells_nothing() -> None:
    """A probe whose caller left makes room for another probe, and closes nothing."""
    desk = Desk()
    desk.opened()
    desk.wait(11)
    assert desk.enter() is True
    desk.all.release(desk.place)
    assert desk.all.open_circuits() == [A]
    assert desk.enter() is True


def test_destinations_do_not_share() -> None:
    """The circuit of one destination is no other's."""
    desk = Desk()
    desk.opened()
    other = desk.all.get("https://b.example:443")
    assert desk.all.enter(other, "y", desk.now) is True


def test_destinations_are_forgotten() -> None:
    """Of very many destinations, the longest unused are forgotten, and none that is in use."""
    desk = Desk()
    desk.enter()
    for number in range(12_000):
        desk.all.get(f"https://{number}.example:443")
    assert len(desk.all._by_origin) <= 10_001
    assert desk.all.get(A) is desk.place
