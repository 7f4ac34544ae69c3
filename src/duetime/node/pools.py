"""Where sync handlers run: a pool of threads."""

from __future__ import annotations

import threading

from duetime.clock import StoreClock
from duetime.node.runner import Runner

__all__ = ["ThreadPool"]


class ThreadPool:
    """Threads that take jobs from the runner; each is started when it is first needed."""

    def __init__(self, runner: Runner, clock: StoreClock, most: int) -> None:
        self._runner = runner
        self._clock = clock
        self._most = most
        self._wakeup = threading.Condition()
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._fed = 0

    def feed(self, jobs: int) -> None:
        """Tell that about so many jobs wait."""
        with self._wakeup:
            self._fed += 1
            wanted = min(jobs, self._most)
            if self._idle:
                self._wakeup.notify(min(wanted, self._idle))
            for _ in range(min(wanted - self._idle, self._most - len(self._threads))):
                name = f"duetime-worker-{len(self._threads) + 1}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def stop(self) -> None:
        """Let the threads end once nothing waits."""
        with self._wakeup:
            self._stopping = True
            self._wakeup.notify_all()

    def _work(self) -> None:
        runner, now = self._runner, self._clock.now
        while True:
            fed = self._fed
            job = runner.next_job(now())
            if job is not None:
                runner.run(job)
                continue
            with self._wakeup:
                if self._stopping:
                    return
                if self._fed == fed:  # else: something was fed since we looked
                    self._idle += 1
                    self._wakeup.wait()
                    self._idle -= 1
