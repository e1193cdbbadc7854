"""A stretch of a partition: what Kafka holds there against what the log, the quarantine and the ledger hold. Pure.

Rows of the log name the topic, but not its id: where a topic was made anew, a place may have a row of the old topic and one of the new. So
of each place is known how many rows there can be, and the row of the message that Kafka holds now is known by its event_id.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from typing import Any, NamedTuple

from consumer.core.clock import month_of
from consumer.core.errors import Reason, Rejected
from consumer.core.events import AuditRecord, Message, Partition, quarantine, stored_headers
from consumer.core.findings import Finding, Kind, Table
from consumer.core.stored import StoredRow, differing

_RETRIED = ("retried written", "retried duplicate")
_SETTLED = {"open": ((),), "discarded": (("discarded",),), "retried": tuple((each,) for each in _RETRIED)}
"""What the history must say of a message, by its status."""

_BY_SETTINGS = (Reason.UNKNOWN_SCHEMA, Reason.UNMAPPED_CHANGE, Reason.OVERSIZED)
"""Refusals that another version, or other settings, may not share."""

_IMPOSSIBLE: dict[str, tuple[Reason | None, ...]] = {
    Reason.UNDECODABLE: (None, Reason.INVALID_EVENT, Reason.UNMAPPED_CHANGE),
    Reason.INVALID_EVENT: (None, Reason.UNDECODABLE),
    Reason.UNMAPPED_CHANGE: (Reason.UNDECODABLE,),
    Reason.OUT_OF_RANGE: (Reason.UNDECODABLE, Reason.INVALID_EVENT),
    Reason.CONFLICT: (Reason.UNDECODABLE, Reason.INVALID_EVENT),
    Reason.UNSTORABLE: (Reason.UNDECODABLE, Reason.INVALID_EVENT),
}
"""Reason in the quarantine → what the message can't be today (None: an event), whatever settings have changed since."""

_SETTINGS = "if the workers have AUDIT_SCHEMA_DIR, AUDIT_SCHEMA_REGISTRY_URL or AUDIT_MAX_MESSAGE_BYTES set, set them here too"


class Delivered(NamedTuple):
    """A message, and what decoding and mapping make of it today; None: a tombstone."""

    message: Message
    verdict: AuditRecord | Rejected | None


class QuarantinedRow(NamedTuple):
    """A row of the quarantine, its bytes as hashes."""

    offset: int
    topic_id: str
    reason: str
    status: str
    key_hash: bytes | None
    value_hash: bytes | None
    headers: Any  # the JSON that is stored
    settled: tuple[str, ...]  # what the history says, but for failed retries: `retried written`, `retried duplicate`, `discarded`

    @property
    def in_log(self) -> bool:
        """Whether a retry wrote its event into the log."""
        return "retried written" in self.settled


class Known(NamedTuple):
    """What is known of an event whose message has no row at its place."""

    ledger_hash: bytes | None
    log_hash: bytes | None  # of the row with its id and time, wherever it is
    place: tuple[str, int, int] | None  # of that row: topic, partition, offset


_UNKNOWN = Known(None, None, None)


@dataclass(slots=True)
class Seen:
    """What was found in a partition, to be compared with the books."""

    rows: int = 0
    retried: int = 0  # of the rows, those that a retry of the quarantine wrote
    retired: int = 0  # events of a month that retention has removed
    removed: int = 0  # rows that retention says it has removed
    written: int = 0
    duplicates: int = 0
    tombstones: int = 0
    skipped: int = 0
    verified: int = 0  # offsets that were compared with Kafka
    passed_over: int = 0  # offsets that an operator decided not to read
    quarantined: Counter[str] = field(default_factory=Counter)
    """By topic id."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The offsets from `first` to before `end` of a partition, and what is there."""

    partition: Partition
    topic_id: str | None  # of the topic that Kafka has now; None: these offsets can't be read again
    first: int
    end: int
    messages: Mapping[int, Delivered]
    rows: Mapping[int, Sequence[StoredRow]]
    quarantined: Mapping[int, Sequence[QuarantinedRow]]
    others: Sequence[tuple[int, int]]
    """The ranges of positions whose messages are not in this stretch: of the same partition of older topics, what can't be read again,
    and what the position was set back over."""
    gone: AbstractSet[date]
    """The months that retention has removed, or is about to."""

    def unplaced(self) -> list[AuditRecord]:
        """The records that have no row at their place, and of which the ledger must be asked."""
        return [
            verdict
            for offset, (_, verdict) in self.messages.items()
            if isinstance(verdict, AuditRecord)
            and not any(row.record.event_id == verdict.event_id for row in self.rows.get(offset, ()))
            and not any(each.topic_id == self.topic_id and each.reason != Reason.CONFLICT for each in self.quarantined.get(offset, ()))
        ]


def compare(stretch: Stretch, known: Mapping[str, Known], seen: Seen) -> list[Finding]:
    """What is wrong in the stretch; adds what is there to `seen`.

    Args:
        stretch: what is there.
        known: event id → what the ledger and the log know of it, for `stretch.unplaced()`.
        seen: of the whole partition.
    """
    return _Comparison(stretch, known, seen).findings


class _Comparison:
    def __init__(self, stretch: Stretch, known: Mapping[str, Known], seen: Seen) -> None:
        self.findings: list[Finding] = []
        self._stretch = stretch
        self._known = known
        self._seen = seen
        if stretch.topic_id is not None:
            seen.verified += stretch.end - stretch.first
            seen.skipped += stretch.end - stretch.first - len(stretch.messages)
        for offset in sorted(stretch.messages.keys() | stretch.rows.keys() | stretch.quarantined.keys()):
            self._place(offset)

    def _place(self, offset: int) -> None:
        stretch, seen = self._stretch, self._seen
        rows = list(stretch.rows.get(offset, ()))
        seen.rows += len(rows)
        mine: list[QuarantinedRow] = []
        others: list[QuarantinedRow] = []
        for each in stretch.quarantined.get(offset, ()):
            (mine if each.topic_id == stretch.topic_id else others).append(each)
            seen.quarantined[each.topic_id] += 1
            seen.retried += each.in_log
            self._status(each)
        delivered = stretch.messages.get(offset)
        if delivered is None or delivered.verdict is None:
            seen.tombstones += delivered is not None
            what = "a tombstone" if delivered else "no message" if stretch.topic_id else "a message that is there once"
            self._nothing(offset, rows, mine, self._room(offset, others), what)
        elif mine:
            self._quarantined(offset, delivered, mine, rows, self._room(offset, others))
        elif isinstance(delivered.verdict, AuditRecord):
            self._event(offset, delivered.verdict, rows, self._room(offset, others))
        else:
            self._not_quarantined(offset, delivered.verdict, rows, self._room(offset, others))

    def _room(self, offset: int, quarantined: Iterable[QuarantinedRow]) -> int:
        """How many rows of messages that can't be read again there may be at the place."""
        positions = sum(first <= offset < end for first, end in self._stretch.others)
        return positions - sum(not each.in_log for each in quarantined)

    # --- what the message is -------------------------------------------------------------------------------------------------------

    def _nothing(self, offset: int, rows: list[StoredRow], mine: list[QuarantinedRow], room: int, what: str) -> None:
        """A place whose message can't be compared, or that has none."""
        for _ in mine:
            self._find(Kind.EXTRA, Table.QUARANTINE, offset, None, f"Kafka has {what} here")
        self._strangers(offset, rows, room, f"Kafka has {what} here" if self._stretch.topic_id else "only one message can be from here")

    def _event(self, offset: int, record: AuditRecord, rows: list[StoredRow], room: int) -> None:
        mine, others = _of(record, rows)
        if mine:
            self._seen.written += 1
            self._written(offset, record, mine)
        elif not self._is_elsewhere(offset, record):
            if len(others) > room:
                # More rows than there can be of older topics, and none of this event anywhere: its row was changed.
                self._differs(offset, others.pop(), record)
            else:
                self._lacks(offset, record)
        self._strangers(offset, others, room, "Kafka has another event here")

    def _quarantined(self, offset: int, delivered: Delivered, mine: list[QuarantinedRow], rows: list[StoredRow], room: int) -> None:
        verdict = delivered.verdict
        for each in mine[1:]:
            self._find(Kind.DOUBLED, Table.QUARANTINE, offset, None, f"{each.reason}; the message was delivered once")
        self._bytes(offset, delivered, mine[0])
        record = verdict if isinstance(verdict, AuditRecord) else None
        if record and mine[0].reason == Reason.CONFLICT and mine[0].status != "retried":
            self._conflict(offset, record)
        ours, others = _of(record, rows) if record else ([], rows)
        if not mine[0].in_log:
            for row in ours:
                self._find(Kind.EXTRA, Table.LOG, offset, row, "the message is in quarantine, and no retry brought it into the log")
        elif record:
            if ours:
                self._written(offset, record, ours)
            elif len(others) > room:
                self._differs(offset, others.pop(), record)
            elif not self._is_gone(record):
                self._find(Kind.MISSING, Table.LOG, offset, record, "the quarantine's history says that a retry wrote it")
        elif len(others) > room:
            row = others.pop()
            self._itself(row)
            self._find(Kind.UNREADABLE, Table.LOG, offset, row, f"a retry wrote it, and the message can't be decoded here; {_SETTINGS}")
        else:
            self._find(Kind.MISSING, Table.LOG, offset, None, "the quarantine's history says that a retry wrote it")
        self._strangers(offset, others, room, "Kafka has a message here that is in quarantine")

    def _not_quarantined(self, offset: int, verdict: Rejected, rows: list[StoredRow], room: int) -> None:
        by_settings = verdict.reason in _BY_SETTINGS
        if by_settings and len(rows) > room:
            row = rows.pop()
            self._itself(row)
            detail = f"the message can't be decoded here ({verdict.reason.value}); {_SETTINGS}"
            self._find(Kind.UNREADABLE, Table.LOG, offset, row, detail)
        else:
            hint = f"; {_SETTINGS}" if by_settings else ""
            self._find(Kind.MISSING, Table.QUARANTINE, offset, None, f"the message is no event ({verdict.reason.value}){hint}")
        self._strangers(offset, rows, room, "Kafka has a message here that is no event")

    # --- events --------------------------------------------------------------------------------------------------------------------

    def _written(self, offset: int, record: AuditRecord, mine: list[StoredRow]) -> None:
        # The one that is right, if one is: the others are then the doubled ones.
        mine.sort(key=lambda row: row.record != record)
        self._agrees(mine[0], record)
        for row in mine[1:]:
            columns = differing(row.record, record)
            self._find(Kind.DOUBLED, Table.LOG, offset, row, "the message was delivered once", columns=columns)

    def _agrees(self, row: StoredRow, record: AuditRecord) -> None:
        if row.record == record and row.ledger_hash == record.content_hash and row.same_time and row.true_hash == record.content_hash:
            return
        if row.record != record:
            self._differs(row.offset, row, record)
            return
        self._ledger(row, record.content_hash)

    def _differs(self, offset: int, row: StoredRow, record: AuditRecord) -> None:
        columns = differing(row.record, record)
        says = "content_hash fits the row" if row.true_hash == row.record.content_hash else "content_hash does not fit the row"
        self._find(Kind.DIFFERENT, Table.LOG, offset, record, f"the row is not what Kafka has here; its {says}", columns=columns)
        self._ledger(row, record.content_hash if row.record.event_id == record.event_id else row.record.content_hash)

    def _ledger(self, row: StoredRow, true_hash: bytes) -> None:
        if row.ledger_hash is None:
            self._find(Kind.MISSING, Table.LEDGER, row.offset, row, "the log has the event, the ledger does not know it")
            return
        columns = ("occurred_at",) * (not row.same_time) + ("content_hash",) * (row.ledger_hash != true_hash)
        if columns:
            self._find(Kind.DIFFERENT, Table.LEDGER, row.offset, row, "the ledger has the event otherwise", columns=columns)

    def _is_elsewhere(self, offset: int, record: AuditRecord) -> bool:
        """Whether an event without a row at its place is a duplicate, whose row is elsewhere."""
        known = self._known.get(record.event_id, _UNKNOWN)
        if known.place is None or record.content_hash not in (known.ledger_hash, known.log_hash):
            return False
        self._seen.duplicates += 1
        topic, number, later = known.place
        if (topic, number) == self._stretch.partition and later > offset and not self._stretch.others:
            detail = f"the row says offset {later}, and this earlier message is the first of the event"
            self._find(Kind.DIFFERENT, Table.LOG, offset, record, detail, columns=("kafka_offset",))
        return True

    def _lacks(self, offset: int, record: AuditRecord) -> None:
        """An event that should have a row here, or be in quarantine."""
        known = self._known.get(record.event_id, _UNKNOWN)
        if self._is_gone(record):
            self._seen.retired += 1
        elif known.ledger_hash is None:
            self._find(Kind.MISSING, Table.LOG, offset, record, "neither log nor ledger know the event")
        elif known.ledger_hash == record.content_hash:
            self._find(Kind.MISSING, Table.LOG, offset, record, "the ledger knows the event, the log has no row of it")
        else:
            detail = "the ledger has the event with other content: the message should be here as a conflict"
            self._find(Kind.MISSING, Table.QUARANTINE, offset, record, detail)

    def _is_gone(self, record: AuditRecord) -> bool:
        """Whether the event's month has left the log; the ledger forgets it a little later."""
        return month_of(record.occurred_at) in self._stretch.gone

    def _strangers(self, offset: int, rows: Sequence[StoredRow], room: int, why: str) -> None:
        """Rows that are not of the message at this place."""
        for number, row in enumerate(rows):
            self._itself(row)
            if number >= max(room, 0):
                self._find(Kind.EXTRA, Table.LOG, offset, row, why)

    def _itself(self, row: StoredRow) -> None:
        """A row whose message can't be read: all that can be told is whether row, hash and ledger agree."""
        if row.true_hash != row.record.content_hash:
            detail = "content_hash does not fit the row; its message can't be read"
            self._find(Kind.DIFFERENT, Table.LOG, row.offset, row, detail, columns=("content_hash",))
        self._ledger(row, row.record.content_hash)

    # --- the quarantine ------------------------------------------------------------------------------------------------------------

    def _bytes(self, offset: int, delivered: Delivered, row: QuarantinedRow) -> None:
        message = quarantine(delivered.message, Reason.UNDECODABLE, "")
        headers = stored_headers(message.headers)
        pairs = (
            ("key", row.key_hash, _hash(message.key)),
            ("value", row.value_hash, _hash(message.value)),
            ("headers", row.headers, headers),
        )
        columns = tuple(name for name, stored, true in pairs if stored != true)
        if columns:
            self._find(Kind.DIFFERENT, Table.QUARANTINE, offset, None, "the bytes are not those that Kafka has here", columns=columns)
        verdict = delivered.verdict
        today = verdict.reason if isinstance(verdict, Rejected) else None
        if row.status != "retried" and today in _IMPOSSIBLE.get(row.reason, ()):
            detail = f"in quarantine as `{row.reason}`, and it is {f'`{today.value}`' if today else 'an event'}"
            self._find(Kind.DIFFERENT, Table.QUARANTINE, offset, None, detail, columns=("reason",))

    def _conflict(self, offset: int, record: AuditRecord) -> None:
        """It is one only if another event has its id; which the ledger forgets with the month of that other one."""
        known = self._known.get(record.event_id, _UNKNOWN)
        if known.ledger_hash is None and self._stretch.gone:
            return
        if known.ledger_hash in (None, record.content_hash):
            detail = "in quarantine as `conflict`, and the ledger has no other event of its id"
            self._find(Kind.DIFFERENT, Table.QUARANTINE, offset, record, detail, columns=("reason",))

    def _status(self, row: QuarantinedRow) -> None:
        if row.settled not in _SETTLED.get(row.status, ()):
            detail = f"the status is {row.status}, the history says: {', '.join(row.settled) or 'open'}"
            self._find(Kind.DIFFERENT, Table.QUARANTINE, row.offset, None, detail, columns=("status",))

    def _find(
        self, kind: Kind, table: Table, offset: int, of: StoredRow | AuditRecord | None, detail: str, *, columns: tuple[str, ...] = ()
    ) -> None:  # fmt: skip
        record = of.record if isinstance(of, StoredRow) else of
        topic, number = self._stretch.partition
        self.findings.append(Finding(kind, table, topic, number, offset, record.event_id if record else None, columns, detail))


def _of(record: AuditRecord, rows: Iterable[StoredRow]) -> tuple[list[StoredRow], list[StoredRow]]:
    """The rows of this event, and the others."""
    mine: list[StoredRow] = []
    others: list[StoredRow] = []
    for row in rows:
        (mine if row.record.event_id == record.event_id else others).append(row)
    return mine, others


def _hash(content: bytes | None) -> bytes | None:
    return None if content is None else sha256(content).digest()
