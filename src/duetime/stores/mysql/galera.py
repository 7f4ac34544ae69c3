"""What `duetime check` says of Galera: this member, and every other that the URL names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from duetime.clock import MICROS, Clock
from duetime.stores.contract import Finding
from duetime.stores.mysql.session import Session

__all__ = ["Look", "Member", "galera", "members", "take_a_look"]

_FLUSH = "innodb_flush_log_at_trx_commit"
_APART = MICROS // 20  # µs: events fire by the clock of the member that their node asks


class Member(NamedTuple):
    """One server as it was seen: its settings, and what its clock is ahead of this machine's."""

    said: Mapping[str, str]
    ahead: tuple[int, int]  # µs, at least and at most: the question took that long


Look = Callable[[Session], Member]


def take_a_look(sql: Mapping[str, str], clock: Clock) -> Look:
    """Return how to look at one server."""

    def look(db: Session) -> Member:
        rows = [*db.rows(sql["galera"]), *db.rows(sql["galera_settings"])]
        said = {_text(name).lower(): _text(value) for name, value in rows}
        db.rows(sql["clock"])  # the first question on a connection is a slow one
        before = clock.wall()
        now = int(db.rows(sql["clock"])[0][0])
        return Member(said, (now - clock.wall(), now - before))

    return look


def galera(said: Mapping[str, str]) -> Iterator[Finding]:
    """Judge the state of a Galera member; say nothing of a server that is none."""
    if int(said.get("wsrep_cluster_size", "0") or 0) < 1:
        return
    yield _state(said)
    size = int(said["wsrep_cluster_size"])
    if size < 3:
        text = (
            f"The cluster has {size} members: when one dies, the rest is no majority and refuses "
            "every call. Three are the least, a Galera arbitrator may be one of them."
        )
        yield Finding("warning", "galera_size", text)
    if said.get("wsrep_osu_method", "TOI") != "TOI":
        text = (
            f"wsrep_osu_method is {said['wsrep_osu_method']}: a migration would alter the tables "
            "of this member alone. Set it to TOI before `duetime migrate`."
        )
        yield Finding("error", "galera_schema", text)
    else:
        yield Finding("ok", "galera_schema", "Migrations alter the tables of all members at once.")
    text = (
        f"wsrep_sync_wait is {said.get('wsrep_sync_wait', '0')} for others; Duetime sets its own: "
        "7 for what is asked about events, 0 for claims and beats."
    )
    yield Finding("ok", "galera_reads", text)


def _state(said: Mapping[str, str]) -> Finding:
    state = said.get("wsrep_local_state_comment", "unknown")
    if said.get("wsrep_ready") != "ON" or said.get("wsrep_cluster_status") != "Primary":
        text = (
            f"This Galera member is not ready (state {state}, component "
            f"{said.get('wsrep_cluster_status')}): it would refuse every call."
        )
        return Finding("error", "galera_ready", text)
    if state != "Synced":
        text = f"This Galera member is {state}, not Synced: it lags behind the others."
        return Finding("warning", "galera_synced", text)
    size = said["wsrep_cluster_size"]
    return Finding("ok", "galera_synced", f"A synced member of a Galera cluster of {size}.")


def members(seen: Iterable[tuple[str, Member | str]]) -> Iterator[Finding]:
    """Judge the servers of a URL together; of one that cannot be asked, `seen` tells why."""
    there: dict[str, Member] = {}
    away: list[str] = []
    for place, member in seen:
        if isinstance(member, str):
            away.append(f"{place} ({member})")
        elif (state := next(galera(member.said), None)) is not None and state.level != "ok":
            away.append(f"{place} ({state.text})")
        else:
            there[place] = member
    if away:
        yield Finding("warning", "galera_members", f"No help in need: {'; '.join(away)}.")
    else:
        text = f"All {len(there)} servers of the URL can be used."
        yield Finding("ok", "galera_members", text)
    yield from _promises(there)
    yield from _clocks(there)


def _promises(there: Mapping[str, Member]) -> Iterator[Finding]:
    lax = [place for place, member in there.items() if member.said.get(_FLUSH, "1") != "1"]
    if lax:
        text = (
            f"{_FLUSH} is not 1 on {', '.join(lax)}: when all members die at once, acknowledged "
            "events may be lost. Set it to 1 on every member."
        )
        yield Finding("warning", "galera_flush", text)
    elif there:
        yield Finding("ok", "galera_flush", "Every server of the URL flushes each commit.")


def _clocks(there: Mapping[str, Member]) -> Iterator[Finding]:
    """An event is never early by the clock of the member that its node asks; others may differ."""
    if len(there) < 2:
        return
    first = max(there, key=lambda place: there[place].ahead[0])
    last = min(there, key=lambda place: there[place].ahead[1])
    apart = there[first].ahead[0] - there[last].ahead[1]
    if apart > _APART:
        text = (
            f"The clock of {first} is {apart / MICROS:.3f} s or more ahead of that of {last}: each "
            "node fires by the clock of its own member. Let all keep time (NTP)."
        )
        yield Finding("warning", "galera_clocks", text)
    else:
        text = f"The clocks of all servers agree to within {_APART // 1000} ms."
        yield Finding("ok", "galera_clocks", text)


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
