"""The scheduler: one random number generator decides who goes on, what fails, and how long anything takes."""

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

from consumer.core.breaker import Breaker
from consumer.core.errors import FatalSourceError, SourceFailedError
from consumer.core.intake import Intake
from consumer.core.learning import Learning
from consumer.core.pause import Backoff
from consumer.core.ports import Standing
from tests.bed.events import decoder
from tests.simulation.auditor import Auditor, Violation
from tests.simulation.faults import ACTIONS, Plan
from tests.simulation.kafka import Cluster, Group
from tests.simulation.messages import NOW
from tests.simulation.mutations import Mutation
from tests.simulation.postgres import Server, Session
from tests.simulation.registry import ModelRegistry, fresh_decoder

if TYPE_CHECKING:
    from consumer.core.decoding import Decoder
    from consumer.worker import Worker
    from tests.simulation.member import Member

TURNS_TO_DRAIN = 600
"""Turns of each worker after the last fault, within which everything is accounted for."""
REMEMBERED = 40

shared_decoder = cache(decoder)


class Killed(BaseException):
    """The process of a worker is gone, at whatever it was."""


class Actor:
    """One worker process; also its observer."""

    def __init__(self, world: "World", number: int) -> None:
        self.number = number
        self._world = world
        self.frozen = False  # the scheduler is inside one of its calls
        self.stopped = False  # and its threads stand still too
        self.doomed = False
        self.not_ready: list[str] = []
        mutation = world.mutation
        decoding: Decoder = shared_decoder()
        learning = None
        if world.with_registry:
            decoding = fresh_decoder()
            registry = ModelRegistry(world, self)
            pauses = Backoff(world.random.random)
            learning = Learning(decoding, registry, monotonic=lambda: world.now, backoff=pauses, report=self.event)
        self.session = Session(world, self)
        self.member: Member = mutation.member(world, self)
        intake = Intake(
            self.member,
            decoding,
            retention=timedelta(days=1096),
            most=world.plan.batch,
            now=lambda: NOW,
            monotonic=lambda: world.now,
            learning=learning,
        )
        self.worker: Worker = mutation.worker(
            self.member,
            self.session,
            intake,
            breaker=Breaker(0 if world.healthy else world.plan.quarantine_limit, 0.5),
            monotonic=lambda: world.now,
            backoff=Backoff(world.random.random),
            observer=self,
        )

    def note(self, *what: Any) -> None:
        """For the trace."""
        self._world.note(self.number, *what)

    def event(self, name: str, **fields: Any) -> None:
        """As Observer."""
        self.note("says", name, fields)

    def batch_written(self, slices: Any, written: Any, seconds: float) -> None:
        """As Observer."""

    def batch_decoded(self, slices: Any, seconds: float) -> None:
        """As Observer."""

    def beat(self, standing: Standing) -> None:
        """As Observer."""
        self.not_ready = list(standing.not_ready)

    def turn(self) -> bool:
        """One turn; false when the process has ended."""
        try:
            self.worker.run_once()
        except Killed:
            self.note("killed")
        except FatalSourceError:
            self.note("ended: the client is dead")
        else:
            return not self.doomed
        return False


class World:
    """Everything, and its history."""

    def __init__(
        self, seed: int, mutation: Mutation | None = None, tell: Callable[[str], None] | None = None, plan: Plan | None = None
    ) -> None:
        self.seed = seed
        self.random = Random(seed)  # noqa: S311 - not for secrets
        self.mutation = mutation or Mutation()
        self.plan = plan or Plan.draw(self.random)
        self.now = 0.0
        self.steps = 0
        self.healthy = False
        self.with_registry = seed % 2 == 1
        self.registry_down_until = 0.0
        self.late_schema_from = self.random.uniform(0, 100) if self.with_registry else 0.0
        self._tell = tell
        self.history: deque[tuple[Any, ...]] = deque(maxlen=REMEMBERED)
        self.cluster = Cluster(self.plan.partitions)
        self.group = Group(self.cluster, self.random)
        self.server = Server(self.random)
        self.server.fence, self.server.ledger = self.mutation.fence, self.mutation.ledger
        self.auditor = self.server.auditor = Auditor(self.cluster, self.group, self.server)
        self.actors: list[Actor] = []
        self._born = 0
        for _ in range(self.plan.workers):
            self.join()

    # --- what the models ask -------------------------------------------------------------------------------------------------------

    def note(self, who: Any, *what: Any) -> None:
        """One line of the history."""
        line = (self.steps, round(self.now, 2), who, *what)
        self.history.append(line)
        if self._tell is not None:
            self._tell(told(line))

    def happens(self, fault: str) -> bool:
        """Whether a fault inside a call happens now."""
        return not self.healthy and self.random.random() < self.plan.chances.get(fault, 0.0)

    def pass_time(self, seconds: float) -> None:
        """Somebody waits."""
        self.now += seconds * (0.5 + self.random.random() / 2)

    def boundary(self, actor: Actor, where: str) -> None:
        """A call of a worker: it may die here, or stand still while the world goes on."""
        self.now += 0.001
        if actor.doomed or self.happens("kill"):
            actor.note("dies in", where)
            raise Killed
        if self.happens("freeze") and sum(each.frozen for each in self.actors) < 3:
            self._freeze(actor, where)
            if actor.doomed:
                raise Killed

    def _freeze(self, actor: Actor, where: str) -> None:
        steps = self.random.randint(1, 15)
        with _standing(actor, threads_too=self.random.random() < 0.5):
            actor.note("stands still in", where)
            if self.random.random() < 0.6:
                self.now += self.random.uniform(1, 100)
                actor.member.expel()
            for _ in range(steps):
                self.step()
        actor.note("goes on in", where)

    # --- workers come and go -------------------------------------------------------------------------------------------------------

    def join(self) -> None:
        """A worker starts."""
        self._born += 1
        self.note(self._born, "starts")
        self.actors.append(Actor(self, self._born))

    def bury(self, actor: Actor, *, orderly: bool = False) -> None:
        """A worker's process is gone. The group hears of it at once, or when its session has timed out: it is all the same to the rest."""
        self.actors.remove(actor)
        actor.session.vanish()
        if orderly:
            actor.member.leave()
        else:
            actor.member.expel()

    def turn(self, actor: Actor) -> None:
        """One turn of one worker; a process that ended is started anew by its supervisor."""
        if not actor.turn():
            self.bury(actor)
            self.join()

    def leave(self, actor: Actor) -> None:
        """SIGTERM between two turns."""
        try:
            actor.worker.finish()
        except (Killed, FatalSourceError):
            self.bury(actor)
            return
        except SourceFailedError as error:
            raise Violation("a worker ends in order", f"finish() raised {error!r}") from error
        self.bury(actor, orderly=True)

    # --- the schedule --------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The whole schedule. Raises Violation."""
        for _ in range(self.plan.length):
            self.step()
        self._heal()
        self._drain()
        self.auditor.check_everything()

    def step(self) -> None:
        """Something happens; then every invariant is looked at."""
        self.steps += 1
        (action,) = self.random.choices(self.plan.actions, cum_weights=self.plan.weights)
        if action == "turn":
            awake = [each for each in self.actors if not each.frozen]
            if awake:
                self.turn(self.random.choice(awake))
        else:
            ACTIONS[action](self)
        self.auditor.check()

    def _heal(self) -> None:
        """No more faults: every topic is there, every transaction of a producer ended."""
        self.note("world", "faults end")
        self.healthy = True
        self.cluster.down_until = self.registry_down_until = self.server.down_until = self.server.frozen_until = self.server.slow_until = (
            0.0
        )
        for topic in dict.fromkeys(each.topic for each in self.cluster.partitions):
            if topic not in self.cluster.ids:
                self.cluster.make(topic)
        for log in self.cluster.logs.values():
            if log.in_transaction:
                log.end_transaction(commit=True)
        if not self.actors:
            self.join()
        for actor in self.actors:  # somebody lets a held topic go on
            actor.worker._breaker = Breaker(0, 1.0)

    def _drain(self) -> None:
        for turn in range(TURNS_TO_DRAIN):
            for actor in list(self.actors):
                self.steps += 1
                self.turn(actor)
                self.now += 0.01
                self.auditor.check()
            if turn % 10 == 9 and not self._undone():
                return
        raise Violation("the system drains", "; ".join(self._undone()))

    def _undone(self) -> list[str]:
        found = self.auditor.undrained(" ".join(reason for actor in self.actors for reason in actor.not_ready))
        for actor in self.actors:
            expected = ("no partition is assigned", *(["beyond the partition's end"] if self.cluster.truncated else []))
            reasons = [each for each in actor.not_ready if not any(text in each for text in expected)]
            if reasons:
                found.append(f"worker {actor.number} is not ready: {', '.join(reasons)}")
        return found


@contextmanager
def _standing(actor: Actor, *, threads_too: bool) -> Iterator[None]:
    before = actor.frozen, actor.stopped
    actor.frozen, actor.stopped = True, threads_too
    try:
        yield
    finally:
        actor.frozen, actor.stopped = before


def told(line: tuple[Any, ...]) -> str:
    """A line of the history, to read."""
    step, now, who, *what = line
    text = " ".join(map(str, what))
    return f"{step:>5} {now:>9.2f}  {who!s:<6} " + re.sub(r"Partition\(topic='(\w+)', number=(\d+)\)", r"\1/\2", text)
