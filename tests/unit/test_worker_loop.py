"""The worker's loop, driven turn by turn over in-memory parts."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from consumer.core.breaker import Breaker
from consumer.core.decoding import Decoder
from consumer.core.errors import Cause, ConfigurationError, FencedError, SourceFailedError, TransientError
from consumer.core.events import Partition, PartitionSlice
from consumer.core.intake import Intake
from consumer.core.learning import Learning
from consumer.core.pause import Backoff
from consumer.core.ports import Standing
from consumer.schemas import event_schema
from consumer.worker import Worker
from tests.bed.events import FakeMessage, message_value
from tests.bed.fakes import MemorySource, MemoryStore
from tests.bed.memory_registry import MemoryRegistry

NOW = 1_795_478_400_000_000
P0, P1 = Partition("topic", 0), Partition("topic", 1)


class Ear:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.not_ready: Sequence[str] = ()

    def event(self, name: str, **_fields: Any) -> None:
        """As Observer."""
        self.names.append(name)

    def batch_written(self, slices: Sequence[PartitionSlice], written: Any, seconds: float) -> None:
        """As Observer."""

    def batch_decoded(self, slices: Sequence[PartitionSlice], seconds: float) -> None:
        """As Observer."""

    def beat(self, standing: Standing) -> None:
        """As Observer."""
        self.standing = standing
        self.not_ready = standing.not_ready


class Clock:
    """Seconds that pass only when somebody looks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """A tenth of a second later."""
        self.seconds += 0.1
        return self.seconds


class Rig:
    """A worker between fakes."""

    def __init__(self, *, batch: int = 3, messages: int = 10) -> None:
        self.registry = MemoryRegistry()
        self.ear = Ear()
        self.source = MemorySource({each: [_message(each, offset) for offset in range(messages)] for each in (P0, P1)})
        self.store = MemoryStore()
        self.worker = self.another(self.source, self.store, batch)

    def another(self, source: MemorySource, store: MemoryStore, batch: int = 3) -> Worker:
        """A worker between these parts."""
        decoding = Decoder(event_schema(), [], 1_048_576, with_registry=True)
        clock = Clock()
        pauses = Backoff(lambda: 0.5)
        learning = Learning(decoding, self.registry, monotonic=clock, backoff=pauses, report=self.ear.event)
        intake = Intake(source, decoding, retention=timedelta(days=1096), most=batch, now=lambda: NOW, monotonic=clock, learning=learning)
        return Worker(source, store, intake, breaker=Breaker(10, 0.8), monotonic=clock, backoff=Backoff(lambda: 0.5), observer=self.ear)

    def run(self, turns: int = 200) -> None:
        """So many turns."""
        for _ in range(turns):
            self.worker.run_once()

    def assert_complete(self, written: int = 20, **others: int) -> None:
        """Every offset is accounted for, every event is there once."""
        expected = {**dict.fromkeys(self.store.books, 0), "written": written, **others}
        assert self.store.books == expected
        assert len(self.store.log) == written
        assert sum(self.store.positions.values()) == sum(expected.values())
        assert self.source.committed == self.worker.written


def _message(partition: Partition, offset: int) -> FakeMessage:
    return FakeMessage(message_value(), offset, topic=partition.topic, partition=partition.number)


def test_everything_is_written_once() -> None:
    """Without any fault."""
    rig = Rig()
    rig.run()
    rig.assert_complete()
    assert rig.ear.not_ready == []


@pytest.mark.parametrize("failure", [TransientError("down"), ConfigurationError("no right"), FencedError()])
@pytest.mark.parametrize("turn", range(8))
def test_a_failing_store_loses_nothing(failure: Exception, turn: int) -> None:
    """Whenever it fails."""
    rig = Rig()
    rig.run(turn)
    rig.store.failures = [failure, failure]
    rig.run()
    rig.assert_complete()


@pytest.mark.parametrize("turn", range(8))
def test_a_lost_commit_answer_writes_nothing_twice(turn: int) -> None:
    """The same batch is tried again, fenced, and the positions are read anew."""
    rig = Rig()
    rig.run(turn)
    rig.store.lost_answers = 2
    rig.run()
    rig.assert_complete()
    assert "fenced" in rig.ear.names


@pytest.mark.parametrize("turn", range(8))
def test_a_failed_client_is_rebuilt_from_the_positions(turn: int) -> None:
    """Fault 1: whatever the client dropped is read again."""
    rig = Rig()
    rig.run(turn)
    rig.source.failures = [SourceFailedError("a callback failed")]
    rig.run()
    rig.assert_complete()
    assert rig.source.reopened == 1


def test_held_while_the_database_is_down() -> None:
    """Not ready, with the reason; nothing more is consumed; ready again by itself."""
    rig = Rig()
    rig.run(3)
    rig.store.failures = [TransientError("PostgreSQL: down")] * 5
    rig.run(4)
    assert rig.source.held
    assert rig.ear.not_ready == ["PostgreSQL: down"]
    assert rig.ear.standing.held == {Cause.DATABASE}
    rig.run()
    assert not rig.source.held
    rig.assert_complete()


def test_an_idle_worker_notices_that_the_database_is_down() -> None:
    """Not ready, though there is nothing to write; and ready again."""
    rig = Rig()
    rig.run()
    rig.store.failures = [TransientError("PostgreSQL: down")] * 3
    rig.run(30)
    assert rig.store.failures == []
    assert "held" in rig.ear.names
    rig.run()
    assert rig.ear.not_ready == []
    rig.assert_complete()


def test_a_worker_without_partitions_looks_too() -> None:
    """It notices that the database is down, and what it shows of the log does not grow old."""
    rig = Rig()
    rig.source.lose(*rig.source.assigned)
    rig.store.failures = [TransientError("PostgreSQL: down")] * 3
    rig.run(100)
    assert rig.store.failures == []
    assert rig.ear.names.count("held") == 1
    rig.run()
    assert rig.ear.not_ready == ["no partition is assigned"]


@pytest.mark.parametrize("restored", [{}, {(P0, "id"): 4}])
def test_an_idle_worker_notices_a_restored_database(restored: dict[tuple[Partition, str], int]) -> None:
    """It reads again what the restore lost, though no message comes."""
    rig = Rig()
    rig.run()
    database = rig.store.database
    database.log, database.known, database.positions = database.log[:0], {}, dict(restored)
    rig.run(300)
    assert "position changed" in rig.ear.names
    assert rig.store.positions == {(P0, "id"): 10, (P1, "id"): 10}
    assert len(rig.store.log) == 20 - sum(restored.values())


def test_two_workers_with_the_same_partitions_write_once() -> None:
    """A zombie and its successor take turns: the fence lets each event in once."""
    rig = Rig(messages=30)
    other_source = MemorySource(rig.source.logs)
    other = rig.another(other_source, rig.store.session())
    for turn in range(300):
        (rig.worker if turn % 3 else other).run_once()
    assert len(rig.store.log) == 60
    assert rig.store.books["written"] == 60
    assert sum(rig.store.books.values()) == 60


def test_partitions_come_and_go() -> None:
    """A lost partition is dropped, and read from its position when it comes back."""
    rig = Rig()
    for turn in range(60):
        if turn % 7 == 3:
            rig.source.lose(P1)
        if turn % 7 == 6:
            rig.source.assign(P1)
        rig.worker.run_once()
    rig.source.assign(P1)
    rig.run()
    rig.assert_complete()


def test_offsets_without_messages_are_skipped_and_expired_ones_are_a_gap() -> None:
    """In the middle, at the end, and before the beginning."""
    rig = Rig()
    for offset in (2, 3, 8, 9):
        rig.source.logs[P0][offset] = None
    rig.source.low[P1] = 4
    rig.store.positions[P1, "id"] = 1
    rig.source.logs[P1][:4] = [None] * 4
    rig.run()
    assert rig.store.books == {"written": 12, "duplicates": 0, "quarantined": 0, "tombstones": 0, "skipped": 4, "expired": 3}
    assert rig.store.positions == {(P0, "id"): 10, (P1, "id"): 10}
    assert "offsets expired" in rig.ear.names


def test_a_topic_made_anew_begins_at_its_beginning() -> None:
    """Under a position of its own, though the client goes on in the middle."""
    rig = Rig()
    rig.run()
    rig.source.logs = {each: [_message(each, offset) for offset in range(15)] for each in (P0, P1)}
    rig.source.topic_id = "other"
    rig.run()
    assert len(rig.store.log) == 20 + 30
    assert rig.store.positions[P0, "other"] == rig.store.positions[P1, "other"] == 15


def test_a_position_beyond_the_end_is_held_and_said() -> None:
    """Kafka lost what was read: nobody guesses."""
    rig = Rig()
    rig.store.positions[P0, "id"] = 11
    rig.run()
    assert rig.store.positions[P0, "id"] == 11
    assert rig.store.positions[P1, "id"] == 10
    assert "beyond the partition's end" in rig.ear.not_ready[0]
    assert (rig.ear.standing.held, rig.ear.standing.beyond_end) == ({Cause.TOPIC}, 1)


def test_run_stops_when_told_or_done() -> None:
    """Between two turns; `done` counts only when nothing is held."""
    rig = Rig()
    rig.worker.run(lambda: False, lambda: len(rig.store.log) >= 20)
    rig.assert_complete()
    turns = iter([False, False, True])
    rig.worker.run(lambda: next(turns))


def test_a_topic_of_garbage_is_held() -> None:
    """Some of it is in quarantine, the rest is left in Kafka; not ready, and idle, so that a drain can end."""
    rig = Rig()
    for partition in (P0, P1):
        rig.source.logs[partition] = [FakeMessage(b"garbage", offset, topic="topic", partition=partition.number) for offset in range(50)]
    rig.run()
    assert 10 <= rig.store.books["quarantined"] <= 10 + 3 * 3
    assert rig.store.books["quarantined"] == sum(rig.store.positions.values())
    assert "AUDIT_QUARANTINE_LIMIT" in rig.ear.not_ready[0]
    assert (rig.ear.standing.held, rig.ear.standing.topics_held) == ({Cause.TOPIC}, 1)
    assert rig.worker.held_partitions == {P0, P1}
    assert rig.worker.idle


def test_a_held_topic_goes_on_when_it_is_mended() -> None:
    """By itself: here the garbage is removed from Kafka, and what comes then is good."""
    rig = Rig()
    for partition in (P0, P1):
        rig.source.logs[partition] = [FakeMessage(b"garbage", offset, topic="topic", partition=partition.number) for offset in range(50)]
    rig.run()
    for partition in (P0, P1):
        rig.source.low[partition] = 50
        rig.source.logs[partition] = [None] * 50 + [_message(partition, offset) for offset in range(50, 60)]
    rig.run(2_000)
    assert rig.store.books["written"] == 20
    assert not rig.ear.not_ready
    assert not rig.worker.held_partitions
    assert rig.ear.names.count("topic held") == 1


def test_a_batch_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was consumed beyond is in the next one; a message that is larger alone is a batch of its own."""
    size = len(message_value())
    monkeypatch.setattr("consumer.core.intake.BATCH_BYTES", 2 * size + 10)
    rig = Rig(batch=10)
    rig.source.logs[P0][4] = FakeMessage(b"x" * 10 * size, 4, topic="topic", partition=0)
    sizes: list[int] = []
    begin = rig.store.start_write

    def start_write(batch: Any) -> None:
        sizes.append(sum(len(message.value() or b"") for part in batch.slices for message, _ in part.rows))
        begin(batch)

    monkeypatch.setattr(rig.store, "start_write", start_write)
    rig.run()
    rig.assert_complete(19, quarantined=1)
    assert max(sizes) <= 2 * size + 10


def _framed(partition: Partition, offset: int) -> FakeMessage:
    value = b"\x00\x00\x00\x00\x07" + message_value()[10:]
    return FakeMessage(value, offset, topic=partition.topic, partition=partition.number)


def test_held_while_the_registry_is_down() -> None:
    """What comes before is written; then nothing is consumed nor refused, until the registry answers."""
    rig = Rig()
    rig.source.logs[P0][4] = _framed(P0, 4)
    rig.registry.failure = TransientError("Schema registry: down")
    rig.run(60)
    assert rig.store.positions[P0, "id"] == 4
    assert rig.store.books["quarantined"] == 0
    assert rig.source.held
    assert rig.ear.not_ready == ["Schema registry: down"]
    assert rig.ear.standing.held == {Cause.REGISTRY}
    assert not rig.worker.idle
    rig.registry.failure = None
    rig.registry.schemas[b"\x00\x00\x00\x07"] = event_schema()
    rig.run()
    assert not rig.source.held
    assert rig.ear.not_ready == []
    rig.assert_complete()


def test_a_partition_that_goes_takes_its_question_along() -> None:
    """The others go on, though the registry is still down."""
    rig = Rig()
    rig.source.logs[P0][0] = _framed(P0, 0)
    rig.registry.failure = TransientError("Schema registry: down")
    rig.run(40)
    assert rig.source.held
    rig.source.lose(P0)
    rig.run()
    assert rig.store.positions[P1, "id"] == 10
    assert rig.ear.not_ready == []


def test_an_unknown_schema_is_refused_and_the_others_go_on() -> None:
    """In their order."""
    rig = Rig()
    rig.source.logs[P0][4] = _framed(P0, 4)
    rig.run(400)
    rig.assert_complete(19, quarantined=1)
    assert "schema unknown" in rig.ear.names


def test_a_failure_beside_a_call_in_flight_does_not_change_its_meaning() -> None:
    """The brokers fail while the database is asked for positions: its answer is not taken for a write's."""
    rig = Rig()
    rig.run()
    worker = rig.worker
    worker._looking = {partition: cursor.topic_id for partition, cursor in worker._cursors.items()}
    rig.store.start_look(worker._looking)
    worker._try_again(TransientError("Kafka: topic does not exist", Cause.KAFKA))
    assert worker._standing().held == {Cause.KAFKA}
    rig.run()
    rig.assert_complete()
    assert "position changed" not in rig.ear.names


def test_before_a_gap_is_counted_the_topic_is_looked_at() -> None:
    """A topic made anew while nobody looked: its gap is not the old topic's."""
    rig = Rig()
    rig.run()
    rig.worker._looked_at_topics = float("inf")
    rig.source.logs = {each: [None] * 12 + [_message(each, offset) for offset in range(12, 15)] for each in (P0, P1)}
    rig.source.topic_id = "other"
    rig.run()
    assert rig.store.positions[P0, "id"] == rig.store.positions[P1, "id"] == 10
    assert rig.store.positions[P0, "other"] == rig.store.positions[P1, "other"] == 15
