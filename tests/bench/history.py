"""A log that already holds much: what an event costs when it comes to ten thousand rows, and when it comes to twenty million."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import partial
from itertools import pairwise
from typing import Any

import psycopg

from tests.bench import latency
from tests.bench.drain import drain
from tests.bench.limit import copy_rows
from tests.bench.load import Keyed, messages, now_micros, send
from tests.bench.pairs import Ground, summary

MONTHS = 24
_RATES = (1_000, 10_000)

# Ids as upstream systems make them (UUIDv7), rows as the worker writes them, evenly over the month.
_LOG = """
INSERT INTO audit.audit_log (event_id, occurred_at, tenant, level, service, login_name, module, action, result, error_code, complement,
    subject_type, source_ip, kafka_topic, kafka_partition, kafka_offset, content_hash, source_bytes)
SELECT (
        lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '7' || substr(noise, 1, 3) || 'a' || substr(noise, 4, 15)
    )::uuid,
    moment, ('{acme,globex,initech,hoshi-shoji}'::text[])[1 + number %% 4], 'Notice', 'Integrations',
    ('{sato,suzuki,tanaka,m.garcia,j.doe,nobody}'::text[])[1 + number %% 6], 'Integrations',
    ('{add oauth client,enable integration,update permitted users,delete API token}'::text[])[1 + number %% 4], 'SUCCESS', NULL,
    jsonb_build_object('name', 'Reporting', 'id', 'l.1.' || substr(noise, 1, 16)),
    'OAuth client', '192.0.2.7', 'history', number %% 4, number, sha256(int8send(number)), NULL
FROM (
    SELECT number, md5(number::text) AS noise,
        %(first)s + (%(last)s - %(first)s) * ((number - %(low)s::bigint) / %(count)s::bigint::float8) AS moment
    FROM generate_series(%(low)s::bigint, %(low)s::bigint + %(count)s::bigint - 1) AS number
) AS event"""

_LEDGER = """
INSERT INTO audit.event (event_id, occurred_at, content_hash)
SELECT event_id, occurred_at, content_hash FROM audit.audit_log
WHERE occurred_at >= %(first)s AND occurred_at < %(last)s AND kafka_topic = 'history' AND kafka_offset >= %(low)s::bigint
    AND kafka_offset < %(low)s::bigint + %(count)s::bigint"""


def months_back(today: date, count: int) -> list[tuple[datetime, datetime]]:
    """The beginning and the end of each of the last months, oldest first; the newest one ends with the day before today."""
    starts = [_month(today, number - count + 1) for number in range(count)]
    yesterday = datetime(today.year, today.month, today.day, tzinfo=UTC)
    return [*pairwise(starts), (starts[-1], max(yesterday, starts[-1].replace(hour=1)))]


def _month(day: date, by: int) -> datetime:
    years, month = divmod(day.year * 12 + day.month - 1 + by, 12)
    return datetime(years, month + 1, 1, tzinfo=UTC)


def fill(database: str, rows: int, *, first_number: int) -> float:
    """Adds so many rows, evenly over the months; seconds that it took. Two sessions, for that is how many cores there are."""
    began = time.perf_counter()
    spans = months_back(datetime.now(UTC).date(), MONTHS)
    each = rows // len(spans)

    def month(index: int) -> None:
        first, last = spans[index]
        values = {"first": first, "last": last, "low": first_number + index * each, "count": each}
        with psycopg.connect(database) as connection:
            connection.execute("SET LOCAL synchronous_commit = off")
            connection.execute("SET LOCAL timezone = 'UTC'")
            connection.execute("SELECT audit.ensure_month(%s)", (first.date(),))
            connection.execute(_LOG, values)
            connection.execute(_LEDGER, values)

    with ThreadPoolExecutor(2) as sessions:
        list(sessions.map(month, range(len(spans))))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) audit.event, audit.audit_log")
    return time.perf_counter() - began


def measure(ground: Ground, sizes: Sequence[int], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Drain and latency at each size of the log. What is drained stays, and is counted."""
    points = []
    seeds = iter(range(100, 1_000_000))
    with ground.bed.database() as database:
        filled = 0
        for size in sizes:
            took = fill(database, size - filled, first_number=filled)
            filled = size
            ground.say(f"  {size:,} rows, filled in {took:.0f} s")
            points.append({"rows": size, "fill_s": took, **_at_this_size(ground, database, seeds, rounds, seconds)})
    return points


def _at_this_size(ground: Ground, database: str, seeds: Iterator[int], rounds: int, seconds: float) -> dict[str, Any]:
    with psycopg.connect(database) as connection:
        stored = connection.execute("SELECT count(*) FROM audit.event").fetchone()
    ordered = _drained(ground, database, seeds, rounds, partial(messages, ground.events))
    scattered = _drained(ground, database, seeds, 1, partial(scattered_messages, ground.events))
    ground.say(f"  ratio {ordered['ratio']:.2f}, {ordered['cpu_us_per_event']:.1f} µs; ids without order {scattered['ratio']:.2f}")
    return {
        "stored": stored[0] if stored else None,
        "drain": ordered,
        "scattered_ids": scattered,
        "latency": latency.curve(ground.bed, database, _RATES, lambda _: seconds, ground.say),
    }


def _drained(
    ground: Ground, database: str, seeds: Iterator[int], rounds: int, make: Callable[..., Iterator[Keyed]]
) -> dict[str, Any]:  # fmt: skip
    limits, drains = [], []
    for _ in range(rounds):
        ground.bed.settle()
        limits.append(copy_rows(database, ground.rows.renewed(next(seeds))))
        topic = ground.bed.topic()
        send(ground.bed.kafka.client, topic, make(seed=next(seeds)))
        drained = drain(ground.bed, database, topic)
        if drained.events != ground.events:
            raise RuntimeError("not every event was drained")
        drains.append(drained)
    return summary(limits, drains)


def scattered_messages(count: int, *, seed: int) -> Iterator[Keyed]:
    """Events whose ids have no order (as UUIDv4 have none): each goes to another page of the ledger's index."""
    yield from messages(count, seed=seed, id_spread=2 * 365 * 24 * 3_600_000_000, last=now_micros())
