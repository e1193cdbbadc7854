"""What a reconciliation can find. A finding names things and places, never a value of an event."""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What is wrong; docs/reconcile.md says of each what to do."""

    MISSING = "missing"  # what must be there is not
    DIFFERENT = "different"  # it is there, and not as it must be
    DOUBLED = "doubled"  # it is there more than once
    EXTRA = "extra"  # it is there, and nothing in Kafka or in the books accounts for it
    BOOKS = "books"  # the counts are not what is there
    UNREADABLE = "unreadable"  # it can't be compared with the settings of this process


class Table(StrEnum):
    """Where it is wrong."""

    LOG = "audit_log"
    LEDGER = "event"
    QUARANTINE = "quarantine"
    POSITION = "consumer_position"
    GAP = "source_gap"
    KAFKA = "Kafka"


class Finding(NamedTuple):
    """One thing that is wrong."""

    finding: Kind
    table: Table
    topic: str | None
    partition: int | None
    offset: int | None
    event_id: str | None
    columns: tuple[str, ...]
    detail: str
