"""The nouns of the project: message, change event, audit record, and the slice of a batch that one partition contributes."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any, NamedTuple, Protocol

from consumer.core.errors import Reason

MAX_INDEXED_BYTES = 2_600
"""Of a tenant or a login name: an indexed text beyond about 2,704 bytes (after compression) is refused by PostgreSQL."""


class Message(Protocol):
    """Bytes from Kafka, as the client gives them."""

    def topic(self) -> str | None:
        """Name of the topic."""

    def partition(self) -> int | None:
        """Number of the partition."""

    def offset(self) -> int | None:
        """Offset in the partition."""

    def key(self) -> bytes | None:
        """The key's bytes."""

    def value(self) -> bytes | None:
        """The value's bytes; None is a tombstone."""

    def headers(self) -> Sequence[tuple[str, bytes | None]] | None:
        """Headers in order. May raise SystemError once where a name is no UTF-8: never call it twice."""

    def timestamp(self) -> tuple[int, int]:
        """Its kind, and milliseconds since 1970: when it was made or taken by Kafka, whichever the topic is set to."""


class Partition(NamedTuple):
    """A partition of a topic, by name."""

    topic: str
    number: int


class ChangeEvent(NamedTuple):
    """A decoded message, as the upstream system said it (`integration.audit.v1.IntegrationChangeEvent`)."""

    event_id: str
    occurred_at: int  # microseconds since 1970, UTC
    tenant: str
    actor: str | None
    source_ip: str | None
    result: str
    error_code: str | None
    change_type: str  # the change record's name without its namespace
    change: Mapping[str, Any]


class AuditRecord(NamedTuple):
    """A change event as the documented audit log holds it."""

    event_id: str  # canonical text of the UUID
    occurred_at: int  # microseconds since 1970, UTC
    tenant: str
    level: str
    service: str
    login_name: str
    module: str
    action: str
    result: str
    error_code: str | None
    complement: str  # canonical JSON text
    subject_type: str
    source_ip: str | None
    content_hash: bytes  # SHA-256 of the canonical JSON
    source_bytes: bytes | None  # the raw message, only where a value had to be altered to be storable


class QuarantinedMessage(NamedTuple):
    """A message that can't be in the log, byte for byte, with the reason."""

    offset: int
    reason: Reason
    error: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] | None


@dataclass(slots=True)
class PartitionSlice:
    """What one batch holds of one partition: every offset from `expected` to `next_offset` is accounted for here.

    `next_offset - expected == len(rows) + len(quarantined) + tombstones + skipped + expired`.
    """

    partition: Partition
    topic_id: str
    expected: int  # the position that PostgreSQL must hold for this write to be ours
    next_offset: int  # the position that it holds afterwards
    rows: list[tuple[Message, AuditRecord]] = field(default_factory=list)
    quarantined: list[QuarantinedMessage] = field(default_factory=list)
    tombstones: int = 0
    skipped: int = 0  # offsets that hold no message: transaction markers, compaction
    expired: int = 0  # offsets that Kafka's retention removed before they were read
    first_at: int = 0  # Kafka's timestamp of its first message, in milliseconds since 1970; 0: it has none

    @property
    def messages(self) -> int:
        """How many messages with a value it holds."""
        return len(self.rows) + len(self.quarantined)


class PartitionPosition(NamedTuple):
    """Where a partition stands in PostgreSQL."""

    topic_id: str
    next_offset: int


# Not `message.headers()`: the client returns a value with an exception set, and once CPython has specialised that call (after some tens of
# them) it no longer looks, so that the exception goes off later and somewhere else. A call through C always looks.
_read_headers: Callable[[Message], Sequence[tuple[str, bytes | None]] | None] = methodcaller("headers")


def headers_of(message: Message) -> tuple[Sequence[tuple[str, bytes | None]] | None, bool]:
    """The headers, and whether they could not be read: the client can't represent a name that is no UTF-8.

    Must be called once a message: a second look at those that could not be read can crash the process.
    """
    try:
        return _read_headers(message), False
    except (SystemError, UnicodeDecodeError):
        return None, True


def quarantine(message: Message, reason: Reason, error: str) -> QuarantinedMessage:
    """Takes the message over byte for byte. Must be called once a message, since its headers may be read only once."""
    headers, unreadable = headers_of(message)
    if unreadable:
        error += "; the headers could not be read (a name is not UTF-8)"
    offset = message.offset()
    if offset is None:
        raise ValueError("a delivered message has an offset")
    return QuarantinedMessage(offset, reason, error, message.key(), message.value(), headers)


def stored_headers(headers: Sequence[tuple[str, bytes | None]] | None) -> list[list[str | None]] | None:
    """Headers as the quarantine has them: [name, base64 of the value or null], in order. jsonb has no place for bytes, nor for NUL."""
    if headers is None:
        return None
    return [[name.replace("\x00", "\\u0000"), None if value is None else b64encode(value).decode()] for name, value in headers]
