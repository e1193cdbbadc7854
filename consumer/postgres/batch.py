"""A batch rendered for PostgreSQL, made while the batch before it is being written."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from consumer.core.canonical import storable_text
from consumer.core.clock import DAY, month_of
from consumer.core.errors import Reason
from consumer.core.events import AuditRecord, Message, PartitionSlice, QuarantinedMessage, quarantine, stored_headers
from consumer.postgres.rows import is_suspect, ledger_row, log_row, source_fields


class RenderedRow(NamedTuple):
    """One event as the two COPYs take it."""

    event_id: bytes
    content_hash: bytes
    ledger: bytes
    log: bytes
    slice_number: int  # which of the batch's slices it belongs to
    message: Message
    record: AuditRecord


# A named tuple's own constructor binds each field by its name, which takes three times as long.
_row: Callable[[type[RenderedRow], tuple[Any, ...]], RenderedRow] = tuple.__new__


class RenderedBatch:
    """The rows of all slices, in the order of their event ids.

    In one order, since two workers that insert overlapping ids in different orders would deadlock.
    """

    def __init__(self, slices: Sequence[PartitionSlice]) -> None:
        self.slices = slices
        self.repeats: list[RenderedRow] = []
        """Rows whose event id an earlier row of the batch has: what becomes of them depends on what becomes of that one."""
        self.contradicts = False
        """Whether one of them has other content."""
        self.suspects: set[bytes] = set()
        """Event ids of rows that PostgreSQL may refuse, better written alone."""
        self.beyond = False
        """Whether retention has removed a month that rows of it belong to; they can't be in the log."""
        self._headers: dict[tuple[int, int | None], QuarantinedMessage] = {}
        rows: dict[bytes, RenderedRow] = {}
        days: set[int] = set()
        for number, part in enumerate(slices):
            source = source_fields(part.partition.topic, part.partition.number)
            for message, record in part.rows:
                event_id = bytes.fromhex(record.event_id.replace("-", ""))
                row = _row(
                    RenderedRow,
                    (
                        event_id,
                        record.content_hash,
                        ledger_row(event_id, record),
                        log_row(event_id, record, source, message.offset() or 0),
                        number,
                        message,
                        record,
                    ),
                )
                first = rows.setdefault(event_id, row)
                if first is not row:
                    self.repeats.append(row)
                    self.contradicts |= first.content_hash != row.content_hash
                    continue
                days.add(record.occurred_at // DAY)
                if is_suspect(record):
                    self.suspects.add(event_id)
        self.months = {month_of(day * DAY) for day in days}
        self.rows = [rows[event_id] for event_id in sorted(rows)]

    def quarantined(self, row: RenderedRow, reason: Reason, error: str) -> QuarantinedMessage:
        """The row's message for the quarantine; its headers are read once, however often the write is tried."""
        key = (row.slice_number, row.message.offset())
        message = self._headers.get(key)
        if message is None:
            message = self._headers[key] = quarantine(row.message, reason, error)
        return message._replace(reason=reason, error=error)


def quarantine_row(part: PartitionSlice, message: QuarantinedMessage) -> tuple[Any, ...]:
    """The parameters of the statement QUARANTINE."""
    headers = stored_headers(message.headers)
    return (
        part.partition.topic,
        part.topic_id,
        part.partition.number,
        message.offset,
        message.reason.value,
        # What other libraries say of a schema quotes it, and what is in it PostgreSQL may not be able to hold.
        storable_text(message.error),
        message.key,
        message.value,
        None if headers is None else json.dumps(headers),
    )
