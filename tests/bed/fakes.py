"""In-memory Kafka and PostgreSQL; `tests/integration/test_conformance.py` holds them to the real parts.

The unit tests use them as they are; the simulator (`tests/simulation`) adds time, faults, and other workers.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from consumer.core.errors import FencedError, Reason, TransientError
from consumer.core.events import AuditRecord, Message, Partition, PartitionPosition, PartitionSlice
from consumer.postgres.store import Written
from tests.bed.events import FakeMessage

BOOKS = ("written", "duplicates", "quarantined", "tombstones", "skipped", "expired")
INDEXED_TEXT = 2704
"""Bytes of an incompressible text that PostgreSQL's index takes."""

PositionKey = tuple[Partition, str]
"""A partition and its topic's id."""


class Range(NamedTuple):
    """Where a partition begins and ends."""

    topic_id: str
    low: int
    high: int


class Batch(NamedTuple):
    """A prepared batch."""

    slices: tuple[PartitionSlice, ...]


class LogRow(NamedTuple):
    """A row of the log, with its place in Kafka."""

    key: PositionKey
    offset: int
    record: AuditRecord


class Effects(NamedTuple):
    """What a transaction does once it is committed."""

    positions: dict[PositionKey, int]
    rows: list[LogRow]
    quarantine: dict[tuple[Partition, str, int], Reason]
    books: dict[PositionKey, Counter[str]]
    written: Written


class MemoryDatabase:
    """The tables: what is committed. Fence and ledger can be left out, to see that somebody notices."""

    fence = True
    ledger = True

    def __init__(self) -> None:
        self.log: list[LogRow] = []
        self.known: dict[str, bytes] = {}
        """The ledger: event id → content hash."""
        self.quarantine: dict[tuple[Partition, str, int], Reason] = {}
        self.positions: dict[PositionKey, int] = {}
        self.first: dict[PositionKey, int] = {}
        self.books: dict[PositionKey, Counter[str]] = {}

    def open_positions(self, wanted: Mapping[Partition, tuple[str, int]]) -> dict[Partition, PartitionPosition]:
        """As PostgresStore."""
        for each, (topic_id, low) in wanted.items():
            if (each, topic_id) not in self.positions:
                self.positions[each, topic_id] = self.first[each, topic_id] = low
        return {each: PartitionPosition(topic_id, self.positions[each, topic_id]) for each, (topic_id, _) in wanted.items()}

    def look(self, wanted: Mapping[Partition, str]) -> dict[Partition, PartitionPosition]:
        """As PostgresStore.positions."""
        found = {each: self.positions.get((each, topic_id)) for each, topic_id in wanted.items()}
        return {each: PartitionPosition(wanted[each], offset) for each, offset in found.items() if offset is not None}

    def check_fence(self, batch: Batch) -> None:
        """Raises FencedError where a position is not where the batch begins."""
        if self.fence and any(self.positions.get((part.partition, part.topic_id)) != part.expected for part in batch.slices):
            raise FencedError

    def effects(self, batch: Batch) -> Effects:
        """What the batch would do now; changes nothing."""
        known: dict[str, bytes] = {}
        effects = Effects({}, [], {}, {}, Written(0, 0, ()))
        reasons: list[tuple[str, Reason]] = []
        for part in batch.slices:
            key = part.partition, part.topic_id
            effects.positions[key] = part.next_offset
            books = effects.books[key] = Counter({name: getattr(part, name) for name in ("tombstones", "skipped", "expired")})
            refused = [(message.offset, message.reason) for message in part.quarantined]
            for message, record in part.rows:
                offset = message.offset() or 0
                content_hash = known.get(record.event_id) or (self.known.get(record.event_id) if self.ledger else None)
                if content_hash is None and len(record.tenant.encode()) > INDEXED_TEXT:
                    refused.append((offset, Reason.UNSTORABLE))
                elif content_hash is None:
                    known[record.event_id] = record.content_hash
                    effects.rows.append(LogRow(key, offset, record))
                    books["written"] += 1
                elif content_hash == record.content_hash:
                    books["duplicates"] += 1
                else:
                    refused.append((offset, Reason.CONFLICT))
            books["quarantined"] += len(refused)
            effects.quarantine.update({(*key, offset): reason for offset, reason in refused})
            reasons += [(part.partition.topic, reason) for _, reason in refused]
        counted = sum(effects.books.values(), Counter())
        kinds = Counter((row.record.action, row.record.result) for row in effects.rows)
        return effects._replace(written=Written(counted["written"], counted["duplicates"], tuple(reasons), kinds))

    def commit(self, effects: Effects) -> None:
        """Makes it true."""
        self.positions.update(effects.positions)
        self.log += effects.rows
        self.known.update((row.record.event_id, row.record.content_hash) for row in effects.rows)
        self.quarantine.update(effects.quarantine)
        for key, counts in effects.books.items():
            self.books.setdefault(key, Counter()).update(counts)


class MemoryStore:
    """What PostgresStore and BackgroundStore do; a call finishes when `wait` is asked."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self.database = database or MemoryDatabase()
        self.failures: list[Exception] = []
        """Raised by the next calls, one each, before anything is done."""
        self.lost_answers = 0
        """So many of the next writes are done, but the answer is lost."""
        self._call: Callable[[], Any] | None = None

    def session(self) -> "MemoryStore":
        """Another worker's view of the same database."""
        return MemoryStore(self.database)

    @property
    def log(self) -> list[LogRow]:
        """The rows of the log."""
        return self.database.log

    @property
    def positions(self) -> dict[PositionKey, int]:
        """Where the partitions stand."""
        return self.database.positions

    @property
    def books(self) -> dict[str, int]:
        """The sums over all positions."""
        counted = sum(self.database.books.values(), Counter())
        return {name: counted[name] for name in BOOKS}

    @property
    def busy(self) -> bool:
        """As BackgroundStore."""
        return self._call is not None

    def prepare(self, slices: Sequence[PartitionSlice]) -> Batch:
        """As PostgresStore."""
        return Batch(tuple(slices))

    def start_write(self, batch: Batch) -> None:
        """As BackgroundStore."""
        self._call = lambda: self.write(batch)

    def start_open(self, wanted: Mapping[Partition, tuple[str, int]]) -> None:
        """As BackgroundStore."""
        self._call = lambda: self.open_positions(wanted)

    def start_look(self, wanted: Mapping[Partition, str]) -> None:
        """As BackgroundStore."""
        asked = dict(wanted)
        self._call = lambda: self.look(asked)

    def wait(self, timeout: float) -> bool:
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
        return self.database.open_positions(wanted)

    def look(self, wanted: Mapping[Partition, str]) -> dict[Partition, PartitionPosition]:
        """As PostgresStore.positions."""
        self._fail()
        return self.database.look(wanted)

    def write(self, batch: Batch) -> Written:
        """As PostgresStore."""
        self._fail()
        self.database.check_fence(batch)
        effects = self.database.effects(batch)
        self.database.commit(effects)
        if self.lost_answers:
            self.lost_answers -= 1
            raise TransientError("the answer was lost")
        return effects.written

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


class MemorySource:
    """What KafkaSource does, for one topic whose messages are lists; None stands for an offset without a message."""

    def __init__(self, logs: Mapping[Partition, list[FakeMessage | None]], topic_id: str = "id") -> None:
        self.logs = dict(logs)
        self.topic_id = topic_id
        self.low: dict[Partition, int] = {}
        self.before_revoke: Callable[[], None] = lambda: None
        self.trouble: str | None = None
        self.missing_rights: frozenset[str] = frozenset()
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

    def changed_ids(self) -> Mapping[str, str] | None:
        """As Topics."""
        return {partition.topic: self.topic_id for partition in self.logs}

    def assign(self, *partitions: Partition) -> None:
        """A rebalance gives us partitions."""
        self._assigned.update(partitions)

    def revoke(self, *partitions: Partition) -> None:
        """A rebalance asks for partitions back."""
        self.before_revoke()
        self.lose(*partitions)

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

    def consume(self, max_messages: int, timeout: float) -> list[Message]:
        """As KafkaSource."""
        if self.failures:
            raise self.failures.pop(0)
        for partition, at in list(self._at.items()):
            if not self.low.get(partition, 0) <= at <= len(self.logs[partition]):  # the client lost its offset, and says so
                self.unsettle(partition)
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

    def ends(self) -> dict[Partition, int]:
        """As KafkaSource."""
        return {each: len(self.logs[each]) for each in self._at}

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
