"""In-memory Kafka and PostgreSQL for unit tests; `tests/integration/test_conformance.py` holds them to the real parts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from consumer.core.errors import FencedError, Reason, TransientError
from consumer.core.events import AuditRecord, Message, Partition, PartitionPosition, PartitionSlice
from consumer.postgres.store import Written
from tests.bed.events import FakeMessage


class Range(NamedTuple):
    """Where a partition begins and ends."""

    topic_id: str
    low: int
    high: int


class MemoryStore:
    """What PostgresStore and BackgroundStore do, in dictionaries; a call finishes when `wait` is asked."""

    def __init__(self) -> None:
        self.log: dict[str, AuditRecord] = {}
        self.quarantine: dict[tuple[Partition, str, int], Reason] = {}
        self.positions: dict[tuple[Partition, str], int] = {}
        self.books: dict[str, int] = dict.fromkeys(("written", "duplicates", "quarantined", "tombstones", "skipped", "expired"), 0)
        self.failures: list[Exception] = []
        """Raised by the next calls, one each, before anything is done."""
        self.lost_answers = 0
        """So many of the next writes are done, but the answer is lost."""
        self._call: Callable[[], Any] | None = None

    def session(self) -> "MemoryStore":
        """Another worker's view of the same database."""
        other = MemoryStore()
        other.log, other.quarantine, other.positions, other.books = self.log, self.quarantine, self.positions, self.books
        return other

    @property
    def busy(self) -> bool:
        """As BackgroundStore."""
        return self._call is not None

    def prepare(self, slices: Sequence[PartitionSlice]) -> "Batch":
        """As PostgresStore."""
        return Batch(tuple(slices))

    def start_write(self, batch: "Batch") -> None:
        """As BackgroundStore."""
        self._call = lambda: self.write(batch)

    def start_open(self, wanted: Mapping[Partition, tuple[str, int]]) -> None:
        """As BackgroundStore."""
        self._call = lambda: self.open_positions(wanted)

    def wait(self, _timeout: float) -> bool:
        """As BackgroundStore; never waits."""
        return self.busy

    def result(self) -> Any:
        """As BackgroundStore."""
        call, self._call = self._call, None
        assert call is not None
        return call()

    def cut(self) -> None:
        """As BackgroundStore."""

    def close(self) -> None:
        """As PostgresStore."""

    def open_positions(self, wanted: Mapping[Partition, tuple[str, int]]) -> dict[Partition, PartitionPosition]:
        """As PostgresStore."""
        self._fail()
        return {
            each: PartitionPosition(topic_id, self.positions.setdefault((each, topic_id), low)) for each, (topic_id, low) in wanted.items()
        }

    def write(self, batch: "Batch") -> Written:
        """As PostgresStore."""
        self._fail()
        slices = batch.slices
        if any(self.positions.get((part.partition, part.topic_id)) != part.expected for part in slices):
            raise FencedError
        written = duplicates = 0
        reasons: list[Reason] = []
        for part in slices:
            key = part.partition, part.topic_id
            self.positions[key] = part.next_offset
            for message in part.quarantined:
                self.quarantine[*key, message.offset] = message.reason
                reasons.append(message.reason)
            for message, record in part.rows:
                known = self.log.setdefault(record.event_id, record)
                if known is record:
                    written += 1
                elif known.content_hash == record.content_hash:
                    duplicates += 1
                else:
                    self.quarantine[*key, message.offset() or 0] = Reason.CONFLICT
                    reasons.append(Reason.CONFLICT)
            for name in ("tombstones", "skipped", "expired"):
                self.books[name] += getattr(part, name)
        for name, count in (("written", written), ("duplicates", duplicates), ("quarantined", len(reasons))):
            self.books[name] += count
        if self.lost_answers:
            self.lost_answers -= 1
            raise TransientError("the answer was lost")
        return Written(written, duplicates, tuple(reasons))

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


class Batch(NamedTuple):
    """A prepared batch."""

    slices: tuple[PartitionSlice, ...]


class MemorySource:
    """What KafkaSource does, for one topic whose messages are lists; None stands for an offset without a message."""

    def __init__(self, logs: Mapping[Partition, list[FakeMessage | None]], topic_id: str = "id") -> None:
        self.logs = dict(logs)
        self.topic_id = topic_id
        self.low: dict[Partition, int] = {}
        self.before_revoke: Callable[[], None] = lambda: None
        self.trouble: str | None = None
        self.committed: dict[Partition, int] = {}
        self.failures: list[Exception] = []
        self.reopened = 0
        self.held = False
        self._assigned: set[Partition] = set()
        self._at: dict[Partition, int] = {}
        self.assign(*logs)

    @property
    def topics(self) -> "MemorySource":
        """As KafkaSource."""
        return self

    def changed_ids(self) -> dict[str, str]:
        """As Topics."""
        return {partition.topic: self.topic_id for partition in self.logs}

    def assign(self, *partitions: Partition) -> None:
        """A rebalance gives us partitions."""
        self._assigned.update(partitions)

    def lose(self, *partitions: Partition) -> None:
        """A rebalance takes partitions, without a word."""
        for partition in partitions:
            self._assigned.discard(partition)
            self._at.pop(partition, None)

    @property
    def assigned(self) -> frozenset[Partition]:
        """As KafkaSource."""
        return frozenset(self._assigned)

    @property
    def unsettled(self) -> frozenset[Partition]:
        """As KafkaSource."""
        return frozenset(self._assigned - self._at.keys())

    def unsettle(self, partition: Partition) -> None:
        """As KafkaSource."""
        self._at.pop(partition, None)

    def start(self, partition: Partition, offset: int) -> None:
        """As KafkaSource."""
        if partition in self._assigned:
            self._at[partition] = offset

    def consume(self, max_messages: int, _timeout: float) -> list[Message]:
        """As KafkaSource."""
        if self.failures:
            raise self.failures.pop(0)
        found: list[Message] = []
        while not self.held:
            ready = [each for each, at in self._at.items() if at < len(self.logs[each])]
            if not ready or len(found) == max_messages:
                break
            partition = ready[0]
            message = self.logs[partition][self._at[partition]]
            self._at[partition] += 1
            if message is not None:
                found.append(message)
        return found

    def hold(self) -> None:
        """As KafkaSource."""
        self.held = True

    def resume(self) -> None:
        """As KafkaSource."""
        self.held = False

    def idle(self, timeout: float) -> None:
        """As KafkaSource."""
        for message in self.consume(1, timeout):
            self.unsettle(Partition(message.topic() or "", message.partition() or 0))

    def positions(self) -> dict[Partition, int]:
        """As KafkaSource."""
        return dict(self._at)

    def ranges(self, partitions: Iterable[Partition]) -> dict[Partition, Range]:
        """As KafkaSource."""
        return {each: Range(self.topic_id, self.low.get(each, 0), len(self.logs[each])) for each in partitions}

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """As KafkaSource."""
        self.committed.update(offsets)

    def reopen(self) -> None:
        """As KafkaSource."""
        self.reopened += 1
        self._at.clear()

    def close(self) -> None:
        """As KafkaSource."""
