"""Bytes → ChangeEvent: the framing, the writer's schema, and the strict reader for it."""

from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any, NamedTuple

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from consumer.core.avro import compile_reader, full_name
from consumer.core.avro_values import MalformedDatumError
from consumer.core.errors import HostileSchemaError, Reason, Rejected
from consumer.core.events import ChangeEvent

SINGLE_OBJECT = b"\xc3\x01"
_HEADER = 10  # marker and fingerprint
CONFLUENT = 0
_CONFLUENT_HEADER = 5

EVENT = "integration.audit.v1.IntegrationChangeEvent"


class _Writer(NamedTuple):
    """A known writer schema: its strict reader and, where it differs from ours, how its datum becomes ours."""

    read: Callable[[bytes, int], Any]
    resolve: Callable[[bytes], Any] | None


class Decoder:
    """Decodes messages of every known writer schema into change events.

    Args:
        event_schema: our schema, the reader's.
        writer_schemas: schemas that producers may write with, ours among them or not.
        max_message_bytes: a longer value is refused unread.

    Raises:
        HostileSchemaError: one of the schemas is refused.
    """

    def __init__(self, event_schema: Mapping[str, Any], writer_schemas: Iterable[Mapping[str, Any]], max_message_bytes: int) -> None:
        self._max_bytes = max_message_bytes
        self._reader = event_schema
        self._own = schema_fingerprint(event_schema)
        self._changes = _branches(event_schema)
        self._writers: dict[bytes, _Writer] = {}
        for schema in (event_schema, *writer_schemas):
            self.learn(schema)

    def learn(self, schema: Mapping[str, Any]) -> bytes:
        """Adds a writer schema; returns its fingerprint as it stands in a message."""
        read = compile_reader(schema)  # first of all: what is hostile must not reach another library
        mark = schema_fingerprint(schema)
        if mark not in self._writers:
            if full_name(dict(schema)) != EVENT:
                raise HostileSchemaError(f"the schema's record is not {EVENT}")
            self._writers[mark] = _Writer(read, None if mark == self._own else self._resolver(schema))
        return mark

    def decode(self, value: bytes) -> ChangeEvent:
        """The change event in a message's value.

        Raises:
            Rejected: `undecodable`, `unknown schema`, `unmapped change`, `invalid event` or `oversized`.
        """
        if len(value) > self._max_bytes:
            raise Rejected(Reason.OVERSIZED, f"{len(value)} bytes; AUDIT_MAX_MESSAGE_BYTES is {self._max_bytes}")
        writer = self._writers.get(value[2:_HEADER]) if value[:2] == SINGLE_OBJECT else None
        if writer is None:
            raise _unframed(value)
        try:
            datum = writer.read(value, _HEADER)
        except MalformedDatumError as error:
            raise Rejected(Reason.UNDECODABLE, f"not an event of its schema: {error}") from None
        if writer.resolve is not None:
            datum = self._resolved(writer.resolve, datum, value)
        name, change = datum["change"]
        return ChangeEvent(
            datum["event_id"],
            datum["occurred_at"],
            datum["tenant"],
            datum["actor"],
            datum["source_ip"],
            datum["result"],
            datum["error_code"],
            name.rpartition(".")[2],
            change,
        )

    def _resolver(self, schema: Mapping[str, Any]) -> Callable[[bytes], Any]:
        writer = fastavro.parse_schema(strip_logical_types(schema))
        reader = fastavro.parse_schema(strip_logical_types(self._reader))

        def resolve(value: bytes) -> Any:
            stream = BytesIO(value)
            stream.seek(_HEADER)
            return fastavro.schemaless_reader(stream, writer, reader, return_record_name=True, handle_unicode_errors="surrogateescape")

        return resolve

    def _resolved(self, resolve: Callable[[bytes], Any], datum: Any, value: bytes) -> Any:
        """The datum of another writer schema as one of ours. The strict reader has been over the bytes before."""
        change = datum.get("change")
        if not isinstance(change, tuple) or change[0] not in self._changes:
            raise Rejected(Reason.UNMAPPED_CHANGE, "this version knows no change of the type in the message")
        try:
            return resolve(value)
        except Exception as error:  # the one broad except: hostile bytes meet somebody else's resolver, which raises what it likes
            raise Rejected(Reason.INVALID_EVENT, f"the writer's schema does not resolve to ours ({type(error).__name__})") from error


def _branches(schema: Mapping[str, Any]) -> set[str]:
    (change,) = (field["type"] for field in schema["fields"] if field["name"] == "change")
    return {full_name(branch, schema.get("namespace", "")) for branch in change}


def _unframed(value: bytes) -> Rejected:
    """What to say of a message that no known writer schema can read."""
    if not value:
        return Rejected(Reason.UNDECODABLE, "an empty value; a tombstone has none at all")
    if value[:2] == SINGLE_OBJECT:
        if len(value) < _HEADER:
            return Rejected(Reason.UNDECODABLE, "the bytes end inside the single-object header")
        return Rejected(Reason.UNKNOWN_SCHEMA, f"no schema is known with the fingerprint {value[2:_HEADER].hex()}")
    if value[0] == CONFLUENT:
        if len(value) < _CONFLUENT_HEADER:
            return Rejected(Reason.UNDECODABLE, "the bytes end inside the Confluent header")
        schema_id = int.from_bytes(value[1:_CONFLUENT_HEADER], "big")
        return Rejected(Reason.UNKNOWN_SCHEMA, f"Confluent framing with schema id {schema_id}, and no schema registry is read")
    return Rejected(Reason.UNDECODABLE, "neither Avro single-object encoding nor Confluent framing (first bytes unknown)")


def schema_fingerprint(schema: Mapping[str, Any]) -> bytes:
    """CRC-64-AVRO of the parsing canonical form, the eight bytes in the order in which they stand in a message."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(dict(schema)), "CRC-64-AVRO"))


def strip_logical_types(schema: Any) -> Any:
    """The same schema without logical types: their conversion costs time and loses microseconds and far years."""
    match schema:
        case dict():
            return {key: strip_logical_types(item) for key, item in schema.items() if key != "logicalType"}
        case list():
            return [strip_logical_types(item) for item in schema]
        case _:
            return schema
