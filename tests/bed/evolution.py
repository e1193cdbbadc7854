"""Producers with other versions of the schema: the worked examples in `schemas/evolution`, and events written with them."""

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro

from consumer.core.decoding import schema_fingerprint, strip_logical_types
from consumer.core.framing import SINGLE_OBJECT
from consumer.schemas import schema_folder
from tests.bed.events import ENCODER, event

FOLDER = schema_folder() / "evolution"
NAMESPACE = "integration.audit.v1"

Datum = dict[str, Any]

CLIENT = {"type": "OAuthClientAdded", "client_name": "Reporting", "client_id": "c-1"}
SLACK = {"type": "SlackSettingUpdated", "enabled": True}
ENABLED = {"type": "IntegrationEnabled", "target": {"type": "OAuthClient", "name": "Reporting", "id": "c-1"}}
DELETED = {"type": "ApiTokenDeleted", "token_id": "t-1"}
VALIDITY = {"start": "1970-01-01T00:00:01Z", "end": None}
GENERATED = {"type": "ApiTokenGenerated", "token_id": "t-1", "scope": ["read"], "validity": VALIDITY}


def writer_schema(name: str) -> dict[str, Any]:
    """One of the examples."""
    schema: dict[str, Any] = json.loads((FOLDER / f"{name}.avsc").read_text())
    return schema


def written_with(name: str, datum: Datum) -> bytes:
    """A message's value."""
    schema = writer_schema(name)
    stream = BytesIO(SINGLE_OBJECT + schema_fingerprint(schema))
    stream.seek(0, 2)
    fastavro.schemaless_writer(stream, fastavro.parse_schema(strip_logical_types(schema)), datum)
    return stream.getvalue()


def _change(datum: Datum) -> Datum:
    found: Datum = datum["change"][1] if isinstance(datum["change"], tuple) else datum["change"]
    return found


def _unknown_fields(datum: Datum) -> None:
    datum["request_id"] = "r-1"
    if "client_id" in _change(datum):
        _change(datum)["redirect_uris"] = ["https://example.org"]


def _narrow(datum: Datum) -> None:
    datum["tenant"] = datum["tenant"].encode()


def _renamed(datum: Datum) -> None:
    datum["organization"] = datum.pop("tenant")
    name, change = datum["change"]
    if name.endswith("SlackSettingUpdated"):
        datum["change"] = (f"{NAMESPACE}.SlackSettingChanged", change)
    elif name.endswith("ApiTokenDeleted"):
        change["id"] = change.pop("token_id")


def _without(datum: Datum) -> None:
    del datum["source_ip"], datum["error_code"]


def _as_it_is(_: Datum) -> None: ...


ADAPT: dict[str, Callable[[Datum], None]] = {
    "older-without-optional-fields": _without,
    "newer-with-unknown-fields": _unknown_fields,
    "newer-with-eleventh-change": _as_it_is,
    "newer-with-symbol": _as_it_is,
    "promoted-types": _narrow,
    "reordered-unions": _as_it_is,
    "renamed": _renamed,
}
"""What the producer's datum has otherwise than ours."""


def pair(name: str, change: dict[str, Any], **fields: Any) -> tuple[dict[str, Any], bytes]:
    """An event in the contract's JSON form, and the message of a producer with the example's schema."""
    said = event(change, **fields)
    datum = ENCODER.datum(said)
    ADAPT[name](datum)
    return said, written_with(name, datum)


def eleventh_change() -> bytes:
    """A message with a change type that this version does not know."""
    datum = ENCODER.datum(event())
    datum["change"] = (f"{NAMESPACE}.WebhookAdded", {"webhook_id": "w-1"})
    return written_with("newer-with-eleventh-change", datum)


def new_symbol() -> bytes:
    """A message with a result that this version does not know."""
    return written_with("newer-with-symbol", {**ENCODER.datum(event()), "result": "TIMED_OUT"})
