"""Which server of a URL is used: the one that answered last, or the next that takes part."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import pymysql

from duetime.store_url import StoreUrl
from duetime.stores.mysql.driver import Verdict, judge
from duetime.stores.mysql.session import Session

__all__ = ["Servers"]

_AWAY = (Verdict.LOST, Verdict.AGAIN, Verdict.CUT_OFF)


class Servers:
    """One or more servers of which any may be asked: members of a Galera cluster, mostly.

    They are tried in the order of the URL, beginning with the one that was used last: a server
    that comes back is not returned to, so that nobody goes to and fro.
    """

    def __init__(self, url: StoreUrl) -> None:
        """Begin with the first."""
        self._urls = url.each()
        self._lock = Lock()
        self.current = 0
        self.moves = 0  # grows whenever what was committed may not be seen where we are

    @property
    def are_several(self) -> bool:
        """Whether there is any other to go to."""
        return len(self._urls) > 1

    def leave(self, place: int) -> None:
        """Go to the next server, unless somebody did so already."""
        with self._lock:
            if place == self.current and self.are_several:
                self._go((place + 1) % len(self._urls))

    def ended(self, place: int) -> bool:
        """Note that a call ended on this server; tell whether we are still there."""
        with self._lock:
            if place == self.current:
                return True
            self.moves += 1
            return False

    def connect(self, attempt: Callable[[StoreUrl], Session]) -> Session:
        """Return a connection to the first server that takes part, or else to one that answers.

        Raises pymysql.MySQLError or StoreError if there is none.
        """
        lagging: list[Session] = []
        away: pymysql.MySQLError | None = None
        start = self.current
        try:
            for step in range(len(self._urls)):
                place = (start + step) % len(self._urls)
                try:
                    session = attempt(self._urls[place])
                except pymysql.MySQLError as error:
                    if not self.are_several or judge(error)[1] not in _AWAY:
                        raise
                    away = error
                    continue
                session.place = place
                if session.takes_part or not self.are_several:
                    return self._settled(session)
                lagging.append(session)
            if lagging:
                return self._settled(lagging.pop(0))
        finally:
            for session in lagging:
                session.close()
        assert away is not None
        raise away

    def _settled(self, session: Session) -> Session:
        with self._lock:
            if session.place != self.current:
                self._go(session.place)
            if self.moves:
                session.moves = -1  # it has yet to see what was committed elsewhere
        return session

    def _go(self, place: int) -> None:
        self.current = place
        self.moves += 1
