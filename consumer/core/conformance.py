"""What the worker would do with a message, for those who make them: the outcome, the field that decides it, and what is legal but unwise.

A verdict names fields, places and bytes; it holds no value of an event.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from consumer.core.actions import NOBODY
from consumer.core.decoding import Decoder
from consumer.core.errors import Reason, Rejected
from consumer.core.events import MAX_INDEXED_BYTES, AuditRecord
from consumer.core.explaining import Explanation, explain, with_verdict
from consumer.core.framing import Headers
from consumer.core.slicing import record_of

CLOCK_SKEW = 60_000_000
"""Microseconds that a clock may be ahead without a warning."""

_UUID_VERSION = 14
"""Where a UUID's text tells its version."""


class Outcome(StrEnum):
    """Where a message would end."""

    WRITTEN = "written"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    TOMBSTONE = "tombstone"
    NO_EVENT = "no event"
    """A line of JSON that can't be encoded: it would never reach the worker."""


class Place(NamedTuple):
    """Where a message stands in the input: a line (or a whole file, line 1), or an offset of a partition."""

    line: int | None = None
    partition: int | None = None
    offset: int | None = None

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}" if self.line is None else str(self.line)


class Advice(NamedTuple):
    """A field and what is unwise about it."""

    field: str
    warning: str


class Verdict(NamedTuple):
    """What would become of one message."""

    place: Place
    outcome: Outcome
    action: str | None = None
    reason: Reason | None = None  # of the quarantine
    error: str | None = None
    field: str | None = None  # which one decides, where it is one
    byte: int | None = None  # its first byte in the message's value, or where the bytes stop to make sense
    earlier: Place | None = None  # the message in this input that has the same event_id
    advice: tuple[Advice, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether the message is as the worker wants it."""
        return self.outcome not in (Outcome.QUARANTINED, Outcome.NO_EVENT)


class Conformance:
    """Judges the messages of one input in their order. Remembers an id and a hash of each event, to know it again.

    Args:
        decoder: the worker's.
        schemas: every writer schema known, by fingerprint, id or GUID; asked again for each message that is refused.
        now: microseconds since 1970.
        kept: first and last time that the log takes.
        with_registry: whether headers may name a schema.
    """

    def __init__(
        self,
        decoder: Decoder,
        schemas: Callable[[], Mapping[bytes, Mapping[str, Any]]],
        *,
        now: int,
        kept: tuple[int, int],
        with_registry: bool = False,
    ) -> None:
        self._decoder = decoder
        self._schemas = schemas
        self._now = now
        self._kept = kept
        self._with_registry = with_registry
        self._seen: dict[str, tuple[bytes, Place]] = {}

    def judge(self, place: Place, value: bytes | None, headers: Headers | None, key: bytes | None, *, keyed: bool) -> Verdict:
        """The verdict on one message; `keyed`: whether the input tells its key at all."""
        if value is None:
            unwise = Advice("value", "is null: a tombstone removes nothing from an audit log, it is only counted")
            return Verdict(place, Outcome.TOMBSTONE, advice=(unwise,))
        try:
            record = record_of(self._decoder, value, self._kept, headers)
        except Rejected as rejected:
            return self._rejected(place, value, headers, rejected)
        known = self._seen.setdefault(record.event_id, (record.content_hash, place))
        advice = tuple(_advice(record, self._now, key, keyed=keyed))
        if known[1] is place:
            return Verdict(place, Outcome.WRITTEN, record.action, advice=advice)
        if known[0] == record.content_hash:
            return Verdict(place, Outcome.DUPLICATE, record.action, earlier=known[1], advice=advice)
        conflict = Rejected(Reason.CONFLICT, "event_id was used before, for an event with other content")
        return self._rejected(place, value, headers, conflict)._replace(earlier=known[1])

    def _rejected(self, place: Place, value: bytes, headers: Headers | None, rejected: Rejected) -> Verdict:
        """With the field's place. An oversized value is not looked into: the worker would not either."""
        reason = rejected.reason
        if reason is Reason.OVERSIZED:
            return Verdict(place, Outcome.QUARANTINED, reason=reason, error=rejected.error)
        known = explain(value, self._schemas(), (headers or ()) if self._with_registry else None)
        found: Explanation = with_verdict(known, rejected)
        byte = None if found.mark is None else found.mark[0]
        path = None if found.path is None else _without_keys(found.path)
        return Verdict(place, Outcome.QUARANTINED, reason=reason, error=rejected.error, field=path, byte=byte)


def no_event(line: int, error: str) -> Verdict:
    """The verdict on a line of JSON that the encoder refuses; the error begins with the field's path and a colon."""
    field, colon, rest = error.partition(": ")
    found = field if colon and field != "the event" else None
    return Verdict(Place(line), Outcome.NO_EVENT, error=rest if found else error, field=found)


def _without_keys(path: str) -> str:
    """The path without the keys of maps, which are values of the event; the numbers of arrays' items stay."""
    return re.sub(r"\[(?!\d+\](?:[.\[]|$)).*", "[…]", path, flags=re.DOTALL)


def _advice(record: AuditRecord, now: int, key: bytes | None, *, keyed: bool) -> Iterator[Advice]:
    """What is legal but unwise."""
    long = "is so long that PostgreSQL's index may refuse the row (unstorable)"
    order = "the events of a tenant then lie in several partitions, and their order is lost"
    cases = (
        (
            "event_id",
            record.event_id[_UUID_VERSION] != "7",
            "is no UUIDv7: ids in the order of time keep the ledger's index quick",
        ),
        ("key", keyed and key is None, f"is missing: {order}"),
        ("key", keyed and key is not None and key != record.tenant.encode(), f"is not the tenant: {order}"),
        ("occurred_at", record.occurred_at > now + CLOCK_SKEW, "is in the future: more than a day ahead it would be out of range"),
        ("tenant", not record.tenant, "is empty"),
        ("tenant", len(record.tenant.encode()) > MAX_INDEXED_BYTES, long),
        ("actor", len(record.login_name.encode()) > MAX_INDEXED_BYTES, long),
        ("actor", record.login_name == NOBODY, f"is missing: the log will say {NOBODY}"),
        ("error_code", record.result != "SUCCESS" and record.error_code is None, "is missing, though the result is no success"),
        ("", record.source_bytes is not None, "a text holds NUL or half a surrogate pair: it is stored escaped"),
    )
    return (Advice(field, warning) for field, holds, warning in cases if holds)
