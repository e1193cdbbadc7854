"""What may happen between two turns, and how often: every seed has its own mixture, so that no fault hides behind another."""

from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.messages import TOMBSTONE, Content, framed, good, hostile, unstorable
from tests.simulation.registry import KNOWN, LATE, NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.core.events import Partition
    from tests.simulation.world import World

ACTIONS: "dict[str, Callable[[World], None]]" = {}

_ALWAYS = {"turn": 10.0, "publish": 3.0, "transaction": 0.5, "rebalance": 0.3, "background": 2.0}
_SOMETIMES = {
    "join": 0.3,
    "leave": 0.3,
    "kill": 0.3,
    "expel": 0.3,
    "retain": 0.4,
    "truncate": 0.1,
    "remake": 0.2,
    "brokers_down": 0.2,
    "registry_down": 0.3,
    "database_down": 0.3,
    "database_frozen": 0.2,
    "database_slow": 0.3,
    "crash": 0.3,
    "back_up": 0.4,
    "restore": 0.15,
    "wait": 0.3,
}
_CHANCES = {
    "kill": 0.004,
    "freeze": 0.01,
    "fatal": 0.002,
    "client failure": 0.01,
    "offset commit fails": 0.2,
    "connection lost": 0.02,
    "leak": 0.2,
}


@dataclass(frozen=True)
class Plan:
    """One schedule's size and mixture."""

    partitions: dict[str, int]
    workers: int
    batch: int
    quarantine_limit: int
    length: int
    actions: list[str]
    weights: list[float]
    chances: dict[str, float]

    @classmethod
    def draw(cls, random: Random) -> "Plan":
        """Half of the faults, each more or less often."""
        weights = dict(_ALWAYS)
        weights |= {name: weight * random.choice((1, 2, 4)) for name, weight in _SOMETIMES.items() if random.random() < 0.4}
        return cls(
            partitions=random.choice(({"a": 1}, {"a": 2}, {"a": 3}, {"a": 1, "b": 2})),
            workers=random.randint(1, 3),
            batch=random.choice((1, 2, 3, 8)),
            quarantine_limit=random.choice((0, 0, 3)),
            length=random.randint(60, 240),
            actions=list(weights),
            weights=list(accumulate(weights.values())),
            chances={name: chance * random.choice((1, 2, 4)) for name, chance in _CHANCES.items() if random.random() < 0.5},
        )


def _action(act: "Callable[[World], None]") -> "Callable[[World], None]":
    ACTIONS[act.__name__.strip("_")] = act
    return act


# --- producers ---------------------------------------------------------------------------------------------------------------------


def _content(world: "World") -> Content:
    # Few different events: retries of the upstream system meet on every partition, some with other content.
    number, kind = world.random.randrange(80), world.random.random()
    if world.with_registry and world.random.random() < 0.3:
        return framed(number, world.random.choice((KNOWN, KNOWN, KNOWN, LATE, NEVER)))
    if kind < 0.85:
        return good(number)
    if kind < 0.89:
        return good(number, 1)
    if kind < 0.92:
        return unstorable(number)
    return TOMBSTONE if kind < 0.95 else world.random.choice(hostile())


def _some_partition(world: "World") -> "Partition | None":
    return world.random.choice(list(world.cluster.logs)) if world.cluster.logs else None


@_action
def _publish(world: "World") -> None:
    partition = _some_partition(world)
    if partition is None:
        return
    for _ in range(world.random.randint(1, 3)):
        world.cluster.publish(partition, _content(world))
    world.note("topic", "has", partition, len(world.cluster.logs[partition].entries))


@_action
def _transaction(world: "World") -> None:
    partition = _some_partition(world)
    if partition is None:
        return
    log = world.cluster.logs[partition]
    if log.in_transaction and world.random.random() < 0.7:
        commit = world.random.random() < 0.5
        world.note("topic", "transaction ends", partition, "commit" if commit else "abort", len(log.entries))
        log.end_transaction(commit=commit)
    else:
        world.note("topic", "transaction goes on", partition, len(log.entries))
        world.cluster.publish(partition, _content(world), transaction=True)


# --- Kafka -------------------------------------------------------------------------------------------------------------------------


@_action
def _rebalance(world: "World") -> None:
    world.group.rebalance(everything=world.random.random() < 0.3)


@_action
def _expel(world: "World") -> None:
    actor = world.random.choice(world.actors) if world.actors else None
    if actor is not None:
        actor.note("is expelled")
        actor.member.expel()


@_action
def _retain(world: "World") -> None:
    partition = _some_partition(world)
    if partition is not None:
        log = world.cluster.logs[partition]
        log.retain(log.low + world.random.randint(1, 6))
        world.note("topic", "retention", partition, log.low)


@_action
def _truncate(world: "World") -> None:
    partition = _some_partition(world)
    if partition is not None:
        log = world.cluster.logs[partition]
        before = len(log.entries)
        log.truncate(before - world.random.randint(1, 3))
        if len(log.entries) < before:
            world.note("topic", "truncated", partition, len(log.entries))
            world.cluster.truncated.add(partition)


@_action
def _remake(world: "World") -> None:
    """A topic is deleted, or made again; the members may hear of it or not."""
    cluster = world.cluster
    topic = world.random.choice(cluster.partitions).topic
    if topic in cluster.ids:
        world.note("topic", "deleted", topic)
        cluster.delete(topic)
        for each in cluster.partitions:
            if each.topic == topic:
                world.group.committed.pop(each, None)
    if world.random.random() < 0.7:
        cluster.make(topic)
        world.note("topic", "made anew", topic, cluster.ids[topic])
        for each in cluster.partitions:
            for _ in range(world.random.choice((0, 3, 20)) if each.topic == topic else 0):
                cluster.publish(each, _content(world))
        if world.random.random() < 0.3:
            world.group.rebalance(everything=True)


@_action
def _brokers_down(world: "World") -> None:
    world.cluster.down_until = world.now + world.random.uniform(0.1, 20)
    world.note("brokers", "down")


@_action
def _registry_down(world: "World") -> None:
    world.registry_down_until = world.now + world.random.uniform(0.1, 60)
    world.note("registry", "down")


# --- PostgreSQL --------------------------------------------------------------------------------------------------------------------


@_action
def _background(world: "World") -> None:
    """Time passes for the server, and for the threads of workers whose loop stands still or waits for its turn."""
    world.server.work()
    for actor in world.actors:
        if not actor.stopped:
            actor.session.go_on()


@_action
def _database_down(world: "World") -> None:
    world.note("server", "down")
    world.server.crash()
    world.server.down_until = world.now + world.random.uniform(0.1, 20)


@_action
def _database_frozen(world: "World") -> None:
    world.note("server", "frozen")
    world.server.frozen_until = world.now + world.random.choice((0.5, 5, 200))


@_action
def _database_slow(world: "World") -> None:
    world.server.slow_until = world.now + world.random.choice((0.5, 5, 20))


@_action
def _crash(world: "World") -> None:
    world.note("server", "backends end")
    world.server.crash()


@_action
def _back_up(world: "World") -> None:
    world.server.dump()


@_action
def _restore(world: "World") -> None:
    if world.server.backup is not None:
        world.note("server", "restored from a backup", dict(world.server.backup.tables["positions"].items()))
        world.server.restore()
        world.auditor.restored()


# --- workers -----------------------------------------------------------------------------------------------------------------------


@_action
def _join(world: "World") -> None:
    if len(world.actors) < 4:
        world.join()


@_action
def _leave(world: "World") -> None:
    awake = [each for each in world.actors if not each.frozen]
    if len(world.actors) > 1 and awake:
        world.leave(world.random.choice(awake))


@_action
def _kill(world: "World") -> None:
    """SIGKILL; of one that stands still too."""
    if world.actors:
        actor = world.random.choice(world.actors)
        actor.note("is killed")
        actor.doomed = True
        if not actor.frozen:
            world.bury(actor)
            world.join()


@_action
def _wait(world: "World") -> None:
    world.now += world.random.uniform(0, 10)
