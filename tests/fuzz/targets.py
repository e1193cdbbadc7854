"""What the fuzzers call, with any bytes: each target raises AssertionError, or anything at all, where the worker would have been hurt.

The invariant: bytes become a record that PostgreSQL's row can be made of, or a verdict of the closed list; a schema is learned or refused.
Nothing else is ever raised, and no verdict holds a value of the message.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from consumer.core.canonical import canonical_json, content_hash
from consumer.core.decoding import Decoder
from consumer.core.errors import HostileSchemaError, Reason, Rejected
from consumer.core.explaining import explain
from consumer.core.framing import SCHEMA_HEADER, SINGLE_OBJECT, Headers
from consumer.core.mapping import audit_record
from consumer.core.references import self_contained
from consumer.postgres.rows import ledger_row, log_row
from consumer.schemas import event_schema
from tests.bed.evolution import FOLDER

MARKER = "Mk#"
"""Stands in every text of the corpus's events: a verdict that holds it holds a value."""
NAME = b"\x00\x00\x00\x07"
"""A registry's id."""
_MOST_BYTES = 1_048_576
_OF_A_MESSAGE = {Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA, Reason.UNMAPPED_CHANGE, Reason.INVALID_EVENT, Reason.OVERSIZED}


@cache
def writers() -> tuple[tuple[bytes, Mapping[str, Any]], ...]:
    """The schemas that the datum target writes with, by fingerprint: ours first, then those of other versions."""
    schemas = [event_schema(), *(json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.avsc")))]
    known = Decoder(event_schema(), [], _MOST_BYTES)
    return tuple((known.learn(schema), schema) for schema in schemas if schema["name"] == "IntegrationChangeEvent")


@cache
def decoder() -> Decoder:
    """Knows all of them."""
    return Decoder(event_schema(), [schema for _, schema in writers()], _MOST_BYTES, with_registry=True)


def judge(value: bytes, headers: Headers | None = None) -> Reason | None:
    """Decodes, maps and renders one message, and holds what comes out to the invariant; the verdict, or None for a record."""
    known = decoder()
    known.missing(value, headers)
    explain(value, dict(writers()), headers)
    verdict: Rejected | None = None
    try:
        record = audit_record(known.decode(value, headers), value)
    except Rejected as rejected:
        verdict = rejected
    if verdict is not None:
        assert verdict.reason in _OF_A_MESSAGE, verdict.reason
        assert MARKER not in verdict.error, verdict.error
        assert len(verdict.error) < 300, verdict.error
        return verdict.reason
    assert content_hash(canonical_json(record[:13]).encode()) == record.content_hash
    assert record.source_bytes in (None, value)
    json.loads(record.complement)
    if -(2**62) < record.occurred_at < 2**62:  # others are out of range, before a row is made
        event_id = bytes.fromhex(record.event_id.replace("-", ""))
        row = log_row(event_id, record, b"", 0)
        assert b"\x00" not in record.complement.encode()
        assert len(row) < 1_000 + 14 * len(value), (len(row), len(value))
        ledger_row(event_id, record)
    return None


def framing(data: bytes) -> None:
    """A value; where it begins with FE, some headers come first: count, then name and content by their lengths."""
    headers: list[tuple[str, bytes | None]] | None = None
    if data[:1] == b"\xfe":
        count, data, headers = (data[1] % 4 if len(data) > 1 else 0), data[2:], []
        for _ in range(count):
            size = data[0] % 32 if data else 0
            content, data = data[1 : 1 + size], data[1 + size :]
            headers.append((SCHEMA_HEADER if size % 2 else content.decode(errors="replace"), content))
    judge(data, headers)


def datum(data: bytes) -> None:
    """One byte for the writer's schema, then the datum."""
    if data:
        mark = writers()[data[0] % len(writers())][0]
        judge(SINGLE_OBJECT + mark + data[1:])


def schema(data: bytes) -> None:
    """A schema as JSON, then NUL and a datum that is written with it."""
    text, _, content = data.partition(b"\x00")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return
    known = decoder()
    known.refuse(NAME, "unknown")
    with suppress(HostileSchemaError):
        known.learn(self_contained(given, [given]), NAME)
        judge(b"\x00" + NAME + content)


TARGETS: dict[str, Callable[[bytes], None]] = {"framing": framing, "datum": datum, "schema": schema}
