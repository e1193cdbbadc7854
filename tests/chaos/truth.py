"""What the topic holds, read once at the end by a plain consumer, and what the database says of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from psycopg.rows import dict_row

Place = tuple[int, int]
"""Partition and offset."""

BOOKS = ("written", "duplicates", "quarantined", "tombstones", "skipped", "expired")


class TopicMessage(NamedTuple):
    """A message that a reader of committed messages gets."""

    key: bytes | None
    value: bytes | None


@dataclass
class Topic:
    """The topic as it was delivered."""

    messages: dict[Place, TopicMessage] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)


@dataclass
class Database:
    """What the workers made of it; `integration-audit`'s tables."""

    log: list[dict[str, Any]]
    ledger: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]
    positions: list[dict[str, Any]]
    gaps: list[dict[str, Any]]


def end_offsets(client: Mapping[str, Any], topic: str, partitions: int) -> dict[int, int]:
    """Where each partition ends for a reader of committed messages, once no transaction is open."""
    places = [TopicPartition(topic, number) for number in range(partitions)]

    def ask(admin: AdminClient, level: IsolationLevel) -> dict[int, int]:
        wanted = {place: OffsetSpec.latest() for place in places}  # type: ignore[no-untyped-call]
        asked = admin.list_offsets(wanted, isolation_level=level, request_timeout=10)
        return {place.partition: future.result(15).offset for place, future in asked.items()}

    deadline = time.monotonic() + 60
    while True:
        # A new client each time: one that listed the topics while the broker was starting keeps the old leaders' epoch for minutes, and is
        # answered FENCED_LEADER_EPOCH.
        admin = AdminClient(dict(client))
        try:
            stable, ends = ask(admin, IsolationLevel.READ_COMMITTED), ask(admin, IsolationLevel.READ_UNCOMMITTED)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
        else:
            if stable == ends:
                return stable
            assert time.monotonic() < deadline, "a transaction stays open"
        time.sleep(0.2)


def read_topic(client: Mapping[str, Any], topic: str, ends: Mapping[int, int]) -> Topic:
    """Every committed message below the ends."""
    found = Topic(ends=dict(ends))
    consumer = Consumer(
        {
            **client,
            "group.id": f"truth-{topic}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
    )
    try:
        places = [TopicPartition(topic, number, 0) for number in ends]
        consumer.assign(places)
        deadline = time.monotonic() + 120
        # The position passes what is no message: markers, and what was aborted.
        while any(at.offset < ends[at.partition] for at in consumer.position(places)):
            assert time.monotonic() < deadline, "the topic could not be read to its end"
            for message in consumer.consume(1_000, 0.5):
                if message.error() is not None:
                    raise KafkaException(message.error())
                partition, offset = message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                found.messages[partition, offset] = TopicMessage(message.key(), message.value())
    finally:
        consumer.close()
    return found


def read_database(url: str) -> Database:
    """All tables, in one snapshot."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        log, ledger, quarantine, positions, gaps = (
            connection.execute(f"SELECT * FROM audit.{table}").fetchall()
            for table in ("audit_log", "event", "quarantine", "consumer_position", "source_gap")
        )
    return Database(log, ledger, quarantine, positions, gaps)
