"""Which of several servers is used: in order, those that take part first, and never to and fro."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pymysql
import pytest

from duetime.store_url import StoreUrl, parse_store
from duetime.stores.mysql.servers import Servers
from duetime.stores.mysql.session import Session

AWAY = pymysql.OperationalError(2003, "cannot connect")
DENIED = pymysql.OperationalError(1045, "access denied")


@dataclass
class Link:
    """What `Servers` looks at of a session."""

    takes_part: bool = True
    place: int = 0
    moves: int = 0
    closed: bool = False

    def close(self) -> None:
        self.closed = True


def three() -> Servers:
    return Servers(parse_store("mysql://a,b,c/x"))


def answers(**hosts: Link | Exception) -> Callable[[StoreUrl], Session]:
    """Return an attempt to connect that ends as is given for each host."""

    def attempt(url: StoreUrl) -> Session:
        found: Any = hosts[url.host]
        if isinstance(found, Exception):
            raise found
        return cast(Session, found)

    return attempt


def test_the_first_is_used() -> None:
    """Where all can be used it is the first, and nothing has to be caught up with."""
    servers, link = three(), Link()
    assert servers.connect(answers(a=link)) is cast(Session, link)
    assert (link.place, link.moves, servers.moves, servers.current) == (0, 0, 0, 0)


def test_the_next_is_used_and_kept() -> None:
    """From a server that is away one goes to the next, and stays when the first is back."""
    servers, link, again = three(), Link(), Link()
    servers.connect(answers(a=AWAY, b=link))
    assert (link.place, link.moves, servers.current) == (1, -1, 1)
    servers.connect(answers(a=Link(), b=again))
    assert again.place == 1
    servers.leave(0)
    assert servers.current == 1, "somebody left it before"
    servers.leave(1)
    servers.leave(1)
    assert servers.current == 2


def test_one_that_lags_is_the_last_choice() -> None:
    """A server that does not take part is used only if no other can be."""
    servers = three()
    lagging, other, well = Link(takes_part=False), Link(takes_part=False), Link()
    servers.connect(answers(a=lagging, b=well))
    assert (lagging.closed, servers.current) == (True, 1)
    lagging.closed = False
    servers.connect(answers(b=lagging, c=other, a=AWAY))
    assert (lagging.closed, other.closed, servers.current) == (False, True, 1)


def test_when_all_are_away_it_is_told() -> None:
    """The last error is told when nobody answers; a refused login ends the search at once."""
    with pytest.raises(pymysql.OperationalError, match="cannot connect"):
        three().connect(answers(a=AWAY, b=AWAY, c=AWAY))
    with pytest.raises(pymysql.OperationalError, match="access denied"):
        three().connect(answers(a=DENIED))
    alone = Servers(parse_store("mysql://a/x"))
    alone.leave(0)
    assert (alone.current, alone.are_several) == (0, False)


def test_a_call_that_ends_elsewhere_is_caught_up_with() -> None:
    """What is committed on the old server after a move has to be seen on the new one, too."""
    servers = three()
    assert servers.ended(0)
    servers.leave(0)
    before = servers.moves
    assert not servers.ended(0)
    assert servers.moves == before + 1
    assert servers.ended(1)
    assert servers.moves == before + 1
