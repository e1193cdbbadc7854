"""The same tests on the in-memory parts and on the real ones: a fake that lies would make the unit tests lie."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from consumer.core.errors import FencedError, Reason, TransientError
from consumer.core.events import Partition, PartitionPosition, PartitionSlice, QuarantinedMessage
from consumer.core.mapping import audit_record
from consumer.postgres.connection import connect
from consumer.postgres.store import PostgresStore, Written
from tests.bed.events import ENCODER, FakeMessage, decoder, event
from tests.bed.fakes import MemoryStore
from tests.bed.sides import FakeSide, KafkaSide, ModelSide, ModelStoreSide, PostgresSide
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
        assert store.write(store.prepare([_part(self.partition, 0, first, first, other)])) == Written(
            1, 1, ((self.partition.topic, Reason.CONFLICT),)
        )
        assert store.write(store.prepare([_part(self.partition, 3, other, first, event())])) == Written(
            1, 1, ((self.partition.topic, Reason.CONFLICT),)
        )
        assert store.write(store.prepare([_part(self.partition, 6, event())])) == Written(1, 0, ())

    def test_a_conflict_that_comes_twice_in_a_batch_is_two_conflicts(self, store: Any) -> None:
        """What becomes of a message does not depend on how messages are batched."""
        self._open(store)
        first = event()
        other = {**first, "tenant": "other"}
        store.write(store.prepare([_part(self.partition, 0, first)]))
        assert store.write(store.prepare([_part(self.partition, 1, other, other)])) == Written(
            0, 0, ((self.partition.topic, Reason.CONFLICT),) * 2
        )

    def test_counts_without_rows(self, store: Any) -> None:
        """Tombstones, skipped and expired offsets, and quarantine."""
        self._open(store)
        part = _part(self.partition, 0, tombstones=1, skipped=2, expired=3)
        part.next_offset += 1
        part.quarantined.append(QuarantinedMessage(6, Reason.UNDECODABLE, "no Avro", None, b"\x00", [("a", None), ("b\x00", b"\xff")]))
        assert store.write(store.prepare([part])) == Written(0, 0, ((self.partition.topic, Reason.UNDECODABLE),))
        assert self._open(store) == 7


@pytest.fixture(params=["memory", "model", "classic", "consumer"])
def side(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The fake source, the simulator's, then the real one with both group protocols."""
    yield from _side(request)


@pytest.fixture(params=["model", "classic", "consumer"])
def faulty(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Those to which more can happen."""
    yield from _side(request)


def _side(request: pytest.FixtureRequest) -> Iterator[Any]:
    side: FakeSide | ModelSide | KafkaSide
    if request.param == "memory":
        side = FakeSide()
    elif request.param == "model":
        side = ModelSide()
    else:
        asked = (request.getfixturevalue(name) for name in ("kafka_broker", "kafka_proxy", "new_topic"))
        broker, proxy, new_topic = asked
        side = KafkaSide(broker, proxy, new_topic(1), request.param)
    yield side
    side.close()


def _assigned(side: Any) -> None:
    wait_until(lambda: side.source.consume(10, 0.1) == [] and side.partition in side.source.assigned, "the assignment")


def _read(side: Any, count: int) -> list[bytes]:
    found: list[bytes] = []
    wait_until(lambda: found.extend(each.value() for each in side.source.consume(10, 0.1)) or len(found) >= count, f"{count} messages")
    return found


class TestSource:
    """What the worker relies on."""

    def test_nothing_comes_before_a_partition_is_started(self, side: Any) -> None:
        """And then exactly from the offset that the worker names."""
        _assigned(side)
        assert side.source.unsettled == {side.partition}
        assert side.source.consume(10, 0.3) == []
        side.source.start(side.partition, 7)
        assert side.source.unsettled == frozenset()
        assert _read(side, 3) == [b"7", b"8", b"9"]
        wait_until(lambda: side.source.consume(10, 0.1) == [] and side.source.positions() == {side.partition: 10}, "the end")

    def test_unsettle_and_start_again(self, side: Any) -> None:
        """Reads again from anywhere."""
        _assigned(side)
        side.source.start(side.partition, 5)
        assert _read(side, 5)[0] == b"5"
        side.source.unsettle(side.partition)
        assert side.source.consume(10, 0.3) == []
        side.source.start(side.partition, 0)
        assert _read(side, 10) == [str(number).encode() for number in range(10)]

    def test_held_means_nothing_comes(self, side: Any) -> None:
        """Also for a partition that is started meanwhile; then all of it comes."""
        _assigned(side)
        side.source.hold()
        side.source.start(side.partition, 4)
        side.source.idle(0.3)
        assert side.source.consume(10, 0.3) == []
        side.source.resume()
        assert _read(side, 6) == [b"4", b"5", b"6", b"7", b"8", b"9"]

    def test_ranges(self, side: Any) -> None:
        """First and last offset, and the same topic id as often as one asks."""
        _assigned(side)
        found = side.source.ranges([side.partition])[side.partition]
        assert (found.low, found.high) == (0, 10)
        wait_until(lambda: side.source.topics.changed_ids() == {side.partition.topic: found.topic_id}, "the topic's id")

    def test_a_place_that_the_partition_does_not_have(self, side: Any) -> None:
        """Beyond the end: the client says that it lost its offset, and waits for another."""
        _assigned(side)
        side.source.start(side.partition, 15)
        wait_until(lambda: side.source.consume(10, 0.1) == [] and side.source.unsettled == {side.partition}, "the lost offset")
        side.source.start(side.partition, 8)
        assert _read(side, 2) == [b"8", b"9"]


class TestSourceFaults:
    """What the simulator does to its members."""

    def test_retention(self, faulty: Any) -> None:
        """What is removed is not jumped over: the worker must say where to go on."""
        _assigned(faulty)
        faulty.retain(5)
        assert faulty.source.ranges([faulty.partition])[faulty.partition].low == 5
        faulty.source.start(faulty.partition, 2)
        wait_until(lambda: faulty.source.consume(10, 0.1) == [] and faulty.source.unsettled == {faulty.partition}, "the lost offset")
        faulty.source.start(faulty.partition, 5)
        assert _read(faulty, 5)[0] == b"5"

    def test_transactions_leave_gaps(self, faulty: Any) -> None:
        """Aborted messages are not delivered; the position passes the markers; an open transaction is the end."""
        _assigned(faulty)
        faulty.transaction(2, commit=True)
        faulty.transaction(3, commit=False)
        faulty.source.start(faulty.partition, 10)
        assert _read(faulty, 2) == [b"0", b"1"]
        end = 10 + 3 + 4
        wait_until(lambda: faulty.source.consume(10, 0.1) == [] and faulty.source.positions() == {faulty.partition: end}, "the markers")
        faulty.transaction(2, commit=None)
        assert faulty.source.ranges([faulty.partition])[faulty.partition].high == end
        assert faulty.source.consume(10, 0.3) == []

    def test_a_topic_made_anew(self, faulty: Any) -> None:
        """Has another id, and begins where the worker says."""
        _assigned(faulty)
        faulty.source.start(faulty.partition, 0)
        _read(faulty, 10)
        before = faulty.source.ranges([faulty.partition])[faulty.partition].topic_id
        faulty.remake(12)
        after = faulty.source.ranges([faulty.partition])[faulty.partition]
        assert (after.low, after.high) == (0, 12)
        assert after.topic_id != before
        wait_until(lambda: faulty.source.topics.changed_ids() == {faulty.partition.topic: after.topic_id}, "the new id")

        def again() -> bool:
            faulty.source.start(faulty.partition, 0)
            return [each.value() for each in faulty.source.consume(1, 0.5)] == [b"0"]

        wait_until(again, "the first message")

    def test_an_outage_ends_without_a_message(self, faulty: Any) -> None:
        """Trouble is said, and is over once the brokers have answered anything."""
        _assigned(faulty)
        with faulty.outage():
            wait_until(lambda: faulty.source.consume(1, 0.1) == [] and faulty.source.trouble, "the trouble")
            with pytest.raises(TransientError):
                faulty.source.ranges([faulty.partition])
            assert faulty.source.trouble
        wait_until(lambda: (faulty.source.consume(1, 0.1), faulty.source.topics.changed_ids()) and not faulty.source.trouble, "the end")

    def test_reopened(self, faulty: Any) -> None:
        """A new client gets the partition again, and knows nothing of where it stood."""
        _assigned(faulty)
        faulty.source.start(faulty.partition, 4)
        faulty.source.reopen()
        assert faulty.source.assigned == frozenset()
        _assigned(faulty)
        assert faulty.source.unsettled == {faulty.partition}

    def test_before_partitions_go_the_worker_is_asked(self, faulty: Any) -> None:
        """In the revoke, while they are still ours; not at all when there are none."""
        asked = []
        faulty.source.before_revoke = lambda: asked.append(faulty.source.assigned)
        _assigned(faulty)
        faulty.source.reopen()
        assert asked == [{faulty.partition}]


@pytest.fixture(params=["model", "postgres"])
def database_side(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The simulator's database, then the real one."""
    side: ModelStoreSide | PostgresSide
    if request.param == "model":
        side = ModelStoreSide()
    else:
        server = request.getfixturevalue("postgres")
        side = PostgresSide(request.getfixturevalue("database"), server.port)
    yield side
    side.close()


class TestStoreFaults:
    """What the simulator does to its sessions."""

    partition = Partition("topic", 0)

    @staticmethod
    def _done(store: Any) -> Any:
        wait_until(lambda: store.wait(0.2), "the call's end")
        return store.result()

    def _write(self, store: Any, batch: Any) -> Any:
        store.start_write(batch)
        return self._done(store)

    def _position(self, store: Any) -> int:
        store.start_open({self.partition: ("id", 0)})
        position: PartitionPosition = self._done(store)[self.partition]
        return position.next_offset

    def _batch(self, store: Any) -> Any:
        assert self._position(store) == 0
        return store.prepare([_part(self.partition, 0, event(), event())])

    def test_a_lost_answer(self, database_side: Any) -> None:
        """The write is done; the same batch again is fenced."""
        store = database_side.store
        batch = self._batch(store)
        database_side.lose_answer(batch)
        with pytest.raises(TransientError):
            self._done(store)
        with pytest.raises(FencedError):
            self._write(store, batch)
        assert self._position(store) == 2

    def test_a_lost_commit(self, database_side: Any) -> None:
        """Nothing is done; the same batch again is written."""
        store = database_side.store
        batch = self._batch(store)
        database_side.lose_commit(batch)
        with pytest.raises(TransientError):
            self._done(store)
        assert self._position(store) == 0
        assert self._write(store, batch) == Written(2, 0, ())

    def test_the_lock_of_a_frozen_worker_is_broken(self, database_side: Any) -> None:
        """After the lock's time-out, and then the same batch is written."""
        store = database_side.store
        batch = self._batch(store)
        with database_side.locked(self.partition, "id"):
            with pytest.raises(TransientError):
                self._write(store, batch)
            assert self._write(store, batch) == Written(2, 0, ())


def test_a_refused_row_does_not_stand_in_the_way_of_a_good_one(database: str) -> None:
    """Unstorable twice, then a good event with the same id, in one batch: as if they had come one by one."""
    store = PostgresStore(lambda: connect(database), lambda: NOW)
    partition = Partition("topic", 0)
    store.open_positions({partition: ("id", 0)})
    good = event()
    bad = {**good, "tenant": "".join(uuid.uuid4().hex for _ in range(300))}
    outcome = store.write(store.prepare([_part(partition, 0, bad, bad, good, good)]))
    store.close()
    assert outcome == Written(1, 1, (("topic", Reason.UNSTORABLE),) * 2)
