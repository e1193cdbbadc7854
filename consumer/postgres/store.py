"""The store: one transaction a batch, fenced by the position, idempotent by the ledger."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import psycopg

from consumer.core.clock import month_after, month_of
from consumer.core.errors import FencedError, Reason, TransientError
from consumer.core.events import Partition, PartitionPosition, PartitionSlice
from consumer.core.ports import LogState
from consumer.postgres import statements as sql
from consumer.postgres.batch import RenderedBatch, quarantine_row
from consumer.postgres.connection import Connection, ConnectionKeeper
from consumer.postgres.failures import as_failure, is_missing_partition, is_row_error
from consumer.postgres.positions import positions_of
from consumer.postgres.settling import Cursor, Outcome, copy, settle

_RACES = 5
"""How often another writer may come between the look at the ledger and the COPY into it, before the batch waits its turn."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch's events, over all its slices."""

    written: int
    duplicates: int
    quarantined: tuple[tuple[str, Reason], ...]
    """Topic and reason of each message."""
    kinds: Mapping[tuple[str, str], int] = field(default_factory=dict, compare=False)
    """The written ones by action and result."""


class PostgresStore:
    """Writes batches. The guarantee is kept here: position, log, ledger, quarantine and books change in one transaction or not at all.

    The position must stand where the batch begins, or nothing is written (`FencedError`): so a batch that is tried again after an unknown
    outcome, and a worker that lost its partitions without knowing, can't write twice.

    Not for several threads at once, but for `cut`.
    """

    def __init__(self, connect: Callable[[], Connection], now: Callable[[], int]) -> None:
        self._keeper = ConnectionKeeper(connect)
        self._now = now  # microseconds since 1970
        self._months: set[Any] = set()
        self._expect_duplicates = False

    def prepare(self, slices: Sequence[PartitionSlice]) -> RenderedBatch:
        """Renders a batch; no input or output."""
        return RenderedBatch(slices)

    def write(self, batch: RenderedBatch) -> Written:
        """Writes the batch and commits.

        Raises:
            FencedError: the positions are not where the batch begins; nothing was written.
            TransientError: nothing is known of the outcome; the same batch may be written again.
        """
        try:
            if self._make_months(batch.months):
                batch.beyond = True  # and looked at again with the next batch: a hold may bring the month back
            # Duplicates come in swarms (a producer that repeats): after one the next batch looks at the ledger first.
            if not (self._expect_duplicates or batch.suspects or batch.contradicts or batch.beyond):
                try:
                    return self._transaction(self._write_unseen, batch)
                except psycopg.Error as error:
                    if not is_row_error(error):
                        raise
            for _ in range(_RACES):
                try:
                    written = self._transaction(self._write_compared, batch)
                except psycopg.errors.UniqueViolation:
                    continue
                self._expect_duplicates = written.duplicates > len(batch.repeats)
                return written
        except psycopg.Error as error:
            if is_missing_partition(error):
                self._months.clear()
            if isinstance(error, psycopg.errors.LockNotAvailable):
                self._end_blockers(_fence(batch.slices))
            raise as_failure(error) from error
        raise TransientError("PostgreSQL: other writers bring the same events at the same time")

    def open_positions(self, wanted: Mapping[Partition, tuple[str, int]]) -> dict[Partition, PartitionPosition]:
        """Where the partitions stand; one without a position gets one, at the offset given beside its topic id.

        Raises:
            TransientError: try again.
        """
        topics = [partition.topic for partition in wanted]
        numbers = [partition.number for partition in wanted]
        ids = [topic_id for topic_id, _ in wanted.values()]
        lows = [low for _, low in wanted.values()]
        try:
            with self._keeper.use() as connection, connection.cursor() as cursor:
                cursor.execute(sql.BEGIN)
                cursor.execute(sql.OPEN_POSITIONS, (topics, ids, numbers, lows))
                cursor.execute(sql.READ_POSITIONS, (topics, ids, numbers, lows))
                found = cursor.fetchall()
                cursor.execute("COMMIT")
        except psycopg.Error as error:
            if isinstance(error, psycopg.errors.LockNotAvailable):  # ON CONFLICT, too, waits for whoever is changing the row
                self._end_blockers((topics, ids, numbers, lows))
            raise as_failure(error) from error
        return {Partition(topic, number): PartitionPosition(topic_id, offset) for topic, number, topic_id, offset in found}

    def positions(self, wanted: Mapping[Partition, str]) -> dict[Partition, PartitionPosition]:
        """Where those of the partitions stand (each with its topic's id) that have a position; changes nothing.

        Raises:
            TransientError: try again.
        """
        try:
            with self._keeper.use() as connection:
                return positions_of(connection, wanted)
        except psycopg.Error as error:
            raise as_failure(error) from error

    def log_state(self) -> LogState:
        """How the log is, for the metrics; and the months ahead are made, for a log that nobody writes to must have them too.

        Raises:
            TransientError: it could not be asked.
        """
        try:
            self._make_months(frozenset())
            with self._keeper.use() as connection:
                connection.execute(sql.BEGIN_LOOK)
                (row,) = connection.execute(sql.LOG_STATE).fetchall()
                connection.execute("COMMIT")
                return LogState(*row)
        except psycopg.Error as error:
            raise as_failure(error) from error

    def cut(self) -> None:
        """Ends a call that hangs, from another thread: it then raises TransientError."""
        self._keeper.cut()

    def close(self) -> None:
        """Closes the connection."""
        self._keeper.close()

    def _make_months(self, months: AbstractSet[date]) -> bool:
        """Before the transaction, and in one of its own: making a partition must not lock the log for as long as a batch takes.

        Returns:
            Whether retention has removed one of them, which is then not made.
        """
        current = month_of(self._now())
        missing = ({current, month_after(current), month_after(current, 2)} | months) - self._months
        if not missing:
            return False
        beyond = False
        with self._keeper.use() as connection:
            for month in sorted(missing):
                if connection.execute(sql.ENSURE_MONTH, (month,)).fetchall() == [(None,)]:
                    beyond = True
                else:
                    self._months.add(month)
        return beyond

    def _transaction(self, write: Callable[[Cursor, RenderedBatch], Written], batch: RenderedBatch) -> Written:
        with self._keeper.use() as connection, connection.cursor() as cursor:
            try:
                cursor.execute(sql.BEGIN)
                written = write(cursor, batch)
                cursor.execute("COMMIT")
            except (FencedError, psycopg.errors.IntegrityError, psycopg.errors.DataError, psycopg.OperationalError) as error:
                if isinstance(error, FencedError) or is_row_error(error):
                    # The server is well, only the data was refused: keep the connection.
                    cursor.execute("ROLLBACK")
                    outcome: Exception = error
                else:
                    raise
            else:
                return written
        raise outcome

    def _write_unseen(self, cursor: Cursor, batch: RenderedBatch) -> Written:
        """The fast way: all events are taken to be new; the ledger's key refuses the batch where one is not."""
        outcome = Outcome(batch)
        outcome.count(batch.rows)
        for row in batch.repeats:
            outcome.duplicates[row.slice_number] += 1
        self._advance(cursor, outcome)
        copy(cursor, sql.COPY_LEDGER, [row.ledger for row in batch.rows])
        copy(cursor, sql.COPY_LOG, [row.log for row in batch.rows])
        return self._finish(cursor, outcome)

    def _write_compared(self, cursor: Cursor, batch: RenderedBatch) -> Written:
        """The careful way: what the ledger knows is told apart first, and a row that PostgreSQL refuses is found alone."""
        cursor.execute(sql.LOCK_POSITIONS, _fence(batch.slices))
        if [row[0] for row in cursor.fetchall()] != [True] * len(batch.slices):
            raise FencedError
        outcome = Outcome(batch)
        settle(cursor, outcome)
        self._advance(cursor, outcome)
        return self._finish(cursor, outcome)

    @staticmethod
    def _advance(cursor: Cursor, outcome: Outcome) -> None:
        """The fence and the books in one statement."""
        slices = outcome.batch.slices
        quarantined = [len(part.quarantined) for part in slices]
        for row, _ in outcome.refused:
            quarantined[row.slice_number] += 1
        cursor.execute(
            sql.ADVANCE,
            (
                *_fence(slices),
                [part.next_offset for part in slices],
                outcome.written,
                outcome.duplicates,
                quarantined,
                [part.tombstones for part in slices],
                [part.skipped for part in slices],
                [part.expired for part in slices],
            ),
        )
        if cursor.rowcount != len(slices):
            raise FencedError

    @staticmethod
    def _finish(cursor: Cursor, outcome: Outcome) -> Written:
        slices = outcome.batch.slices
        rows = [(part, message) for part in slices for message in part.quarantined]
        rows += [(slices[row.slice_number], message) for row, message in outcome.refused]
        if rows:
            cursor.executemany(sql.QUARANTINE, [quarantine_row(part, message) for part, message in rows])
        for part in slices:
            if part.expired:
                first = part.expected
                cursor.execute(sql.SOURCE_GAP, (*_source(part), first, first + part.expired))
        reasons = tuple((part.partition.topic, message.reason) for part, message in rows)
        return Written(sum(outcome.written), sum(outcome.duplicates), reasons, outcome.kinds)

    def _end_blockers(self, positions: tuple[list[str], list[str], list[int], list[int]]) -> None:
        """A frozen worker keeps the lock of its position for ever: its successor ends its backend (same role) and goes on."""
        try:
            with self._keeper.use() as connection:
                connection.execute(sql.END_BLOCKERS, positions)
        except psycopg.Error as error:
            raise as_failure(error) from error


def _source(part: PartitionSlice) -> tuple[str, str, int]:
    return part.partition.topic, part.topic_id, part.partition.number


def _fence(slices: Sequence[PartitionSlice]) -> tuple[list[str], list[str], list[int], list[int]]:
    topics, ids, numbers = zip(*map(_source, slices), strict=True)
    return list(topics), list(ids), list(numbers), [part.expected for part in slices]
