"""What goes wrong in one world, drawn from its seed: each kind of fault is on in some worlds only.

A world with every fault at once hides what two of them do together; one that leaves most out finds
it (swarm testing: Groce and others, 2012).
"""

from __future__ import annotations

from random import Random

import msgspec

from duetime.clock import MICROS
from duetime.config import Settings
from duetime.testing.faulty_store import Fault, Fortune

__all__ = ["CHANGES", "Chaos", "draw_chaos", "draw_settings"]

CHANGES = frozenset(
    {"insert", "cancel", "reschedule", "redrive", "claim", "settle", "beat", "strike", "rescue"}
)
_WORK = (10, 25)  # seconds of work and faults, before everything heals


class Chaos(msgspec.Struct):
    """How bad a world is; chances are per call of the store unless said otherwise."""

    machines: int
    wishes: int
    work: int  # µs until all faults stop
    calm: bool = False  # no faults at all
    rolling: bool = False  # nodes are restarted gracefully while handlers run, and no faults
    sqlite: bool = False
    latency: int = 500  # µs, typical, of one way to the store
    lost: float = 0.0  # answers lost, before or after the change
    lossy: str = ""  # a call of which most answers are lost
    refused: float = 0.0
    slow: float = 0.0  # calls that take up to twice the lease
    crash: float = 0.0  # the process dies around the call
    pause: float = 0.0  # the process stands still around the call
    outages: int = 0  # times during which no call succeeds
    crashes: int = 0  # deaths at any time
    pauses: int = 0
    stops: int = 0  # graceful stops
    wall_steps: int = 0  # steps of a node's wall clock by up to an hour
    store_steps: int = 0  # steps of the store's clock
    poison: int = 0  # events that kill the process that runs them
    slow_handlers: bool = False  # up to ten leases
    bad_handlers: bool = False  # raising, Retry, Dead
    uneven: bool = False  # nodes that know only some kinds
    bursts: bool = False  # many events in one instant
    impatient: bool = False  # cancels and moves around the due time
    twins: bool = False  # the same id from several clients

    @property
    def is_reachable(self) -> bool:
        """Whether nothing keeps a living process from the store for longer than a moment."""
        far = (
            self.lossy,
            self.lost,
            self.refused,
            self.slow,
            self.pause,
            self.outages,
            self.pauses,
        )
        return not any(far)

    @property
    def is_poison_alone(self) -> bool:
        """Whether processes die of a single poison event only."""
        return self.is_reachable and self.poison == 1 and not (self.crash or self.crashes)

    def fortune(self, call: str, rng: Random, lease: int) -> Fortune:
        """Draw what befalls one call to the store."""
        chance = rng.random()
        if call in CHANGES and (chance < self.lost or (call == self.lossy and chance < 0.7)):
            fault = Fault.LOST_BEFORE if rng.random() < 0.4 else Fault.LOST_AFTER
            return Fortune(fault, rng.randrange(self.latency, lease // 4 + self.latency))
        if chance < self.lost + self.refused:
            return Fortune(Fault.REFUSED, rng.randrange(self.latency + 1))
        return Fortune()


def draw_chaos(rng: Random) -> Chaos:
    """Draw a world."""
    seconds = rng.randint(*_WORK)
    chaos = Chaos(
        machines=rng.choice((1, 2, 2, 3)),
        wishes=rng.randint(15, 45),
        work=seconds * MICROS,
        latency=rng.choice((50, 300, 1000, 5000)),
        bad_handlers=rng.random() < 0.6,
        bursts=rng.random() < 0.4,
        impatient=rng.random() < 0.6,
        twins=rng.random() < 0.4,
        uneven=rng.random() < 0.4,
    )
    if rng.random() < 0.1:
        chaos.calm = True
        return chaos
    if rng.random() < 0.08:
        chaos.rolling = chaos.slow_handlers = True
        chaos.machines, chaos.stops = rng.randint(2, 3), rng.randint(2, 5)
        return chaos
    if rng.random() < 0.12:
        # Poison alone: any innocent event that is given up was wronged by the node.
        chaos.poison = rng.choice((1, 1, 1, 3))
        chaos.bursts = rng.random() < 0.8
        return chaos
    if rng.random() < 0.05:
        chaos.lossy = "insert"
        return chaos
    chaos.slow_handlers = rng.random() < 0.35
    for name, share, most in (
        ("lost", 0.4, 0.08),
        ("refused", 0.3, 0.08),
        ("slow", 0.3, 0.02),
        ("crash", 0.3, 0.01),
        ("pause", 0.3, 0.01),
    ):
        if rng.random() < share:
            setattr(chaos, name, rng.uniform(0.1, 1.0) * most)
    if rng.random() < 0.15:
        chaos.lossy = rng.choice(sorted(CHANGES))
    for name, share, count in (
        ("outages", 0.25, 2),
        ("crashes", 0.4, 5),
        ("pauses", 0.4, 5),
        ("stops", 0.3, 3),
        ("wall_steps", 0.3, 3),
        ("store_steps", 0.25, 3),
        ("poison", 0.25, 2),
    ):
        if rng.random() < share:
            setattr(chaos, name, rng.randint(1, count))
    return chaos


def draw_settings(rng: Random, chaos: Chaos) -> Settings:
    """Draw settings, some of them far from sensible, so that edges are met often."""
    lease = rng.choice((1.0, 1.5, 3.0))
    beat = rng.uniform(0.1, lease * 0.3)
    claim_batch = rng.choice((1, 2, 3, 5, 20, 100))
    lead = rng.choice((0.001, 0.05, 0.3))
    first = rng.choice((0.0, 0.1, 0.5))
    return Settings(
        store="memory://",
        shards=rng.choice((1, 2, 4, 8)),
        tick=rng.choice((0.005, 0.025, 0.1)),
        poll=rng.choice((0.05, 0.25, 0.5, 1.0)),
        lead=lead,
        lead_max=rng.choice((lead, 1.0, 3.0)),
        claim_batch=claim_batch,
        max_held=claim_batch + rng.choice((0, 2, 10, 100)),
        workers=rng.randint(1, 4),
        async_workers=rng.randint(1, 3),
        batch_size=rng.randint(1, 5),
        settle_every=rng.choice((0.0, 0.01, 0.1)),
        settle_batch=rng.choice((1, 3, 100)),
        grace=15.0 if chaos.rolling else rng.choice((0.0, 0.5, 5.0)),
        beat=beat,
        lease=lease,
        margin=rng.uniform(0.05, 0.9) * (lease - beat),
        max_crashes=rng.choice((2, 3)) if chaos.poison else 3,
        retries=rng.randint(0, 4),
        backoff_first=first,
        backoff_factor=2.0,
        backoff_max=max(first, 2.0),
        history_kept=rng.choice((0, 2, 20)),
        stats_every=0.0,
        switch_interval=0.0,
    )
