"""The same drain with other input, other settings, more workers, more partitions."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random
from statistics import median
from typing import Any

from consumer.core.samples import sample_events
from tests.bed.events import ENCODER
from tests.bench.drain import Drained, drain
from tests.bench.load import Keyed, messages, now_micros, send
from tests.bench.pairs import Ground, summary

_RARE = 10_000
"""One message in so many is poison."""
BATCHES = (100, 500, 1_000, 2_000, 5_000, 10_000)
WORKERS = (1, 2, 4)
PARTITIONS = (1, 16, 256)


def _side_by_side(ground: Ground, variants: Mapping[str, Callable[[], Drained]], rounds: int) -> dict[str, Any]:
    """Each round measures every variant, a limit before each; `of_first` compares with the first variant of the same round."""
    limits: dict[str, list[float]] = {name: [] for name in variants}
    drains: dict[str, list[Drained]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            limits[name].append(ground.limit())
            drains[name].append(measure())
            ground.say(f"  {name}: {drains[name][-1].events_per_s:,.0f} of {limits[name][-1]:,.0f} a second")
    results = {name: summary(limits[name], drains[name]) for name in variants}
    first = next(iter(results.values()))["ratios"]
    for each in results.values():
        each["of_first"] = median(ratio / base for ratio, base in zip(each["ratios"], first, strict=True))
    return results


def inputs(ground: Ground, rounds: int) -> dict[str, Any]:
    """Duplicates and poison."""
    cut = _poisoned_topic(ground, lambda value: value[:-1])
    refused = _unstorable()
    unstorable = _poisoned_topic(ground, lambda _: next(refused))
    results = _side_by_side(
        ground,
        {
            "all new": ground.drain,
            "10 % duplicates": partial(ground.drain, known=10),
            "all duplicates": partial(ground.drain, known=100),
            "1 in 10,000 undecodable": partial(ground.drain, cut),
            "1 in 10,000 unstorable": partial(ground.drain, unstorable),
        },
        rounds,
    )
    # A measurement of something else would be worse than none.
    poison = -(-ground.events // _RARE)
    for name, duplicates, quarantined in (
        ("all new", 0, 0),
        ("10 % duplicates", ground.events // 10, 0),
        ("all duplicates", ground.events, 0),
        ("1 in 10,000 undecodable", 0, poison),
        ("1 in 10,000 unstorable", 0, poison),
    ):
        expected = {"written": ground.events - duplicates - quarantined, "duplicates": duplicates, "quarantined": quarantined}
        for each in results[name]["drains"]:
            if each["books"] != expected:
                raise RuntimeError(f"{name}: the books say {each['books']}, and not {expected}")
    return results


def _poisoned_topic(ground: Ground, poison: Callable[[bytes], bytes]) -> str:
    def poisoned() -> Iterator[Keyed]:
        for number, (key, value) in enumerate(messages(ground.events, seed=2)):
            yield key, poison(value or b"") if number % _RARE == 0 else value

    topic = ground.bed.topic()
    send(ground.bed.kafka.client, topic, poisoned())
    return topic


def _unstorable() -> Iterator[bytes]:
    """Events whose tenant no index takes: too long, and not to be compressed."""
    random = Random(3)
    for event in sample_events(1_000_000, seed=3, now=now_micros()):
        yield ENCODER.encode({**event, "tenant": random.randbytes(4_000).hex()})


def batches(ground: Ground, rounds: int) -> dict[str, Any]:
    """Other sizes of a batch. The limit is always that of the usual size."""
    return _side_by_side(ground, {str(size): partial(ground.drain, AUDIT_BATCH_MAX_MESSAGES=size) for size in BATCHES}, rounds)


def crews(ground: Ground, rounds: int) -> dict[str, Any]:
    """More workers, all on this machine, on the four partitions."""
    return _side_by_side(ground, {str(count): partial(ground.drain, count=count) for count in WORKERS}, rounds)


def partitions(ground: Ground, rounds: int) -> dict[str, Any]:
    """Other numbers of partitions: each costs the client memory."""
    topics = {}
    for number in PARTITIONS:
        topic = ground.bed.topic(number)
        send(ground.bed.kafka.client, topic, messages(ground.events, seed=4 + number), partitions=number)
        topics[str(number)] = topic
    return _side_by_side(ground, {name: partial(ground.drain, topic) for name, topic in topics.items()}, rounds)


def large_messages(ground: Ground) -> dict[str, Any]:
    """A backlog of the largest messages that are allowed: peak memory."""
    size = 1_048_576

    def filled() -> Iterator[Keyed]:
        room = size - 1_024  # for what else is in an event
        for each in sample_events(200, seed=5, now=now_micros()):
            change = {"type": "OAuthClientAdded", "client_name": "x" * room, "client_id": "c-1"}
            yield b"large", ENCODER.encode({**each, "change": change})

    topic = ground.bed.topic(max_message_bytes=str(2 * size))
    send({**ground.bed.kafka.client, "message.max.bytes": 2 * size}, topic, filled())
    with ground.bed.database() as database:
        drained = drain(ground.bed, database, topic)
    if drained.books["written"] != drained.events:
        raise RuntimeError(f"not every large message was written: {drained.books}")
    ground.say(f"  200 messages of 1 MiB: {drained.peak_mb:.0f} MB, {drained.books}")
    return {"messages": 200, "bytes": size, "peak_mb": drained.peak_mb, "books": drained.books}
