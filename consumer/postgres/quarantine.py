"""Reading the quarantine: which messages, everything about one, and what was done with it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from consumer.postgres.connection import Connection
from consumer.postgres.reading import rows_of


class Selection(NamedTuple):
    """Which messages; None (and no ids) means any."""

    ids: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()
    status: str | None = None
    topic: str | None = None
    partition: int | None = None
    since: datetime | None = None  # of quarantined_at, inclusive
    until: datetime | None = None  # exclusive

    def parameters(self) -> dict[str, Any]:
        """The parameters of SELECTED."""
        return self._asdict() | {"ids": list(self.ids) or None, "reasons": list(self.reasons) or None}


SELECTED = """(%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s::bigint[]))
  AND (%(reasons)s::text[] IS NULL OR reason = ANY (%(reasons)s::text[]))
  AND (%(status)s::text IS NULL OR status = %(status)s::text)
  AND (%(topic)s::text IS NULL OR kafka_topic = %(topic)s::text)
  AND (%(partition)s::int IS NULL OR kafka_partition = %(partition)s::int)
  AND (%(since)s::timestamptz IS NULL OR quarantined_at >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR quarantined_at < %(until)s::timestamptz)"""

_LIST = f"""
SELECT id, quarantined_at, kafka_topic, kafka_partition, kafka_offset, reason, error, status, octet_length(value) AS bytes
FROM audit.quarantine WHERE {SELECTED} ORDER BY id DESC LIMIT %(limit)s"""  # noqa: S608 - put together from constants

_COUNTS = f"""
SELECT reason, status, count(*) AS messages, min(quarantined_at) AS first, max(quarantined_at) AS last
FROM audit.quarantine WHERE {SELECTED} GROUP BY reason, status ORDER BY count(*) DESC, reason, status"""  # noqa: S608 - put together from constants

_ONE = """
SELECT id, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, reason, error, status, quarantined_at, resolved_at, resolved_by,
       key, value, headers
FROM audit.quarantine WHERE id = %s"""

_HISTORY = """
SELECT at, action, outcome, note, who, database_role FROM audit.quarantine_history WHERE quarantine_id = %s ORDER BY id"""

Connect = Callable[[], Connection]
Table = tuple[list[str], list[tuple[Any, ...]]]


def listed(connect: Connect, selection: Selection, limit: int) -> Table:
    """The newest messages, without their bytes."""
    return rows_of(connect, _LIST, selection.parameters() | {"limit": limit})


def counts(connect: Connect, selection: Selection) -> Table:
    """How many, by reason and status."""
    return rows_of(connect, _COUNTS, selection.parameters())


def one(connect: Connect, quarantine_id: int) -> dict[str, Any] | None:
    """The whole row by column; None where there is no such message."""
    columns, rows = rows_of(connect, _ONE, (quarantine_id,))
    return dict(zip(columns, rows[0], strict=True)) if rows else None


def history(connect: Connect, quarantine_id: int) -> list[dict[str, Any]]:
    """What was done with the message, oldest first."""
    columns, rows = rows_of(connect, _HISTORY, (quarantine_id,))
    return [dict(zip(columns, row, strict=True)) for row in rows]


def total(connect: Connect, selection: Selection) -> int:
    """How many there are."""
    columns, rows = counts(connect, selection)
    return sum(row[columns.index("messages")] for row in rows)


def statuses(connect: Connect, ids: Sequence[int]) -> dict[int, str]:
    """The status of each of these that there is."""
    _, rows = rows_of(connect, "SELECT id, status FROM audit.quarantine WHERE id = ANY(%s)", (list(ids),))
    return {row[0]: row[1] for row in rows}
