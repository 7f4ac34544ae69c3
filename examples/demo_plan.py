"""What the demo will do and when: which events, which cancels, which moves."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

SORTS = {  # kind: how it is answered
    "order.expire": "sync",
    "mail.send": "async",
    "meter.read": "batch",
    "sale.open": "sync, one instant",
    "card.charge": "sync, fails at first",
    "parcel.trace": "sync, never works",
}
SHARES = (0.45, 0.20, 0.12, 0.12, 0.10, 0.01)
LIVE = 0.2  # of the events: scheduled one by one while the node fires
CANCELLED = 0.1
MOVED = 0.05
HEAD = 0.5  # seconds until the first due time


class Wish(NamedTuple):
    """One event to be scheduled."""

    kind: str
    due: float  # seconds after the start
    payload: dict[str, Any]


class Action(NamedTuple):
    """Something to be done while the node fires."""

    at: float  # seconds after the start
    wish: Wish | None = None  # schedule this
    bulk: int = -1  # or: take this one of the bulk
    due: float | None = None  # and move it to this time, or cancel it


class Plan(NamedTuple):
    """All that the demo does."""

    bulk: list[Wish]  # scheduled at the start, in one call
    actions: list[Action]  # by time
    seconds: float


def make_plan(count: int, seconds: float, seed: int) -> Plan:
    """Return the plan for so many events that fall due within so many seconds."""
    random = Random(seed)
    wishes = _wishes(random, count, seconds)
    movable = [wish for wish in wishes if wish.kind in ("order.expire", "mail.send")]
    live = random.sample(movable, min(len(movable), int(count * LIVE)))
    chosen = set(map(id, live))
    bulk = [wish for wish in wishes if id(wish) not in chosen]
    actions = [Action(max(0.0, w.due - random.uniform(0, 2)), wish=w) for w in live]
    orders = [index for index, wish in enumerate(bulk) if wish.kind == "order.expire"]
    cancels, moves = int(count * CANCELLED), int(count * MOVED)
    picked = random.sample(orders, min(len(orders), cancels + moves))
    for index in picked[moves:]:
        # The last ones come when the event is claimed already: both answers are to be seen.
        at = max(0.0, bulk[index].due - random.uniform(0, 2))
        actions.append(Action(at, bulk=index))
    for index in picked[:moves]:
        at = max(0.0, bulk[index].due - random.uniform(0.1, 2))
        due = random.uniform(min(at + 0.2, seconds), seconds)
        actions.append(Action(at, bulk=index, due=due))
    return Plan(bulk, sorted(actions, key=lambda action: action.at), seconds)


def _wishes(random: Random, count: int, seconds: float) -> list[Wish]:
    kinds = random.choices(list(SORTS), SHARES, k=count)
    kinds[: len(SORTS)] = SORTS  # each at least once, however few there are
    head = min(HEAD, seconds / 4)
    wishes = []
    for number, kind in enumerate(kinds):
        due = seconds / 2 if kind == "sale.open" else random.uniform(head, seconds)
        payload: dict[str, Any] = {"number": number}
        if kind == "card.charge":
            payload["declined"] = random.choice((1, 1, 2))
        wishes.append(Wish(kind, due, payload))
    return wishes
