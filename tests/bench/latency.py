"""From produce() to the commit that makes the row visible, at an even rate.

Both ends are clocks of this machine: the producer's in `occurred_at`, the server's in the time of the row's transaction
(`track_commit_timestamp`). `recorded_at` would be too early: it is from before the commit, which waits for the disk.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg

from tests.bench.bed import Bed
from tests.bench.drain import Worker, workers
from tests.bench.figures import latencies
from tests.bench.producer import linger_for, producing

RATES = (10, 100, 1_000, 10_000, 20_000, 40_000)
_WARM = 10.0
"""Seconds at the start that do not count: a broker that has just begun is compiled while it works."""
_IN_TIME = 2.0
"""Seconds after the last event within which a worker that keeps up has written it."""

_TIMES = """
SELECT extract(epoch FROM occurred_at)::float8, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8
FROM audit.audit_log WHERE occurred_at >= to_timestamp(%s) AND kafka_topic = %s"""


def event_times(database: str, topic: str, since: float) -> list[tuple[float, float]]:
    """Time of the event and time of its commit, in seconds since 1970, for each row of a topic since a time."""
    with psycopg.connect(database) as connection, connection.cursor(binary=True) as cursor:
        return cursor.execute(_TIMES, (since, topic)).fetchall()


def wait_for_start(database: str, topic: str, partitions: int = 4) -> None:
    """Waits until a worker has taken over every partition of the topic."""
    question = "SELECT count(*) FROM audit.consumer_position WHERE kafka_topic = %s"
    deadline = time.monotonic() + 60
    with psycopg.connect(database, autocommit=True) as connection:
        while connection.execute(question, (topic,)).fetchone() != (partitions,):
            if time.monotonic() > deadline:
                raise RuntimeError("the worker did not start")
            time.sleep(0.05)


def measure(bed: Bed, database: str, rate: float, seconds: float, **settings: Any) -> dict[str, Any]:
    """The latencies at one rate."""
    topic = bed.topic()
    bed.settle()
    with workers(bed.environment(database, topic, **settings)) as crew, producing(bed, topic, rate, seconds + _WARM) as producer:
        wait_for_start(database, topic)
        crew[0].look()
        cpu = crew[0].cpu
        producer.begin()
        while not producer.over:
            crew[0].look()
            time.sleep(0.25)
        sent = producer.result()
        cpu = crew[0].cpu - cpu
        on_time = _wait_until_written(database, topic, crew, sent)
        rows = event_times(database, topic, sent["began"] + _WARM)
        return {
            "rate": rate,
            "linger_ms": linger_for(rate),
            **latencies([committed - occurred for occurred, committed in rows]),
            "sustained": on_time,
            "producer": sent,
            "sent_per_s": sent["sent"] / (sent["ended"] - sent["began"]),
            "cpu_share": cpu / (sent["ended"] - sent["began"]),
            "peak_mb": crew[0].peak_mb,
        }


def _wait_until_written(database: str, topic: str, crew: Sequence[Worker], sent: Mapping[str, Any]) -> bool:
    """Waits for the last event; whether it came in time."""
    question = "SELECT sum(next_offset - first_offset) FROM audit.consumer_position WHERE kafka_topic = %s"
    deadline = time.time() + 300
    with psycopg.connect(database, autocommit=True) as connection:
        while connection.execute(question, (topic,)).fetchone() != (sent["sent"],):
            if crew[0].over or time.time() > deadline:
                raise RuntimeError("the worker did not write everything")
            time.sleep(0.02)
    return time.time() - sent["ended"] < _IN_TIME


def curve(
    bed: Bed, database: str, rates: Sequence[float], seconds: Callable[[float], float], say: Callable[[str], None]
) -> list[dict[str, Any]]:  # fmt: skip
    """The latencies at several rates, one after the other."""
    points = []
    for rate in rates:
        point = measure(bed, database, rate, seconds(rate))
        say(f"  {rate:,.0f}/s: " + ", ".join(f"{name} {point[name]}" for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms", "sustained")))
        points.append(point)
    return points
