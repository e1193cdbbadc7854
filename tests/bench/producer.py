"""Sends events at an even rate from a process of its own: `python -m tests.bench.producer BROKERS TOPIC RATE SECONDS LINGER PARTITIONS`.

It says `ready` once everything is prepared, begins when a line comes in, and ends with one JSON object about itself: how late it was.
An event's `occurred_at` is this process's clock at the moment of produce(); id and everything else is made before.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from confluent_kafka import Producer

from tests.bench.bed import Bed
from tests.bench.drain import TIED
from tests.bench.figures import percentile
from tests.bench.load import id_bytes, now_micros, templates, time_bytes

_TICK = 0.001
"""Seconds; at a higher rate than its reverse several events are sent at once."""
_PREPARED = 2_000_000
"""So many ids are made beforehand; of more, each when it is due."""


def linger_for(rate: float) -> float:
    """Milliseconds that the client waits for more: without, tiny requests saturate broker and client long before the worker."""
    return 10 if rate >= 10_000 else 5 if rate > 1_000 else 0


def main(brokers: str, topic: str, rate: float, seconds: float, linger: float, partitions: int) -> dict[str, Any]:
    """Prepares, waits for the word, sends."""
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": linger, "socket.nagle.disable": True, "log_level": 2})
    made = templates(5_000)
    count = int(rate * seconds)
    numbers = _ids(count, rate)
    ids = iter(list(numbers)) if count <= _PREPARED else numbers
    producer.list_topics(topic, timeout=30)
    gc.freeze()
    gc.disable()
    print("ready", flush=True)  # noqa: T201 - to whoever started this process
    sys.stdin.readline()
    began = now_micros()
    late = _send(producer, topic, made, ids, count, rate, partitions)
    ended = now_micros()
    left = producer.flush(60)
    late.sort()
    return {
        "sent": count - left,
        "began": began / 1e6,
        "ended": ended / 1e6,
        "late_p99_ms": percentile(late, 0.99) * 1000,
        "late_max_ms": late[-1] * 1000,
    }


def _ids(count: int, rate: float) -> Iterator[bytes]:
    random = Random()
    start = now_micros()
    for number in range(count):
        yield id_bytes(random, start + int(number / rate * 1e6))


def _send(
    producer: Producer, topic: str, made: Sequence[Any], ids: Iterator[bytes], count: int, rate: float, partitions: int
) -> list[float]:  # fmt: skip
    """Sends what is due, tick by tick; by how much each tick came too late."""
    produce, poll, clock = producer.produce, producer.poll, time.perf_counter
    late = []
    start = clock()
    number = 0
    while number < count:
        elapsed = clock() - start
        late.append(elapsed - number / rate)
        due = min(count, int(elapsed * rate) + 1)
        while number < due:
            template = made[number % len(made)]
            identity = next(ids)
            value = b"".join((template.head, identity, time_bytes(now_micros()), template.tail))
            produce(topic, value, template.key, number % partitions)
            number += 1
        poll(0)
        wait = start + number / rate - clock()
        if wait > 0:
            time.sleep(max(wait, _TICK))
    return late


@dataclass
class Producing:
    """A producer's process, from outside."""

    process: "subprocess.Popen[str]"

    def begin(self) -> None:
        """Gives the word."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    @property
    def over(self) -> bool:
        """Whether it has sent everything."""
        return self.process.poll() is not None

    def result(self) -> dict[str, Any]:
        """What it says of itself, once it has sent everything."""
        said, _ = self.process.communicate(timeout=600)
        if self.process.returncode:
            raise RuntimeError(f"the producer ended with {self.process.returncode}")
        result: dict[str, Any] = json.loads(said)
        return result


@contextmanager
def producing(
    bed: Bed, topic: str, rate: float, seconds: float, *, linger: float | None = None, partitions: int = 4
) -> Iterator[Producing]:  # fmt: skip
    """A producer that is prepared, and waits for the word."""
    lingering = linger_for(rate) if linger is None else linger
    words = [bed.kafka.bootstrap_servers, topic, rate, seconds, lingering, partitions]
    process = subprocess.Popen(
        [*TIED, sys.executable, "-m", "tests.bench.producer", *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the producer did not start")
        yield Producing(process)
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    _brokers, _topic, *_numbers, _partitions = sys.argv[1:]
    json.dump(main(_brokers, _topic, *map(float, _numbers), int(_partitions)), sys.stdout)
