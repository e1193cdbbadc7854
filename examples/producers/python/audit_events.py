"""Change events for the audit log: made once, encoded once."""

import os
import secrets
import time
import uuid
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

_FILE = Path(__file__).resolve().parents[3] / "schemas" / "v1" / "IntegrationChangeEvent.avsc"
SCHEMA = fastavro.schema.load_schema(os.environ.get("SCHEMA_FILE", _FILE))
HEADER = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(SCHEMA), "CRC-64-AVRO"))
"""Avro single-object encoding: a marker, and which schema the datum behind it is written with."""


class EncodedEvent(NamedTuple):
    """What is sent, and sent again when in doubt: always these bytes, never made anew."""

    event_id: str
    key: bytes
    value: bytes


def change_event(tenant: str, change_type: str, change: dict[str, Any], *, actor: str | None, **fields: Any) -> EncodedEvent:
    """The event of a change that is being made now. Call it once a change: it gives the event its id and its time.

    Args:
        tenant: whose log it belongs to; also the key.
        change_type: one of the ten records, such as `OAuthClientAdded`.
        change: the fields of that record.
        actor: login name of who made the change.
        fields: `source_ip`, `result` and `error_code`, where they are known.
    """
    event = {
        "event_id": uuid7(),
        "occurred_at": datetime.now(UTC),
        "tenant": tenant,
        "actor": actor,
        "result": "SUCCESS",
        **fields,
        "change": (f"integration.audit.v1.{change_type}", change),
    }
    stream = BytesIO(HEADER)
    stream.seek(len(HEADER))
    fastavro.schemaless_writer(stream, SCHEMA, event, strict_allow_default=True)  # a misspelt field is an error
    return EncodedEvent(event["event_id"], tenant.encode(), stream.getvalue())


def uuid7() -> str:
    """A UUIDv7: ids in the order of time (`uuid.uuid7()` from Python 3.14 on)."""
    random = secrets.randbits(74)
    value = time.time_ns() // 1_000_000 << 80 | 0x7 << 76 | random >> 62 << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=value))
