"""Reads the topics again and compares them, offset by offset, with the log, the quarantine and the books."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from consumer.core.balance import Position, balance
from consumer.core.decoding import Decoder
from consumer.core.errors import Rejected, TopicUnreadableError, TransientError
from consumer.core.events import AuditRecord, Message, Partition
from consumer.core.findings import Finding, Kind, Table
from consumer.core.framing import HeadedMessage
from consumer.core.mapping import audit_record
from consumer.core.moves import decided, passed_over
from consumer.core.reconciling import Delivered, Seen, Stretch, compare
from consumer.kafka.reader import OffsetsGoneError, PartitionReader
from consumer.kafka.topics import PartitionRange, Topics
from consumer.postgres.evidence import Evidence

STRETCH = 4_000
"""Offsets that are compared at once."""

STRETCH_BYTES = 4 * 1024 * 1024
"""Bytes of keys and values after which a stretch takes no further message."""

_REMEMBERED = 100_000
"""Event ids that are remembered, so that what is missing at its place is not told again as an event of the ledger without a row."""


class NothingThereError(Exception):
    """Nothing was looked at, so nothing is proven; the text names the place."""


class Scope(NamedTuple):
    """What to look at; None: everything."""

    topic: str | None = None
    partition: int | None = None
    first: int | None = None
    end: int | None = None  # exclusive

    def takes(self, partition: Partition) -> bool:
        """Whether it is to be looked at."""
        return self.topic in (None, partition.topic) and self.partition in (None, partition.number)


class Decision(NamedTuple):
    """Offsets that nobody has read, since an operator set the position past them; no finding, but to be named."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int  # exclusive
    operation: int  # entry of audit.operation_history: who, when and why


class Expired(NamedTuple):
    """Offsets that Kafka's retention, or DeleteRecords, removed before anybody read them; no finding, but to be named."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int  # exclusive


@dataclass(slots=True)
class Summary:
    """What a run has looked at; counts of offsets, but for the findings."""

    findings: Counter[str] = field(default_factory=Counter)
    partitions: int = 0
    offsets: int = 0
    """Accounted for by positions, and looked at."""
    verified: int = 0
    """Of these, compared with what Kafka has."""
    not_in_kafka: int = 0
    """Of these, not to be had from Kafka any more: their rows were checked for themselves, and counted."""
    passed_over: int = 0
    """Of these, never read by an operator's decision."""
    decisions: list[Decision] = field(default_factory=list)
    expired: list[Expired] = field(default_factory=list)
    written: int = 0
    duplicates: int = 0
    quarantined: int = 0
    tombstones: int = 0
    skipped: int = 0


class Progress(NamedTuple):
    """How far a run is."""

    partition: Partition
    done: int  # offsets
    total: int


@dataclass(slots=True)
class _Case:
    """A partition: its positions, formerly and now, and where Kafka's begins and ends."""

    partition: Partition
    positions: list[Position]
    range: PartitionRange | None
    seen: Seen = field(default_factory=Seen)
    gaps: Sequence[tuple[int, int]] = ()
    """Offsets that nobody could read: the first, and the one after the last."""

    @property
    def current(self) -> Position | None:
        """The position of the topic that Kafka has now."""
        found = [each for each in self.positions if self.range is not None and each.topic_id == self.range.topic_id]
        return found[0] if found else None

    @property
    def readable(self) -> tuple[int, int]:
        """The offsets that Kafka has and that the current position has passed."""
        current, kafka = self.current, self.range
        if current is None or kafka is None:
            return 0, 0
        return max(current.first, kafka.low), min(current.next, kafka.high)

    @property
    def decisions(self) -> list[Decision]:
        """What an operator decided not to have read, before the beginning of the position too."""
        current, kafka = self.current, self.range
        if current is None or kafka is None:
            return []
        return [Decision(*self.partition, *each) for each in decided(current.moves, current.first, kafka.low)]

    def expired(self, first: int, end: int) -> list[Expired]:
        """What was removed unread of these offsets; a decision to pass over is told as one."""
        gaps = [gap for gap in self.gaps if gap[0] < end and first < gap[1]]
        decided_on = [(each.first_offset, each.next_offset) for each in self.decisions]
        return [Expired(*self.partition, *gap) for gap in gaps if not any(low <= gap[0] and gap[1] <= high for low, high in decided_on)]


class Reconciliation:
    """One run. Takes no part in the consumer group, and writes nothing anywhere.

    Args:
        evidence: the database.
        topics: the settings' topics in Kafka.
        reader: reads them.
        decoder: knows the writer schemas.
        tell: is told how far the run is.
        learn: with a schema registry, sees to it that the schemas of these messages are known, as far as anybody knows them.
    """

    def __init__(
        self, evidence: Evidence, topics: Topics, reader: PartitionReader, decoder: Decoder, *,
        tell: Callable[[Progress], None], learn: Callable[[Sequence[Message]], None] | None = None,
    ) -> None:  # fmt: skip
        self._evidence = evidence
        self._topics = topics
        self._reader = reader
        self._decoder = decoder
        self._tell = tell
        self._learn = learn
        self._missing: set[str] = set()
        self.summary = Summary()

    def run(self, scope: Scope) -> Iterator[Finding]:
        """The findings, as they come.

        Raises:
            TopicUnreadableError: Kafka can't be used.
            TransientError: PostgreSQL can't be used.
            NothingThereError: the scope holds nothing.
        """
        for finding in self._findings(scope):
            self.summary.findings[finding.finding.value] += 1
            if finding.finding is Kind.MISSING and finding.event_id and len(self._missing) < _REMEMBERED:
                self._missing.add(finding.event_id)
            yield finding

    def _findings(self, scope: Scope) -> Iterator[Finding]:
        cases, unread = self._cases(scope)
        spans = [_span(case.positions, scope) for case in cases]
        if scope.partition is not None and not unread and all(first >= end for first, end in spans):
            raise NothingThereError(f"no position has passed anything there (topic {scope.topic}, partition {scope.partition})")
        yield from unread
        total = sum(end - first for first, end in spans)
        self._tell(Progress(Partition("", 0), 0, total))
        for case, (first, end) in zip(cases, spans, strict=True):
            if first >= end and (scope.first is not None or scope.end is not None):
                continue
            self.summary.partitions += 1
            self.summary.decisions += case.decisions
            self.summary.expired += case.expired(first, end)
            yield from self._partition(case, first, end, total)
            if scope.first is None and scope.end is None:
                yield from _beyond(case)
                yield from balance(case.positions, case.current, case.seen)
            self._add(case)
        if scope == Scope():
            yield from (each for each in self._evidence.strays() if each.finding is not Kind.MISSING or each.event_id not in self._missing)

    def _cases(self, scope: Scope) -> tuple[list[_Case], list[Finding]]:
        """The partitions that have a position; and what Kafka has that no position accounts for."""
        positions: defaultdict[Partition, list[Position]] = defaultdict(list)
        # The positions first: what Kafka says afterwards reaches at least as far.
        for position in self._evidence.positions():
            if scope.takes(position.partition):
                positions[position.partition].append(position)
        ranges = self._ranges([each for each in self._partitions() if scope.takes(each)])
        removed, gaps = self._evidence.removed(), self._evidence.gaps()
        cases = [
            _Case(each, found, ranges.get(each), Seen(removed=removed.get(each, 0)), gaps.get(each, []))
            for each, found in positions.items()
        ]
        unread = [_unread(partition, at, positions.get(partition, ())) for partition, at in ranges.items()]
        return cases, [finding for finding in unread if finding is not None]

    def _partitions(self) -> Iterable[Partition]:
        try:
            return self._topics.partitions()
        except TransientError as error:
            raise TopicUnreadableError(str(error)) from error

    def _ranges(self, partitions: Iterable[Partition]) -> dict[Partition, PartitionRange]:
        try:
            return self._topics.ranges(partitions)
        except TransientError as error:
            raise TopicUnreadableError(str(error)) from error

    def _partition(self, case: _Case, first: int, end: int, total: int) -> Iterator[Finding]:
        at = first
        passed = passed_over(case.current.moves) if case.current else []
        while at < end:
            low, high = case.readable
            edges = (low, high, *(edge for each in passed for edge in each[:2]))
            until = min(end, at + STRETCH, *(edge for edge in edges if edge > at))
            unread = any(each.first <= at < each.end for each in passed)
            if low <= at < high and not unread:
                try:
                    messages, reached = self._reader.read(case.partition, at, until, STRETCH_BYTES)
                except OffsetsGoneError:
                    self._look_again(case, at)
                    continue
                self._mind_new_topic(case)
                yield from self._compare(case, at, reached, messages)
            else:
                reached = until
                case.seen.passed_over += unread * (reached - at)
                yield from self._compare(case, at, reached, None)
            self.summary.offsets += reached - at
            at = reached
            self._tell(Progress(case.partition, self.summary.offsets, total))

    def _compare(self, case: _Case, first: int, end: int, messages: Sequence[Message] | None) -> list[Finding]:
        current = case.current if messages is not None else None
        read: Sequence[Message] = messages or ()
        if self._learn is not None:
            read = [HeadedMessage(message) for message in read]
            self._learn(read)
        delivered = {message.offset() or 0: Delivered(message, self._verdict(message)) for message in read}
        ids = [each.topic_id for each in case.positions]
        with self._evidence.snapshot() as snapshot:
            stretch = Stretch(
                case.partition,
                None if current is None else current.topic_id,
                first,
                end,
                delivered,
                snapshot.rows(case.partition, first, end),
                snapshot.quarantined(case.partition, ids, first, end),
                [
                    (each.next if each is current else each.first, each.reached)
                    for each in case.positions
                    if each is not current or each.reread
                ],
                snapshot.gone(),
            )
            known = snapshot.known(stretch.unplaced())
        return compare(stretch, known, case.seen)

    def _verdict(self, message: Message) -> AuditRecord | Rejected | None:
        """Not by the kept range, which moves: what was kept when it came is in the log."""
        value = message.value()
        if value is None:
            return None
        headers = message.schema_headers if isinstance(message, HeadedMessage) else None
        try:
            return audit_record(self._decoder.decode(value, headers), value)
        except Rejected as rejected:
            return rejected

    def _look_again(self, case: _Case, at: int) -> None:
        """Kafka's retention was faster than we: where does the partition begin now?"""
        case.range = self._ranges([case.partition]).get(case.partition, case.range)
        low, high = case.readable
        if low <= at < high:
            raise TopicUnreadableError(f"Kafka: topic {case.partition.topic}, partition {case.partition.number}: offset {at} can't be read")

    def _mind_new_topic(self, case: _Case) -> None:
        """Before messages are compared: are they of the topic that the position is of?"""
        try:
            now = self._topics.partitions().get(case.partition)
        except TransientError as error:
            raise TopicUnreadableError(str(error)) from error
        if case.range is not None and now != case.range.topic_id:
            raise TopicUnreadableError(f"Kafka: topic {case.partition.topic} was deleted or made anew meanwhile; run reconcile again")

    def _add(self, case: _Case) -> None:
        summary, seen = self.summary, case.seen
        summary.verified += seen.verified
        summary.written += seen.rows - seen.retried
        summary.duplicates += seen.duplicates
        summary.quarantined += seen.quarantined.total()
        summary.tombstones += seen.tombstones
        summary.skipped += seen.skipped
        summary.passed_over += seen.passed_over
        summary.not_in_kafka = summary.offsets - summary.verified - summary.passed_over


def _unread(partition: Partition, at: PartitionRange, positions: Iterable[Position]) -> Finding | None:
    """Offsets that Kafka has before the position of its topic begins, or that have no position at all."""
    current = next((each for each in positions if each.topic_id == at.topic_id), None)
    if at.low >= (at.high if current is None else min(current.first, at.high)):
        return None
    if current is not None and any(move.after == current.first for move in current.moves):
        return None  # a decision, which is named as such
    if current is None:
        detail = (
            f"Kafka has offsets up to {at.high}, and the topic has no position: no worker has read it, or somebody took the position away"
        )
    else:
        detail = f"Kafka has offsets from here on, and the position begins at {current.first}: somebody has moved its beginning"
    return Finding(Kind.MISSING, Table.POSITION, *partition, at.low, None, (), f"{detail} (topic id {at.topic_id})")


def _span(positions: Sequence[Position], scope: Scope) -> tuple[int, int]:
    """The offsets that any topic of the name has, within the scope."""
    first, end = min(each.first for each in positions), max(each.reached for each in positions)
    return max(first, scope.first or 0), end if scope.end is None else min(end, scope.end)


def _beyond(case: _Case) -> Iterator[Finding]:
    """Kafka's partition ends before the position: it has lost what was read, or the position is wrong."""
    current, kafka = case.current, case.range
    if current is not None and kafka is not None and kafka.high < current.next:
        topic, number = case.partition
        detail = f"the partition ends here, and the position is {current.next}"
        yield Finding(Kind.MISSING, Table.KAFKA, topic, number, kafka.high, None, (), detail)
