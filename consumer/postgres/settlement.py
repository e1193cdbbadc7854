"""Settling quarantined messages: into the log by the worker's own way of writing, or out of the open ones by a decision."""

from base64 import b64decode
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, LiteralString, NamedTuple

import psycopg

from consumer.core.clock import month_of
from consumer.core.errors import Rejected, TransientError
from consumer.core.events import AuditRecord, Partition, PartitionSlice
from consumer.postgres import statements as sql
from consumer.postgres.batch import RenderedBatch
from consumer.postgres.connection import ConnectionKeeper, Row
from consumer.postgres.failures import as_failure
from consumer.postgres.quarantine import SELECTED, Connect, Selection
from consumer.postgres.settling import Cursor, Outcome, settle

PAGE = 500
"""Most messages in one transaction."""

PAGE_BYTES = 8 * 1024 * 1024
"""Bytes of keys, values and headers after which a page takes no further message."""

DONE = ("written", "duplicate")
"""Outcomes of a retry after which the log holds the event."""

_RACES = 5
"""How often another writer may bring the same events at the same moment before a page gives up."""

# A named message is taken whatever its status, so that it can be said why nothing is done with it.
_OPEN = f"{SELECTED} AND (status = 'open' OR %(ids)s::bigint[] IS NOT NULL) AND id > %(after)s AND id <= %(last)s"

_BYTES = "coalesce(octet_length(value), 0) + coalesce(octet_length(key), 0) + coalesce(octet_length(headers::text), 0)"

_MESSAGES = f"""
WITH page AS (
    SELECT id, {_BYTES} AS bytes FROM audit.quarantine WHERE {_OPEN} ORDER BY id LIMIT {PAGE}
), sized AS (
    SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before FROM page
)
SELECT id, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, key, value, headers
FROM sized JOIN audit.quarantine USING (id) WHERE before < {PAGE_BYTES} ORDER BY id"""  # noqa: S608 - put together from constants

_PLACES = f"""
SELECT id, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, NULL::bytea, NULL::bytea, NULL::jsonb
FROM audit.quarantine WHERE {_OPEN} ORDER BY id LIMIT {PAGE}"""  # noqa: S608 - put together from constants

_NEWEST = "SELECT coalesce(max(id), 0) FROM audit.quarantine"

_LOCK = "SELECT id, status FROM audit.quarantine WHERE id = ANY(%s) ORDER BY id FOR UPDATE"

_RESOLVE = "UPDATE audit.quarantine SET status = %s, resolved_at = now(), resolved_by = %s WHERE id = ANY(%s)"

_TELL = """
INSERT INTO audit.quarantine_history (quarantine_id, who, action, outcome, note)
SELECT fate.id, %s, fate.action, fate.outcome, fate.note
FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS fate (id, action, outcome, note, number)
ORDER BY fate.number"""


class StoredMessage(NamedTuple):
    """A message as it came from Kafka, out of the quarantine; a `consumer.core.events.Message`."""

    id: int
    place: tuple[str, str, int, int]  # topic, topic id, partition, offset
    content: tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]] | None]  # key, value, headers

    def topic(self) -> str:
        """Name of the topic."""
        return self.place[0]

    def partition(self) -> int:
        """Number of the partition."""
        return self.place[2]

    def offset(self) -> int:
        """Offset in the partition."""
        return self.place[3]

    def key(self) -> bytes | None:
        """The key's bytes."""
        return self.content[0]

    def value(self) -> bytes | None:
        """The value's bytes."""
        return self.content[1]

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Headers in order."""
        return self.content[2]

    def timestamp(self) -> tuple[int, int]:
        """The quarantine keeps none."""
        return 0, 0


Judged = tuple[StoredMessage, AuditRecord | Rejected]
"""A message, and what the worker's decoding and mapping make of it."""


class Fate(NamedTuple):
    """What became (or would become) of one message."""

    message: StoredMessage
    outcome: str  # written, duplicate, discarded, the reason for which it still fails, or `already …`
    error: str | None = None


class Rehearsal:
    """A retry that is rolled back: the events that it would have written so far."""

    def __init__(self) -> None:
        self.accepted: dict[bytes, bytes] = {}  # event id → content hash


class Settlement:
    """Settles messages page by page. The guarantee is kept here: log, ledger, status and history change in one transaction or not at all.

    Never twice: a message must be open while its row is locked, and the ledger refuses an event that the log holds, whoever wrote it.
    The books of the positions are not touched: the offset stays counted as quarantined.
    """

    def __init__(self, connect: Connect) -> None:
        self._keeper = ConnectionKeeper(connect)

    def pages(self, selection: Selection, *, whole: bool) -> Iterator[list[StoredMessage]]:
        """The messages that are there now, oldest first, bounded in number and bytes; `whole`: with key, value and headers.

        Raises:
            TransientError: the database could not be asked.
        """
        after, last = 0, self._ask(_NEWEST, {})[0][0]
        while rows := self._ask(_MESSAGES if whole else _PLACES, selection.parameters() | {"after": after, "last": last}):
            yield [StoredMessage(row[0], row[1:5], (row[5], row[6], _headers(row[7]))) for row in rows]
            after = rows[-1][0]

    def retry(self, page: Sequence[Judged], who: str, rehearsal: Rehearsal | None = None) -> list[Fate]:
        """Writes the page's records and says what became of each message; with a rehearsal nothing of it stays.

        Raises:
            TransientError: nothing is known of the outcome; the same page may be tried again.
        """
        months = sorted({month_of(record.occurred_at) for _, record in page if isinstance(record, AuditRecord)})
        beyond = False
        try:
            if rehearsal is None:
                # Not in the page's transaction: making a partition must not lock the log for as long as a page takes.
                with self._keeper.use() as connection, connection.cursor() as cursor:
                    beyond = _make_months(cursor, months)
            for _ in range(_RACES):
                try:
                    return self._attempt(page, who, rehearsal, months, beyond=beyond)
                except psycopg.errors.UniqueViolation:
                    continue
        except psycopg.Error as error:
            raise as_failure(error) from error
        raise TransientError("PostgreSQL: other writers bring the same events at the same time")

    def discard(self, page: Sequence[StoredMessage], who: str, note: str, *, dry_run: bool) -> list[Fate]:
        """Sets the page's open messages aside for good; after a dry run nothing of it stays.

        Raises:
            TransientError: nothing is known of the outcome; the same page may be tried again.
        """
        try:
            with self._keeper.use() as connection, connection.cursor() as cursor:
                cursor.execute(sql.BEGIN)
                statuses = _locked(cursor, page)
                fates = [Fate(each, "discarded") for each in page if statuses[each.id] == "open"]
                _resolve(cursor, fates, "discarded", who)
                _tell(cursor, who, [(fate, "discarded", None, note) for fate in fates])
                cursor.execute("ROLLBACK" if dry_run else "COMMIT")
        except psycopg.Error as error:
            raise as_failure(error) from error
        return fates + _already(page, statuses)

    def close(self) -> None:
        """Closes the connection."""
        self._keeper.close()

    def _attempt(
        self, page: Sequence[Judged], who: str, rehearsal: Rehearsal | None, months: Sequence[date], *, beyond: bool
    ) -> list[Fate]:
        with self._keeper.use() as connection, connection.cursor() as cursor:
            cursor.execute(sql.BEGIN)
            if rehearsal is not None:
                beyond = _make_months(cursor, months)
            statuses = _locked(cursor, [message for message, _ in page])
            fates = _written(cursor, [each for each in page if statuses[each[0].id] == "open"], rehearsal, beyond=beyond)
            done = [fate for fate in fates if fate.outcome in DONE]
            _resolve(cursor, done, "retried", who)
            _tell(cursor, who, [(fate, "retried" if fate.outcome in DONE else "retry failed", fate.outcome, fate.error) for fate in fates])
            cursor.execute("COMMIT" if rehearsal is None else "ROLLBACK")
            return fates + _already([message for message, _ in page], statuses)

    def _ask(self, question: LiteralString, parameters: Mapping[str, Any]) -> list[Row]:
        try:
            with self._keeper.use() as connection:
                return connection.execute(question, parameters).fetchall()
        except psycopg.Error as error:
            raise as_failure(error) from error


def _make_months(cursor: Cursor, months: Sequence[date]) -> bool:
    """Makes the months; whether retention has removed one of them, which is then not made."""
    beyond = False
    for month in months:
        beyond |= cursor.execute(sql.ENSURE_MONTH, (month,)).fetchall() == [(None,)]
    return beyond


def _written(cursor: Cursor, page: Sequence[Judged], rehearsal: Rehearsal | None, *, beyond: bool) -> list[Fate]:
    """Writes by the worker's own way; one fate a message, in the page's order."""
    records = [(message, verdict) for message, verdict in page if isinstance(verdict, AuditRecord)]
    # A slice for each message, so that the counts by slice tell the fate of each.
    outcome = Outcome(RenderedBatch([_slice(message, record) for message, record in records]))
    outcome.batch.beyond = beyond
    if rehearsal is not None:
        outcome.accepted = ChainMap({}, rehearsal.accepted)
    settle(cursor, outcome)
    if rehearsal is not None:
        rehearsal.accepted.update(outcome.accepted)
    refused = {row.slice_number: message for row, message in outcome.refused}
    fates = {message.id: Fate(message, verdict.reason.value, verdict.error) for message, verdict in page if isinstance(verdict, Rejected)}
    for number, (message, _) in enumerate(records):
        if number in refused:
            fates[message.id] = Fate(message, refused[number].reason.value, refused[number].error)
        else:
            fates[message.id] = Fate(message, "written" if outcome.written[number] else "duplicate")
    return [fates[message.id] for message, _ in page]


def _slice(message: StoredMessage, record: AuditRecord) -> PartitionSlice:
    topic, topic_id, number, offset = message.place
    return PartitionSlice(Partition(topic, number), topic_id, offset, offset + 1, rows=[(message, record)])


def _locked(cursor: Cursor, page: Sequence[StoredMessage]) -> dict[int, str]:
    """The statuses, which nobody else changes until this transaction ends."""
    cursor.execute(_LOCK, ([message.id for message in page],))
    return {row[0]: row[1] for row in cursor.fetchall()}


def _resolve(cursor: Cursor, fates: Sequence[Fate], status: str, who: str) -> None:
    cursor.execute(_RESOLVE, (status, who, [fate.message.id for fate in fates]))


def _tell(cursor: Cursor, who: str, entries: Sequence[tuple[Fate, str, str | None, str | None]]) -> None:
    """Writes the history: fate, action, outcome, note."""
    ids = [fate.message.id for fate, *_ in entries]
    cursor.execute(_TELL, (who, ids, *([entry[column] for entry in entries] for column in (1, 2, 3))))


def _already(page: Sequence[StoredMessage], statuses: Mapping[int, str]) -> list[Fate]:
    """Of the messages that somebody settled before."""
    return [Fate(message, f"already {statuses[message.id]}") for message in page if statuses[message.id] != "open"]


def _headers(stored: list[list[str | None]] | None) -> list[tuple[str, bytes | None]] | None:
    """Headers as they came, out of their JSON."""
    if stored is None:
        return None
    return [(name or "", None if value is None else b64decode(value)) for name, value in stored]
