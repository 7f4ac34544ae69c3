"""The program that the tests start as a child: a scheduler with telling handlers, and a role.

The only argument is the plan, a JSON object: role, log, settings, and what the role needs.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw
import msgspec

from duetime import Answer, DuetimeError, Scheduler, Settings
from duetime.stores.sql import Migration, load_migrations
from tests.processes.oracle import Log, micros
from tests.processes.shaky import make_shaky
from tests.processes.telling import register

Plan = dict[str, Any]
Role = Callable[[Scheduler, Log, Plan], None]


def run(scheduler: Scheduler, log: Log, plan: Plan) -> None:
    """Be a node until told to stop; `feed` events a second are scheduled beside, if given."""
    scheduler.start(beater=scheduler.settings.beater)
    ended = threading.Event()
    feeder = threading.Thread(target=_feed, args=(scheduler, log, plan, ended), daemon=True)
    if plan.get("feed"):
        feeder.start()
    _ready(scheduler, log)
    scheduler.run()
    ended.set()
    if plan.get("feed"):
        feeder.join(30)  # what it stored is to be counted


def _feed(scheduler: Scheduler, log: Log, plan: Plan, ended: threading.Event) -> None:
    """Schedule at a rate; what was acknowledged is written down, and what was refused, too."""
    pause = 1 / plan["feed"]
    numbers = itertools.count()
    kind, naps, spread = plan["kind"], plan["nap"], plan["spread"]
    more = plan.get("payload", {})
    until = plan.get("until")
    while not ended.is_set() and (until is None or micros() < until):
        payload = {"nap": random.uniform(0, naps), **more}
        name = f"{os.getpid()}-{next(numbers)}" if plan.get("named") else None
        try:
            event = scheduler.schedule(kind, payload, after=random.uniform(0, spread), id=name)
        except DuetimeError as error:
            if error.code == "closed":
                return
            log.write("refused", name or "-", f"{type(error).__name__} {error.code}")
        else:
            log.write("asked", event.id)
        time.sleep(random.uniform(0, 2 * pause))


def cancel(scheduler: Scheduler, log: Log, plan: Plan) -> None:
    """Cancel listed events, each at its own moment."""
    _at_moments(scheduler, log, plan, scheduler.cancel)


def move(scheduler: Scheduler, log: Log, plan: Plan) -> None:
    """Reschedule listed events, each at its own moment, to a second after it was due."""
    later = timedelta(seconds=plan["later"])
    due = {one["id"]: one["due"] for one in json.loads(Path(plan["list"]).read_text("utf-8"))}

    def reschedule(event_id: str) -> Answer:
        old = datetime.fromtimestamp(due[event_id] / 1e6, UTC)
        return scheduler.reschedule(event_id, at=old + later)

    _at_moments(scheduler, log, plan, reschedule)


def _at_moments(scheduler: Scheduler, log: Log, plan: Plan, act: Callable[[str], Answer]) -> None:
    wishes = json.loads(Path(plan["list"]).read_text("utf-8"))
    wishes.sort(key=lambda wish: wish["at"])
    lock = threading.Lock()
    ahead = iter(wishes)

    def work() -> None:
        while True:
            with lock:
                wish = next(ahead, None)
            if wish is None:
                return
            left = (wish["at"] - micros()) / 1e6
            if left > 0:
                time.sleep(left)
            log.write("answer", wish["id"], act(wish["id"]))

    if plan.get("is_node"):
        scheduler.start()
    _ready(scheduler, log)
    threads = [threading.Thread(target=work) for _ in range(plan["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not plan.get("is_node"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends by itself
    log.write("finished")
    if plan.get("is_node"):
        scheduler.run()


def tend(scheduler: Scheduler, log: Log, plan: Plan) -> None:
    """Do to the file what an administrator may do, in a loop: VACUUM, backup, checkpoint."""
    path = scheduler.settings.store.removeprefix("sqlite:///")
    work = plan["work"]
    connection = apsw.Connection(path)
    connection.set_busy_timeout(20_000)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    _ready(scheduler, log)
    rounds = 0
    while not stopping.is_set():
        try:
            if work == "vacuum":
                connection.execute("VACUUM")
            elif work == "checkpoint":
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            else:
                _back_up(connection, f"{path}.backup")
        except apsw.BusyError:
            log.write("busy", "-", work)
        else:
            rounds += 1
        stopping.wait(random.uniform(0.05, 0.3))
    log.write("rounds", "-", json.dumps({work: rounds}))


def _back_up(connection: apsw.Connection, path: str) -> None:
    Path(path).unlink(missing_ok=True)
    copy = apsw.Connection(path)
    try:
        with copy.backup("main", connection, "main") as backup:
            while not backup.done:
                backup.step(200)
        answer = copy.pragma("integrity_check")
        assert answer == "ok", answer
    finally:
        copy.close()


def fork(scheduler: Scheduler, log: Log, plan: Plan) -> None:
    """Start, fork, and try every call in the forked child."""
    scheduler.start()
    _ready(scheduler, log)
    calls: dict[str, Callable[[], object]] = {
        "schedule": lambda: scheduler.schedule("note"),
        "schedule_many": lambda: scheduler.schedule_many([{"kind": "note"}]),
        "cancel": lambda: scheduler.cancel("some"),
        "cancel_many": lambda: scheduler.cancel_many(["some"]),
        "reschedule": lambda: scheduler.reschedule("some", after=1),
        "redrive": lambda: scheduler.redrive("some"),
        "get": lambda: scheduler.get("some"),
        "find": scheduler.find,
        "counts": scheduler.counts,
        "start": scheduler.start,
        "run": scheduler.run,
        "claims": lambda: scheduler.claims("pulled"),
        "store": lambda: scheduler.store.get(["some"]),
    }
    if os.fork() == 0:
        for name, call in calls.items():
            try:
                log.write("answer", name, repr(call()))
            except BaseException as error:  # noqa: BLE001 - told by the test, whatever it is
                log.write("answer", name, f"{type(error).__name__} {getattr(error, 'code', '')}")
        scheduler.close()
        log.write("finished")
        os._exit(0)
    os.wait()
    scheduler.run()


def hoard(scheduler: Scheduler, log: Log, plan: Plan) -> None:
    """Be a node that may open few files, and take all of them until a file `calm` is there."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (plan["files"], plan["files"]))
    calm = Path(plan["log"]).parent / "calm"

    def take() -> None:
        files = []
        while not calm.exists():
            try:
                files.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                log.write("exhausted")
                time.sleep(0.05)
        for file in files:
            os.close(file)

    scheduler.start()
    _ready(scheduler, log)
    threading.Thread(target=take, daemon=True).start()
    scheduler.run()


def storm(scheduler: Scheduler, log: Log, plan: Plan) -> None:
    """Schedule the same ids from many threads, each at the moment that all processes know."""

    def work() -> None:
        for turn in range(plan["rounds"]):
            left = (plan["begin"] - micros()) / 1e6 + turn * plan["pace"]
            if left > 0:
                time.sleep(left)
            event = scheduler.schedule("note", {"by": os.getpid()}, after=3, id=f"storm-{turn}")
            log.write("stormed", event.id, f"{event.created} {event.row[0]} {event.payload}")

    _ready(scheduler, log)
    threads = [threading.Thread(target=work) for _ in range(plan["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends by itself
    log.write("finished")


def nodes(scheduler: Scheduler, log: Log, plan: Plan) -> None:
    """Be several nodes, started at once; the counters of all are written down as one."""
    others = [Scheduler(settings=scheduler.settings) for _ in range(plan["count"] - 1)]
    for other in others:
        register(other, log, plan)
    everyone = [scheduler, *others]

    def join(one: Scheduler) -> None:
        one.start()
        log.write("joined", "-", micros())

    threads = [threading.Thread(target=join, args=(one,)) for one in everyone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _ready(scheduler, log)
    scheduler.run()
    for other in others:
        other.close()
        log.write("tally", "-", msgspec.json.encode(other.tally).decode())


def migrate(scheduler: Scheduler, log: Log, plan: Plan) -> None:
    """Take the schema steps that this program knows, and end."""
    scheduler.store.migrate()
    log.write("migrated")


def _add_step(sql: str, name: str) -> None:
    """Make this the program of the next release: it knows one more schema step."""
    step = Migration(2, name, sha256(sql.encode()).hexdigest(), sql)

    def load(package: str, prefix: str) -> list[Migration]:
        filled = step._replace(sql=sql.replace("{prefix}", prefix))
        return [*load_migrations(package, prefix), filled]

    for store in ("sqlite", "mysql", "postgres"):
        module = importlib.import_module(f"duetime.stores.{store}.store")
        vars(module)["load_migrations"] = load


def _ready(scheduler: Scheduler, log: Log) -> None:
    scheduler.get("-")  # opens the store, and measures its clock
    log.write("ready")


ROLES: dict[str, Role] = {
    "node": run,
    "cancel": cancel,
    "move": move,
    "tend": tend,
    "fork": fork,
    "hoard": hoard,
    "storm": storm,
    "nodes": nodes,
    "migrate": migrate,
}


def main() -> None:
    """Play the role of the plan, then write down the counters."""
    plan: Plan = json.loads(sys.argv[1])
    log = Log(plan["log"])
    if plan.get("shaky"):
        make_shaky(plan["shaky"])
    if plan.get("step"):
        _add_step(**plan["step"])
    scheduler = Scheduler(settings=Settings(**plan["settings"]))
    register(scheduler, log, plan)
    try:
        ROLES[plan["role"]](scheduler, log, plan)
        scheduler.close()
    except BaseException as error:
        log.write("error", "-", f"{type(error).__name__}: {error}")
        raise
    log.write("tally", "-", msgspec.json.encode(scheduler.tally).decode())


if __name__ == "__main__":
    main()
