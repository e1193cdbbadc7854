"""The same tests on the in-memory parts and on the real ones: a fake that lies would make the unit tests lie."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from consumer.core.errors import FencedError, Reason
from consumer.core.events import Partition, PartitionPosition, PartitionSlice, QuarantinedMessage
from consumer.core.mapping import audit_record
from consumer.kafka.source import KafkaSource, consumer_config
from consumer.kafka.topics import Topics
from consumer.postgres.connection import connect
from consumer.postgres.store import PostgresStore, Written
from tests.bed.events import ENCODER, FakeMessage, decoder, event
from tests.bed.fakes import MemorySource, MemoryStore
from tests.bed.kafka import KafkaBroker
from tests.bed.worker import wait_until

NOW = 1_795_478_400_000_000


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The fake, then the real one."""
    if request.param == "memory":
        yield MemoryStore()
        return
    url = request.getfixturevalue("database")
    real = PostgresStore(lambda: connect(url), lambda: NOW)
    yield real
    real.close()


def _part(partition: Partition, expected: int, *events: dict[str, Any], **counts: int) -> PartitionSlice:
    part = PartitionSlice(partition, "id", expected, expected + len(events) + sum(counts.values()), **counts)
    for number, each in enumerate(events):
        value = ENCODER.encode(each)
        part.rows.append((FakeMessage(value, expected + number), audit_record(decoder().decode(value), value)))
    return part


class TestStore:
    """What the worker relies on."""

    partition = Partition(f"topic-{uuid.uuid4().hex}", 3)

    def _open(self, store: Any, low: int = 0) -> int:
        positions = store.open_positions({self.partition: ("id", low)})
        assert positions.keys() == {self.partition}
        found: PartitionPosition = positions[self.partition]
        assert found.topic_id == "id"
        return found.next_offset

    def test_a_position_is_made_once(self, store: Any) -> None:
        """At the offset given; a later call finds it."""
        assert self._open(store, 7) == 7
        assert self._open(store, 9) == 7

    def test_a_write_moves_the_position(self, store: Any) -> None:
        """And says what it wrote."""
        self._open(store)
        assert store.write(store.prepare([_part(self.partition, 0, event(), event())])) == Written(2, 0, ())
        assert self._open(store) == 2

    def test_the_fence(self, store: Any) -> None:
        """A batch that does not begin at the position writes nothing; the same batch twice neither."""
        self._open(store)
        batch = store.prepare([_part(self.partition, 0, event())])
        store.write(batch)
        for wrong in (batch, store.prepare([_part(self.partition, 5, event())])):
            with pytest.raises(FencedError):
                store.write(wrong)
        assert self._open(store) == 1

    def test_duplicates_and_conflicts(self, store: Any) -> None:
        """Within a batch and over batches."""
        self._open(store)
        first = event()
        other = {**first, "tenant": "other"}
        assert store.write(store.prepare([_part(self.partition, 0, first, first, other)])) == Written(1, 1, (Reason.CONFLICT,))
        assert store.write(store.prepare([_part(self.partition, 3, other, first, event())])) == Written(1, 1, (Reason.CONFLICT,))
        assert store.write(store.prepare([_part(self.partition, 6, event())])) == Written(1, 0, ())

    def test_a_conflict_that_comes_twice_in_a_batch_is_two_conflicts(self, store: Any) -> None:
        """What becomes of a message does not depend on how messages are batched."""
        self._open(store)
        first = event()
        other = {**first, "tenant": "other"}
        store.write(store.prepare([_part(self.partition, 0, first)]))
        assert store.write(store.prepare([_part(self.partition, 1, other, other)])) == Written(0, 0, (Reason.CONFLICT, Reason.CONFLICT))

    def test_counts_without_rows(self, store: Any) -> None:
        """Tombstones, skipped and expired offsets, and quarantine."""
        self._open(store)
        part = _part(self.partition, 0, tombstones=1, skipped=2, expired=3)
        part.next_offset += 1
        part.quarantined.append(QuarantinedMessage(6, Reason.UNDECODABLE, "no Avro", None, b"\x00", [("a", None), ("b\x00", b"\xff")]))
        assert store.write(store.prepare([part])) == Written(0, 0, (Reason.UNDECODABLE,))
        assert self._open(store) == 7


class _RealSource:
    """A real source and a way to put messages into its topic."""

    def __init__(self, broker: KafkaBroker, topic: str, protocol: str) -> None:
        self.partition = Partition(topic, 0)
        config = consumer_config(broker.client, group_id=topic, group_protocol=protocol, session_timeout=6)
        self.source: Any = KafkaSource(config, Topics(broker.client, [topic]), lambda *_args, **_fields: None)
        producer = Producer(broker.client)
        for number in range(10):
            producer.produce(topic, str(number).encode())
        assert producer.flush(30) == 0


class _FakeSource:
    """The fake with the same messages."""

    def __init__(self) -> None:
        self.partition = Partition("topic", 0)
        self.source: Any = MemorySource({self.partition: [FakeMessage(str(number).encode(), number) for number in range(10)]})


@pytest.fixture(params=["memory", "classic", "consumer"])
def side(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The fake, then the real one with both group protocols."""
    if request.param == "memory":
        yield _FakeSource()
        return
    broker = request.getfixturevalue("kafka_broker")
    real = _RealSource(broker, request.getfixturevalue("new_topic")(1), request.param)
    yield real
    real.source.close()


class TestSource:
    """What the worker relies on."""

    @staticmethod
    def _assigned(side: Any) -> None:
        wait_until(lambda: side.source.consume(10, 0.1) == [] and side.partition in side.source.assigned, "the assignment")

    @staticmethod
    def _read(side: Any, count: int) -> list[bytes]:
        found: list[bytes] = []
        wait_until(lambda: found.extend(each.value() for each in side.source.consume(10, 0.1)) or len(found) >= count, f"{count} messages")
        return found

    def test_nothing_comes_before_a_partition_is_started(self, side: Any) -> None:
        """And then exactly from the offset that the worker names."""
        self._assigned(side)
        assert side.source.unsettled == {side.partition}
        assert side.source.consume(10, 0.3) == []
        side.source.start(side.partition, 7)
        assert side.source.unsettled == frozenset()
        assert self._read(side, 3) == [b"7", b"8", b"9"]
        wait_until(lambda: side.source.consume(10, 0.1) == [] and side.source.positions() == {side.partition: 10}, "the end")

    def test_unsettle_and_start_again(self, side: Any) -> None:
        """Reads again from anywhere."""
        self._assigned(side)
        side.source.start(side.partition, 5)
        assert self._read(side, 5)[0] == b"5"
        side.source.unsettle(side.partition)
        assert side.source.consume(10, 0.3) == []
        side.source.start(side.partition, 0)
        assert self._read(side, 10) == [str(number).encode() for number in range(10)]

    def test_held_means_nothing_comes(self, side: Any) -> None:
        """Also for a partition that is started meanwhile; then all of it comes."""
        self._assigned(side)
        side.source.hold()
        side.source.start(side.partition, 4)
        side.source.idle(0.3)
        assert side.source.consume(10, 0.3) == []
        side.source.resume()
        assert self._read(side, 6) == [b"4", b"5", b"6", b"7", b"8", b"9"]

    def test_ranges(self, side: Any) -> None:
        """First and last offset, and the same topic id as often as one asks."""
        self._assigned(side)
        found = side.source.ranges([side.partition])[side.partition]
        assert (found.low, found.high) == (0, 10)
        wait_until(lambda: side.source.topics.changed_ids() == {side.partition.topic: found.topic_id}, "the topic's id")


def test_a_refused_row_does_not_stand_in_the_way_of_a_good_one(database: str) -> None:
    """Unstorable twice, then a good event with the same id, in one batch: as if they had come one by one."""
    store = PostgresStore(lambda: connect(database), lambda: NOW)
    partition = Partition("topic", 0)
    store.open_positions({partition: ("id", 0)})
    good = event()
    bad = {**good, "tenant": "".join(uuid.uuid4().hex for _ in range(300))}
    outcome = store.write(store.prepare([_part(partition, 0, bad, bad, good, good)]))
    store.close()
    assert outcome == Written(1, 1, (Reason.UNSTORABLE, Reason.UNSTORABLE))
