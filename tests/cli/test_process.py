"""The command line as a real process: nodes, signals, pipes and terminals."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from duetime import Scheduler
from duetime.clock import MICROS, SystemClock
from tests.cli.conftest import Call

pytestmark = pytest.mark.processes

PROGRAM = [sys.executable, "-m", "duetime"]
APP = """
import os, signal, time
from pathlib import Path
from duetime import Scheduler

scheduler = Scheduler("sqlite:///duetime.db", grace=20.0, backoff_first=0.01, retries=2)
number = 5
seen = Path("seen")
seen.mkdir(exist_ok=True)

@scheduler.on("note")
def note(event):
    seen.joinpath(f"{event.id}-{os.getpid()}").touch()

@scheduler.on("hang")
def hang(event):
    note(event)
    time.sleep(60)

@scheduler.on("slow")
def slow(event):
    note(event)
    time.sleep(1)
    Path("finished").touch()

def make():
    return scheduler
"""
SEEN = Path("seen")
# Makes the terminal on stdin the one whose Ctrl-C it hears, then becomes the program.
LOGIN = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"


def environment() -> dict[str, str]:
    """Return the environment of a user's shell: output that is not a terminal is buffered."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    clock = SystemClock()
    deadline = clock.boot() + int(seconds * MICROS)
    while not condition():
        assert clock.boot() < deadline
        clock.sleep(10_000)


def schedule(kind: str, *ids: str) -> None:
    with Scheduler() as scheduler:
        scheduler.schedule_many({"kind": kind, "id": one} for one in ids)


def seen(event_id: str) -> list[str]:
    return [path.name.rpartition("-")[2] for path in SEEN.glob(f"{event_id}-*")]


@pytest.fixture(autouse=True)
def _app(duetime: Call) -> None:
    Path("app.py").write_text(APP)
    SEEN.mkdir()


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        with Path("log").open("w") as log:
            process = subprocess.Popen(
                [*PROGRAM, *arguments],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


Start = Callable[..., "subprocess.Popen[str]"]


def shell(command: str) -> subprocess.CompletedProcess[str]:
    line = command.replace("duetime ", f"{sys.executable} -m duetime ")
    return subprocess.run(
        ["bash", "-c", line],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_node_runs_and_stops(start: Start) -> None:
    """`duetime run` fires events, and ends with code 0 after SIGTERM."""
    schedule("note", "a")
    process = start("run", "app:scheduler")
    until(lambda: seen("a"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    log = Path("log").read_text()
    assert "1 node on sqlite:///duetime.db, answering 3 kinds: hang, note, slow" in log
    assert log.endswith("stopped\n")


def test_a_second_signal_stops_at_once(start: Start) -> None:
    """A handler that does not end is not waited for after a second signal."""
    schedule("hang", "a")
    process = start("run", "app:scheduler")
    until(lambda: seen("a"))
    clock = SystemClock()
    begin = clock.boot()
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
    assert clock.boot() - begin < 15 * MICROS


def test_several_processes(start: Start) -> None:
    """A killed child is replaced, SIGTERM reaches all, and the code is 0."""
    process = start("run", "app:scheduler", "--processes", "2")
    until(lambda: len(children(process.pid)) == 2)
    first = children(process.pid)
    os.kill(first[0], signal.SIGKILL)
    until(lambda: len(set(children(process.pid)) - set(first)) == 1)
    assert "was killed by SIGKILL" in Path("log").read_text()
    schedule("note", *(f"n{i}" for i in range(50)))
    until(lambda: all(seen(f"n{i}") for i in range(50)))
    last = children(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not any(alive(pid) for pid in last)


def test_children_end_with_their_supervisor(start: Start) -> None:
    """When the supervisor is killed, its children stop too."""
    process = start("run", "app:scheduler", "--processes", "2")
    schedule("note", "a")
    until(lambda: seen("a"))
    pids = children(process.pid)
    process.kill()
    process.wait()
    until(lambda: not any(alive(pid) for pid in pids))


def children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("app", "module:object"),
        ("app:", "module:object"),
        ("nowhere:x", "no module nowhere"),
        ("app.py:scheduler", "no .py"),
        ("app:schedule", "app:scheduler?"),
        ("app:number", "of type int"),
        ("app:make", "of type function"),
        ("app:scheduler --store sqlite:///other.db", "sqlite:///duetime.db"),
        ("app:scheduler --processes 0", "processes"),
    ],
)
def test_what_cannot_be_run(arguments: str, text: str) -> None:
    """An app that is not there, or is no scheduler, is refused in one line with code 2."""
    done = shell(f"duetime run {arguments}")
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_program_that_fails_is_told() -> None:
    """An app that raises while it is imported ends in one line with code 1."""
    Path("bad.py").write_text("import nothing_of_that_name\n")
    done = shell("duetime run bad:scheduler")
    assert done.returncode == 1
    assert done.stderr.startswith("error [internal]: ModuleNotFoundError")


def test_a_closed_pipe_is_no_error() -> None:
    """When the reader has seen enough, the command ends with code 0 and in silence."""
    schedule("note", *(f"n{i}" for i in range(3000)))
    done = shell("duetime list --all | head -1; echo ${PIPESTATUS[@]}")
    assert done.stdout.endswith("\n0 0\n")
    assert done.stderr == ""


def test_a_full_disk_is_an_error() -> None:
    """When the output cannot be written, the command says so and ends with code 1."""
    schedule("note", "a")
    done = shell("duetime list > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "error [enospc]: No space left on device.\n"


def test_words_come_after_the_data_they_are_about() -> None:
    """In one file, what is said about the data stands behind it."""
    done = shell("duetime cancel nobody 2>&1")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "nobody\tunknown"


def test_ctrl_c_schedules_nothing() -> None:
    """Interrupted while it reads lines, the command ends with code 130 and has written nothing."""
    process = subprocess.Popen(
        [*PROGRAM, "schedule", "--lines", "-"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    with process:
        process.stdin.write(b'{"kind": "note"}\n')
        process.stdin.flush()
        until(lambda: reads_stdin(process.pid))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    with Scheduler() as scheduler:
        assert scheduler.find() == []


def reads_stdin(pid: int) -> bool:
    """Tell whether a process waits in read(0, ...)."""
    return Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 ")


def on_terminal(*arguments: str, columns: int = 80, keys: bytes = b"") -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and what was shown."""
    master, slave = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        env=environment() | size,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    os.write(master, keys)
    shown = b""
    with contextlib.suppress(OSError):  # Linux answers EIO when the other end is closed
        while select.select([master], [], [], 20)[0] and (data := os.read(master, 4096)):
            shown += data
    os.close(master)
    return process.wait(20), shown.decode()


def test_a_terminal_gets_a_table() -> None:
    """On a terminal there is a coloured table that fits its width and shows relative times."""
    with Scheduler() as scheduler:
        scheduler.schedule("a.kind.with.a.very.long.name.that.has.to.be.cut", after=7200 - 30)
        event = scheduler.schedule("short", "x" * 200, after=3600)
    code, shown = on_terminal("list")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert code == 0
    assert "\x1b[" in shown
    assert re.match(r"ID +KIND +DUE +STATE +TRY", lines[0])
    assert re.match(rf"{event.id} +short +in (59m \d+s|1h) +scheduled +0", lines[2])
    assert re.match(r"\w{34} +a\.kind\.with…? *", lines[3])
    assert "…" in lines[3]
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert "xxxxx…" in on_terminal("list", columns=140)[1]


def test_a_terminal_is_asked() -> None:
    """On a terminal many events are cancelled after a yes, and none after a no."""
    schedule("note", "a", "b")
    code, shown = on_terminal("cancel", "--kind", "note", keys=b"n\n")
    assert code == 1
    assert "Cancel 2 events? [y/N]" in shown
    code, shown = on_terminal("cancel", "--kind", "note", keys=b"y\n")
    assert code == 0
    with Scheduler() as scheduler:
        assert scheduler.find() == []


def test_ctrl_c_lets_handlers_finish() -> None:
    """Ctrl-C on a terminal reaches the children once: what runs there may finish."""
    schedule("slow", "a")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", LOGIN, *PROGRAM, "run", "app:scheduler", "--processes", "2"],
        env=environment(),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    with process:
        until(lambda: seen("a"))
        os.write(master, b"\x03")
        assert process.wait(20) == 0
    os.close(slave)
    os.close(master)
    assert Path("finished").exists()
    with Scheduler() as scheduler:
        assert scheduler.find() == []


def test_options_reach_the_program(start: Start) -> None:
    """A program that leaves the store open gets the one that was given to `duetime run`."""
    Path("open.py").write_text(APP.replace('"sqlite:///duetime.db", ', ""))
    assert shell("duetime migrate --store sqlite:///other.db").returncode == 0
    with Scheduler("sqlite:///other.db") as scheduler:
        scheduler.schedule("note", id="a")
    process = start("run", "open:scheduler", "--store", "sqlite:///other.db", "--processes", "2")
    until(lambda: seen("a"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
