"""Messages → slices: each message decoded and mapped, each offset accounted for. Pure; the worker's inner loop."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from consumer.core.decoding import Decoder
from consumer.core.errors import Reason, Rejected
from consumer.core.events import AuditRecord, Message, Partition, PartitionSlice, quarantine
from consumer.core.framing import HeadedMessage, Headers
from consumer.core.mapping import audit_record


@dataclass(slots=True)
class Cursor:
    """How far the worker has read a partition; `offset` is the next one it expects."""

    topic_id: str
    offset: int


def record_of(decoder: Decoder, value: bytes, kept: tuple[int, int], headers: Headers | None = None) -> AuditRecord:
    """The audit record in a message's value; `kept` is the first and the last time that the log takes.

    Raises:
        Rejected: the message belongs in quarantine.
    """
    record = audit_record(decoder.decode(value, headers), value)
    if not kept[0] <= record.occurred_at <= kept[1]:
        raise Rejected(Reason.OUT_OF_RANGE, "occurred_at is older than the retention, or more than a day in the future")
    return record


def slices_of(
    messages: Iterable[Message], cursors: Mapping[Partition, Cursor], decoder: Decoder, kept: tuple[int, int]
) -> list[PartitionSlice]:
    """The batch by partition; moves the cursors on. Messages of partitions without a cursor, and redelivered ones, are passed over."""
    slices: dict[tuple[str | None, int | None], PartitionSlice] = {}
    place, cursor, part = None, None, None
    for message in messages:
        found = message.topic(), message.partition()
        if found != place:  # they come in runs
            place = found
            cursor = cursors.get(place)  # type: ignore[call-overload] # a Partition is such a pair, and takes longer to make
            part = slices.get(place)
        offset = message.offset()
        if cursor is None or offset is None or offset < cursor.offset:
            continue
        if part is None:
            partition = Partition(*place)  # type: ignore[arg-type] # the cursor has one
            part = slices[place] = PartitionSlice(partition, cursor.topic_id, cursor.offset, cursor.offset)
            part.first_at = max(0, message.timestamp()[1])
        part.skipped += offset - cursor.offset
        cursor.offset = part.next_offset = offset + 1
        value = message.value()
        if value is None:
            part.tombstones += 1
            continue
        try:
            headers = message.schema_headers if isinstance(message, HeadedMessage) else None
            part.rows.append((message, record_of(decoder, value, kept, headers)))
        except Rejected as rejected:
            part.quarantined.append(quarantine(message, rejected.reason, rejected.error))
    return list(slices.values())


def by_topic(slices: Iterable[PartitionSlice]) -> dict[str, list[PartitionSlice]]:
    """The slices of each topic."""
    topics: dict[str, list[PartitionSlice]] = {}
    for part in slices:
        topics.setdefault(part.partition.topic, []).append(part)
    return topics
