"""What becomes of a batch's rows inside a transaction: written, duplicate, conflict, or refused by PostgreSQL."""

from collections import Counter
from collections.abc import MutableMapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

import psycopg

from consumer.core.errors import Reason
from consumer.core.events import AuditRecord
from consumer.postgres import statements as sql
from consumer.postgres.batch import RenderedBatch, RenderedRow
from consumer.postgres.connection import Row
from consumer.postgres.failures import is_missing_partition, is_row_error
from consumer.postgres.rows import COPY_HEADER, COPY_TRAILER

if TYPE_CHECKING:
    from consumer.core.events import QuarantinedMessage

# By number, in C: every event of every batch comes this way.
_SLICE, _RECORD = map(itemgetter, map(RenderedRow._fields.index, ("slice_number", "record")))
_ACTION, _RESULT = map(itemgetter, map(AuditRecord._fields.index, ("action", "result")))

Cursor = psycopg.Cursor[Row]


class Outcome:
    """What becomes of the rows of a batch while its transaction runs; the counts are by slice."""

    def __init__(self, batch: RenderedBatch) -> None:
        self.batch = batch
        self.written = [0] * len(batch.slices)
        self.duplicates = [0] * len(batch.slices)
        self.accepted: MutableMapping[bytes, bytes] = {}  # event id → content hash, as the log holds it after this transaction
        self.kinds: Counter[tuple[str, str]] = Counter()
        """Written rows by action and result."""
        self.refused: list[tuple[RenderedRow, QuarantinedMessage]] = []

    def count(self, rows: Sequence[RenderedRow]) -> None:
        """The rows are in the log."""
        for number, count in Counter(map(_SLICE, rows)).items():
            self.written[number] += count
        records = list(map(_RECORD, rows))
        self.kinds.update(zip(map(_ACTION, records), map(_RESULT, records), strict=True))

    def refuse(self, row: RenderedRow, reason: Reason, error: str) -> None:
        """The row can't be in the log."""
        self.refused.append((row, self.batch.quarantined(row, reason, error)))


def settle(cursor: Cursor, outcome: Outcome) -> None:
    """Writes every row of the batch that the log does not hold; a row that PostgreSQL refuses is found alone.

    Raises:
        psycopg.errors.UniqueViolation: another writer brought one of the events since the look at the ledger; nothing of it may be kept.
    """
    batch = outcome.batch
    outcome.accepted.update(_known(cursor, batch))
    fresh = _unsettled(outcome, batch.rows)
    _write_rows(cursor, outcome, [row for row in fresh if row.event_id not in batch.suspects])
    for row in fresh:
        if row.event_id in batch.suspects:
            _write_rows(cursor, outcome, [row])
    # As if they came in a batch of their own: where the first one was refused, the next one has its chance.
    for row in batch.repeats:
        _write_rows(cursor, outcome, _unsettled(outcome, [row]))


def copy(cursor: Cursor, statement: str, rows: Sequence[bytes]) -> None:
    """One COPY of rendered rows."""
    if rows:
        with cursor.copy(statement) as target:
            target.write(b"".join((COPY_HEADER, *rows, COPY_TRAILER)))


def _known(cursor: Cursor, batch: RenderedBatch) -> dict[bytes, bytes]:
    if not batch.rows:
        return {}
    ids = ",".join([row.event_id.hex() for row in batch.rows])
    cursor.execute(sql.KNOWN_EVENTS, (f"{{{ids}}}",), binary=True)
    return dict(cursor.fetchall())


def _unsettled(outcome: Outcome, rows: Sequence[RenderedRow]) -> list[RenderedRow]:
    """The rows whose events the log does not hold; the others are duplicates or conflicts."""
    fresh = []
    for row in rows:
        content_hash = outcome.accepted.get(row.event_id)
        if content_hash is None:
            fresh.append(row)
        elif content_hash == row.content_hash:
            outcome.duplicates[row.slice_number] += 1
        else:
            outcome.refuse(row, Reason.CONFLICT, "the log holds this event_id with other content")
    return fresh


def _write_rows(cursor: Cursor, outcome: Outcome, rows: Sequence[RenderedRow]) -> None:
    """Copies the rows; where one is refused, halves them until it stands alone, and refuses that one only."""
    if not rows:
        return
    refusal = _refusal_of(cursor, rows, beyond=outcome.batch.beyond)
    if refusal is None:
        outcome.count(rows)
        outcome.accepted.update((row.event_id, row.content_hash) for row in rows)
    elif len(rows) > 1:
        half = len(rows) // 2
        _write_rows(cursor, outcome, rows[:half])
        _write_rows(cursor, outcome, rows[half:])
    elif isinstance(refusal, psycopg.errors.UniqueViolation):
        outcome.refuse(rows[0], Reason.CONFLICT, "the log holds this event, and the ledger does not know it")
    elif is_missing_partition(refusal):
        outcome.refuse(rows[0], Reason.OUT_OF_RANGE, "retention has removed the month of its time")
    else:
        # Not the server's text, which may quote the value.
        error = f"PostgreSQL refused the row: {type(refusal).__name__} (SQLSTATE {refusal.sqlstate})"
        outcome.refuse(rows[0], Reason.UNSTORABLE, error)


def _refusal_of(cursor: Cursor, rows: Sequence[RenderedRow], *, beyond: bool) -> psycopg.Error | None:
    """Copies the rows under a savepoint; None when they are in, else why PostgreSQL refuses one of them.

    A month that is missing is no refusal of the row, unless some are `beyond` retention: then the others were made before.
    """
    cursor.execute("SAVEPOINT rows")
    ledger_is_written = False
    try:
        copy(cursor, sql.COPY_LEDGER, [row.ledger for row in rows])
        ledger_is_written = True
        copy(cursor, sql.COPY_LOG, [row.log for row in rows])
    except psycopg.Error as error:
        # A key that the ledger did not hold a moment ago: another writer was faster, so look at the ledger again.
        race = isinstance(error, psycopg.errors.UniqueViolation) and not ledger_is_written
        if race or not is_row_error(error) or (is_missing_partition(error) and not beyond):
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT rows; RELEASE SAVEPOINT rows")
        return error
    cursor.execute("RELEASE SAVEPOINT rows")
    return None
