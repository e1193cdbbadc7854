"""`python -m tests.fuzz.seeds`: writes the corpus's first inputs anew, out of events and schemas that are known to matter."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro

from consumer.core.decoding import strip_logical_types
from consumer.core.framing import SINGLE_OBJECT
from consumer.schemas import event_schema
from tests.bed.events import ENCODER, event
from tests.fuzz.targets import MARKER, TARGETS, writers

CORPUS = Path(__file__).parent / "corpus"
_ID = "0198c0de-0000-7000-8000-000000000001"
_NAMED = {"name": f"{MARKER}n", "id": f"{MARKER}i"}
_CLIENT = {"client_name": f"{MARKER}c", "client_id": f"{MARKER}d"}
CHANGES: tuple[dict[str, Any], ...] = (
    {"type": "OAuthClientAdded", **_CLIENT},
    {"type": "OAuthClientDeleted", **_CLIENT},
    {"type": "IntegrationEnabled", "target": {"type": "OAuthClient", **_NAMED}},
    {"type": "PermittedUsersUpdated", "target": {"type": "ExternalService", **_NAMED}},
    {"type": "SlackSettingUpdated", "enabled": False},
    {"type": "ApiTokenGenerated", "token_id": f"{MARKER}t", "scope": [f"{MARKER}s", MARKER],
     "validity": {"start": "2026-11-20T09:00:00Z", "end": None}},
    {"type": "IntegrationAuthorized", "target": {"type": "OAuthClient", **_NAMED}, "scopes": [MARKER] * 3},
)  # fmt: skip
_LEAF = "string"
HOSTILE_SCHEMAS: dict[str, Any] = {
    "recursion": {"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]},
    "array-of-null": {"type": "array", "items": "null"},
    "giant-decimal": {"type": "bytes", "logicalType": "decimal", "precision": 10**9},
    "junk-logical": {"type": "long", "logicalType": {"a": []}},
    "namespace-null": {"type": "enum", "name": "E", "namespace": None, "symbols": ["A"]},
    "empty-enum": {"type": "enum", "name": "E", "symbols": []},
    "huge-fixed": {"type": "fixed", "name": "F", "size": 2**62},
    "no-name": [{"type": "record"}],
    "type-of-type": {"type": {"type": {"type": ["null", {"type": "map", "values": "long"}]}}},
}


def inputs() -> dict[str, dict[str, bytes]]:
    """By target and name."""
    values = {}
    for change in CHANGES:
        texts = {"tenant": f"{MARKER}a", "actor": f"{MARKER}u", "error_code": f"{MARKER}e"}
        values[change["type"]] = ENCODER.encode(event(change, event_id=_ID, **texts))
    sample = values["IntegrationAuthorized"]
    found: dict[str, dict[str, bytes]] = {
        "framing": {
            "empty": b"", "marker": SINGLE_OBJECT, "event": values["SlackSettingUpdated"],
            "unknown": SINGLE_OBJECT + b"12345678" + sample[10:], "confluent": b"\x00\x00\x00\x00\x07" + sample[10:],
            "guid": b"\x01" + bytes(range(16)) + sample[10:], "headers": b"\xfe\x02\x05\x00\x00\x00\x00\x07\x04abcd" + sample[10:],
        },
        "datum": {name: b"\x00" + value[10:] for name, value in values.items()},
        "schema": {name: json.dumps(schema).encode() for name, schema in HOSTILE_SCHEMAS.items()},
    }  # fmt: skip
    found["datum"]["nul"] = b"\x00" + sample[10:].replace(MARKER.encode(), b"M\x00#")
    found["datum"]["stray"] = b"\x00" + sample[10:].replace(MARKER.encode(), b"M\xff\xed")
    found["datum"]["bomb"] = b"\x00" + sample[10:].replace(b"\x06\x06" + MARKER.encode(), b"\xfe\xff\xff\xff\x0f")
    for number, (_, schema) in enumerate(writers()):
        if "renamed" not in str(schema) and number:
            found["datum"][f"writer-{number}"] = bytes((number,)) + _written(schema)
    own = {key: text for key, text in event_schema().items() if key != "doc"}
    found["schema"]["ours"] = json.dumps(own, separators=(",", ":")).encode() + b"\x00" + values["IntegrationEnabled"][10:]
    return found


def _written(schema: Any) -> bytes:
    """Our event in another writer's schema, so far as it fits; else what there is of it."""
    stream = BytesIO()
    try:
        fastavro.schemaless_writer(
            stream, fastavro.parse_schema(strip_logical_types(schema)), ENCODER.datum(event(CHANGES[0], event_id=_ID))
        )
    except (ValueError, TypeError, KeyError):
        return ENCODER.encode(event(CHANGES[0], event_id=_ID))[10:]
    return stream.getvalue()


def main() -> None:
    """Writes them."""
    made = inputs()
    for target in TARGETS:
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in made[target].items():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
