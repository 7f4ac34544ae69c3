"""The disk under the file: full, failing, or busy with what an administrator does to it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duetime import StoreFull
from duetime.stores.sqlite import SqliteStore
from tests.processes.fleet import SCALE, Fleet, scaled, wait_until
from tests.processes.oracle import repeated
from tests.processes.places import FilePlace

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180 * max(1, SCALE))]

DISK = 24 << 20
SPARE = 12 << 20  # bytes that a ballast takes and gives back


class SmallDisk:
    """A small tmpfs, with a ballast that can be taken away.

    Only root may mount one; for others a limit on the pages of the file stands in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_real = os.geteuid() == 0
        if self.is_real:
            options = ["-o", f"size={DISK},mode=700"]
            subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], check=True)
            (folder / "ballast").write_bytes(bytes(SPARE))

    def limit(self, fleet: Fleet) -> None:
        """Make the disk small for the test's own scheduler."""
        if not self.is_real:
            limit_pages(fleet, SPARE // 4096)

    def make_room(self, fleet: Fleet) -> None:
        """Give back the ballast."""
        if self.is_real:
            (self.folder / "ballast").unlink()
        else:
            limit_pages(fleet, 1 << 30)

    def is_full(self) -> bool:
        """Tell whether nothing more can be written to it."""
        try:
            with (self.folder / "probe").open("wb") as file:
                file.write(bytes(1 << 16))
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            (self.folder / "probe").unlink(missing_ok=True)
        return not self.is_real

    def unmount(self) -> None:
        """Take it away, whatever still looks at it."""
        if self.is_real:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def limit_pages(fleet: Fleet, pages: int) -> None:
    """Let the file of the test's own scheduler grow no further."""
    store = fleet.scheduler.store
    assert isinstance(store, SqliteStore)
    with store._database.writing() as db:
        db.rows(f"PRAGMA max_page_count = {pages}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Make a small disk and take it away again."""
    folder = tmp_path / "small"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        disk = SmallDisk(folder)
        stack.callback(disk.unmount)
        yield disk


def test_a_full_disk_loses_nothing(small_disk: SmallDisk, launch: Callable[..., Fleet]) -> None:
    """On a full disk schedule says StoreFull, what was acknowledged runs, and room makes it work.

    The node is never started again.
    """
    fleet = launch(FilePlace(small_disk.folder / "events.db"))
    fleet.scheduler.store.migrate()
    small_disk.limit(fleet)
    (node,) = fleet.start_ready(1)
    payload = {"text": "x" * 4000}
    for number in itertools.count():
        name = f"full-{number}"
        try:
            fleet.scheduler.schedule("note", payload, after=4, id=name)
        except StoreFull as error:
            fleet.log.write("refused", name, error.code)
            if fleet.oracle.count("refused") >= 50:
                break
        else:
            fleet.log.write("asked", name)
            with contextlib.suppress(StoreFull):
                fleet.schedule([{"kind": "note", "payload": payload, "after": 4}] * 20)
    assert small_disk.is_full()
    asked = fleet.oracle.ids("asked")
    small_disk.make_room(fleet)
    fleet.log.write("room")
    due = fleet.schedule([{"kind": "note", "after": 0.1}] * 100)
    wait_until(lambda: fleet.oracle.ids("ended") >= asked | due.keys(), 30, "all are run")
    wait_until(fleet.empty, 10, "all are settled")
    runs = fleet.oracle.runs()
    (room,) = fleet.oracle.lines("room")
    resumed = min(line.at for line in fleet.oracle.lines("began") if line.id in due)
    print(
        f"\n{len(asked)} events acknowledged on a disk of {DISK >> 20} MiB, "
        f"{fleet.oracle.count('refused')} calls refused; "
        f"works again after {(resumed - room.at) / 1e6:.2f} s"
    )
    assert node.alive
    assert resumed - room.at < 5e6
    assert len(asked) > 500
    assert not repeated(runs)
    assert not fleet.oracle.ids("refused") & runs.keys()
    assert {line.note for line in fleet.oracle.lines("refused")} == {"store_full"}
    assert not fleet.integrity()
    fleet.stop_all()


def test_a_failing_disk_loses_nothing(launch: Callable[..., Fleet]) -> None:
    """Where writes and syncs fail by chance, every acknowledged event runs, and no refused one.

    A call whose answer was lost may have happened or not; the file stays sound.
    """
    fleet = launch(lease=2.0, beat=0.3, margin=0.5)
    fleet.scheduler.store.migrate()
    load: dict[str, Any] = {"feed": 150, "kind": "note", "nap": 0.0, "spread": 0.3, "named": True}
    nodes = fleet.start_ready(3, **load, shaky=0.15)
    goal = scaled(1_500)
    wait_until(lambda: fleet.oracle.count("asked") >= goal, 60, "events are acknowledged")
    (fleet.folder / "calm").touch()
    fleet.start_ready(1)
    fleet.stop(*nodes)
    asked = fleet.oracle.ids("asked")
    wait_until(lambda: fleet.oracle.ids("ended") >= asked, 30, "all are run")
    wait_until(fleet.empty, 10, "all are settled")
    fleet.stop_all()
    runs = fleet.oracle.runs()
    refused = fleet.oracle.lines("refused")
    lost = {line.id for line in refused if line.note.startswith("AnswerLost")}
    surely_not = {line.id for line in refused} - lost
    resent = sum(json.loads(line.note)["resent"] for line in fleet.oracle.lines("tally"))
    print(
        f"\n{len(asked)} acknowledged, {len(surely_not)} refused, {len(lost)} answers lost "
        f"(of these {len(lost & runs.keys())} happened), {resent} writes sent again, "
        f"{len(repeated(runs))} events repeated"
    )
    assert refused, "no failure reached a caller: this test saw nothing"
    assert resent > 10
    assert not surely_not & runs.keys()
    assert not fleet.oracle.lines("error")
    assert fleet.said("the disk did not")
    assert not fleet.dead()
    assert not fleet.integrity()


def test_maintenance_under_load_disturbs_nobody(launch: Callable[..., Fleet]) -> None:
    """Eight processes and VACUUM, backup and checkpoint in a loop: no error, no loss, no double."""
    fleet = launch()
    fleet.scheduler.store.migrate()
    load: dict[str, Any] = {"feed": 60, "kind": "note", "nap": 0.0, "spread": 0.5}
    nodes = fleet.start_ready(5, **load)
    tenders = [fleet.start("tend", work=work) for work in ("vacuum", "backup", "checkpoint")]
    fleet.ready(*tenders)
    goal = scaled(2_500)
    wait_until(lambda: fleet.oracle.count("asked") >= goal, 60, "events are acknowledged")
    fleet.stop(*tenders)
    fleet.start_ready(1)
    fleet.stop(*nodes)
    asked = fleet.oracle.ids("asked")
    wait_until(lambda: fleet.oracle.ids("ended") >= asked, 30, "all are run")
    wait_until(fleet.empty, 10, "all are settled")
    fleet.stop_all()
    runs = fleet.oracle.runs()
    rounds: dict[str, int] = {}
    for line in fleet.oracle.lines("rounds"):
        rounds |= json.loads(line.note)
    print(f"\n{len(asked)} events beside {rounds}")
    assert min(rounds.values()) >= 5, "too little maintenance: this test saw nothing"
    assert not fleet.oracle.lines("refused", "error")
    assert not fleet.said("")
    assert not repeated(runs)
    assert runs.keys() == asked
    assert not fleet.integrity()
