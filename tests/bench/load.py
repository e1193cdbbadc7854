"""The events of a benchmark: realistic, each with an id of its own, and encoded beforehand, so that sending costs little.

An event's id and time stand at fixed places of its bytes. So the encoder makes some thousand templates, the ten actions in turn, and an
event is a template with another id and another time.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

from confluent_kafka import Producer

from consumer.core.samples import sample_events
from tests.bed.events import ENCODER

_ID = slice(11, 47)  # after the framing and the length of the text
_TIME = slice(47, 55)  # the varint of any time from 1988 to 3100
_LOW, _HIGH = 0x3FFF, 14
_PAIRS = [bytes((0x80 | low & 0x7F, 0x80 | low >> 7)) for low in range(_LOW + 1)]
_LAST_PAIRS = [bytes((0x80 | low & 0x7F, low >> 7)) for low in range(_LOW + 1)]

Keyed = tuple[bytes, bytes | None]
"""Key and value of a message."""


class Template(NamedTuple):
    """What stays of an event when its id and its time are taken away."""

    key: bytes
    head: bytes
    tail: bytes


def templates(count: int = 20_000, *, seed: int = 1) -> list[Template]:
    """Templates of realistic events, each of the ten actions in its turn."""
    made = []
    for event in sample_events(count, seed=seed, now=now_micros()):
        value = ENCODER.encode(event)
        made.append(Template(event["tenant"].encode(), value[: _ID.start], value[_TIME.stop :]))
    return made


def now_micros() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def time_bytes(micros: int) -> bytes:
    """A time as Avro writes it, in few steps: this is done for each event while its latency runs."""
    doubled = micros << 1
    return b"".join(
        (
            _PAIRS[doubled & _LOW],
            _PAIRS[doubled >> _HIGH & _LOW],
            _PAIRS[doubled >> 2 * _HIGH & _LOW],
            _LAST_PAIRS[doubled >> 3 * _HIGH],
        )
    )


def id_bytes(random: Random, micros: int) -> bytes:
    """The text of a UUIDv7 made at a time."""
    noise = random.getrandbits(74)
    millis = f"{micros // 1000:012x}"
    return (
        f"{millis[:8]}-{millis[8:]}-7{noise & 0xFFF:03x}-{0x8000 | noise >> 12 & 0x3FFF:04x}-{noise >> 26:012x}"
    ).encode()  # fmt: skip


def messages(count: int, *, seed: int, every: int = 3_000, last: int | None = None, id_spread: int = 0) -> Iterator[Keyed]:
    """Events, one every so many microseconds, the last one at a time (now, where none is given).

    `id_spread`: their ids are made as if at random times in so many microseconds before; 0: at the event's own time.
    """
    random = Random(seed)
    made = templates(min(count, 20_000))
    first = (last or now_micros()) - count * every
    for number in range(count):
        template = made[number % len(made)]
        moment = first + number * every
        made_at = moment - int(random.random() * id_spread)
        yield template.key, b"".join((template.head, id_bytes(random, made_at), time_bytes(moment), template.tail))


def send(client: Mapping[str, Any], topic: str, several: Iterable[Keyed], *, partitions: int = 4) -> int:
    """Sends messages to the partitions in turn, and waits until the broker has them; how many they were."""
    producer = Producer({**client, "linger.ms": 50, "queue.buffering.max.kbytes": 262_144})
    number = 0
    for number, (key, value) in enumerate(several, start=1):
        while True:
            try:
                producer.produce(topic, value, key=key, partition=number % partitions)  # type: ignore[arg-type] # None is a tombstone
            except BufferError:
                producer.poll(0.1)
                continue
            break
        if number % 1000 == 0:
            producer.poll(0)
    if producer.flush(120):
        raise RuntimeError("the broker did not take the messages")
    return number
