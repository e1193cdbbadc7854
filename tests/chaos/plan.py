"""The plan of a run: which fault begins when, for how long, on what; all of it from the seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

SESSION_TIMEOUT = 6.0
"""Seconds after which the group gives a silent worker's partitions to others (of the workers' setting, and of the bed's broker)."""
PAUSE = (1.0, 9.0)
"""Seconds between the end of a fault and the next one on the same part: time in which something can be written."""
PROTOCOLS = ("classic", "consumer")


class Kind(NamedTuple):
    """A kind of fault."""

    part: str
    name: str
    seconds: tuple[float, float]
    """Between these the fault's length is drawn."""


KINDS = (
    Kind("workers", "kill a worker", (0.0, 1.0)),
    Kind("workers", "stop a worker", (0.5, 5.0)),
    Kind("workers", "freeze a worker", (SESSION_TIMEOUT + 1.0, SESSION_TIMEOUT + 5.0)),
    Kind("workers", "a worker joins", (2.0, 8.0)),
    Kind("database", "cut", (0.0, 0.0)),
    Kind("database", "freeze the network", (0.5, 8.0)),
    Kind("database", "refuse and cut", (0.5, 6.0)),
    Kind("database", "delay", (2.0, 6.0)),
    Kind("database", "lose a commit's answer", (0.0, 3.0)),
    Kind("database", "terminate the backends", (0.0, 0.0)),
    Kind("database", "restart", (0.0, 3.0)),
    Kind("database", "crash", (0.0, 3.0)),
    Kind("database", "freeze a backend", (1.0, 10.0)),
    Kind("database", "read-only", (1.0, 5.0)),
    Kind("kafka", "cut", (0.0, 0.0)),
    Kind("kafka", "freeze the network", (0.5, 10.0)),
    Kind("kafka", "refuse and cut", (0.5, 6.0)),
    Kind("kafka", "delay", (2.0, 6.0)),
    Kind("kafka", "kill the broker", (0.5, 4.0)),
    Kind("kafka", "freeze the broker", (1.0, 8.0)),
)
PARTS = ("workers", "database", "kafka")


@dataclass(frozen=True)
class Fault:
    """One fault of the plan. Times are seconds since the run's start; reality may be late, never early."""

    number: int
    begins: float
    ends: float
    kind: Kind
    pick: float
    """From 0 up to 1: which of several workers or backends, as far as there is a choice; also how long a delay is."""

    def __str__(self) -> str:
        """For the plan's listing."""
        return f"#{self.number:<3} {self.begins:6.1f}-{self.ends:6.1f} s  {self.kind.part}: {self.kind.name} [{self.pick:.2f}]"


@dataclass(frozen=True)
class Plan:
    """Everything that the seed decides but the load, which has a random sequence of its own from the same seed."""

    seed: int
    protocol: str
    workers: int
    seconds: float
    faults: tuple[Fault, ...]


def make_plan(seed: int, *, seconds: float, workers: int, protocol: str | None = None) -> Plan:
    """The plan of a seed. Faults of one part follow each other; those of different parts overlap.

    Args:
        seed: the same seed and the same other arguments make the same plan.
        seconds: the time in which faults begin and end.
        workers: how many there are at the start.
        protocol: of the consumer group; drawn where none is given.
    """
    drawn = Random(f"{seed} protocol").choice(PROTOCOLS)
    drafts = sorted(draft for part in PARTS for draft in _sequence(Random(f"{seed} {part}"), part, seconds))
    faults = tuple(Fault(number, *draft) for number, draft in enumerate(drafts, 1))
    return Plan(seed, protocol or drawn, workers, seconds, faults)


def _sequence(random: Random, part: str, seconds: float) -> Iterator[tuple[float, float, Kind, float]]:
    """Faults of one part, one after the other: every kind once in random order, and again."""
    kinds = [kind for kind in KINDS if kind.part == part]
    now = 0.0
    while True:
        for kind in random.sample(kinds, len(kinds)):
            begins = now + random.uniform(*PAUSE)
            now = begins + random.uniform(*kind.seconds)
            if now > seconds:
                return
            yield begins, now, kind, random.random()
