"""What the check says of Galera members, whatever they say of themselves."""

from __future__ import annotations

import pytest

from duetime.stores.mysql.galera import Member, galera, members

WELL = {
    "wsrep_cluster_size": "3",
    "wsrep_ready": "ON",
    "wsrep_cluster_status": "Primary",
    "wsrep_local_state_comment": "Synced",
    "wsrep_osu_method": "TOI",
    "innodb_flush_log_at_trx_commit": "1",
}
DONOR = {**WELL, "wsrep_local_state_comment": "Donor/Desynced"}
ALONE = {**WELL, "wsrep_ready": "OFF", "wsrep_cluster_status": "non-Primary"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {}),
        ({"wsrep_cluster_size": "0"}, {}),
        (WELL, {"galera_synced": "ok", "galera_schema": "ok", "galera_reads": "ok"}),
        (DONOR, {"galera_synced": "warning", "galera_schema": "ok", "galera_reads": "ok"}),
        (ALONE, {"galera_ready": "error", "galera_schema": "ok", "galera_reads": "ok"}),
        (
            {**WELL, "wsrep_osu_method": "RSU", "wsrep_cluster_size": "2"},
            {
                "galera_synced": "ok",
                "galera_size": "warning",
                "galera_schema": "error",
                "galera_reads": "ok",
            },
        ),
    ],
)
def test_a_member_is_judged(said: dict[str, str], expected: dict[str, str]) -> None:
    """A member that is not ready, lags, or would migrate alone is told; others are not asked."""
    assert {finding.name: finding.level for finding in galera(said)} == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([("a", Member(WELL, (0, 9))), ("b", Member(WELL, (60_000, 70_000)))], ["galera_clocks"]),
        ([("a", Member(WELL, (0, 30_000))), ("b", Member(WELL, (60_000, 70_000)))], []),
        ([("a", Member(WELL, (0, 9))), ("b", "cannot be reached")], ["galera_members"]),
        ([("a", Member(DONOR, (0, 9))), ("b", Member({}, (0, 9)))], ["galera_members"]),
        (
            [
                ("a", Member({**WELL, "innodb_flush_log_at_trx_commit": "2"}, (0, 9))),
                ("b", Member(WELL, (0, 9))),
            ],
            ["galera_flush"],
        ),
    ],
)
def test_servers_are_judged_together(
    seen: list[tuple[str, Member | str]], expected: list[str]
) -> None:
    """Servers of a URL that are away, do not flush, or whose clocks are surely apart are told."""
    found = list(members(seen))
    assert [finding.name for finding in found if finding.level == "warning"] == expected
    assert all("b" in finding.text or "a" in finding.text for finding in found)
