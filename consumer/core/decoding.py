"""Bytes → ChangeEvent: the framing, the writer's schema, and the strict reader for it."""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from consumer.core.avro import compile_reader, full_name
from consumer.core.avro_values import MalformedDatumError
from consumer.core.errors import HostileSchemaError, Reason, Rejected
from consumer.core.events import ChangeEvent
from consumer.core.framing import CONFLUENT, CONFLUENT_HEADER, SINGLE_OBJECT, SINGLE_OBJECT_HEADER, Headers, may_exist, registry_name, shown
from consumer.core.resolving import Resolve, compile_resolver

# A named tuple's own constructor binds each field by its name, which takes three times as long.
_event: Callable[[type[ChangeEvent], tuple[Any, ...]], ChangeEvent] = tuple.__new__
_FIELDS = itemgetter("event_id", "occurred_at", "tenant", "actor", "source_ip", "result", "error_code")

EVENT = "integration.audit.v1.IntegrationChangeEvent"

MOST_NAMED = 1_000
"""Schemas of a registry that are kept; a topic has a handful. Beyond, the oldest is forgotten, and asked for again when it is needed."""


class _Writer(NamedTuple):
    """A known writer schema: its strict reader and, where it differs from ours, how its datum becomes ours."""

    schema: Mapping[str, Any]
    read: Callable[[bytes, int], Any]
    resolve: Resolve | None


class Decoder:
    """Decodes messages of every known writer schema into change events.

    Args:
        event_schema: our schema, the reader's.
        writer_schemas: schemas that producers may write with, ours among them or not.
        max_message_bytes: a longer value is refused unread.
        with_registry: whether messages may name their schema by a registry's id or GUID.

    Raises:
        HostileSchemaError: one of the schemas is refused.
    """

    def __init__(
        self,
        event_schema: Mapping[str, Any],
        writer_schemas: Iterable[Mapping[str, Any]],
        max_message_bytes: int,
        *,
        with_registry: bool = False,
    ) -> None:
        self._max_bytes = max_message_bytes
        self._with_registry = with_registry
        self._reader = event_schema
        self._own = schema_fingerprint(event_schema)
        self._writers: dict[bytes, _Writer] = {}  # by the single-object header
        self._named: dict[bytes, _Writer] = {}  # by the registry's id or GUID
        self._refused: dict[bytes, str] = {}  # why there is no schema of this id or GUID for now
        for schema in (event_schema, *writer_schemas):
            self.learn(schema)

    def learn(self, schema: Mapping[str, Any], name: bytes | None = None) -> bytes:
        """Adds a writer schema; returns its fingerprint as it stands in a message. `name`: the registry's id or GUID of it.

        Raises:
            HostileSchemaError: it is refused.
        """
        try:
            read = compile_reader(schema)  # first of all: what is hostile must not reach another library
            mark = schema_fingerprint(schema)
            writer = self._writers.get(SINGLE_OBJECT + mark) or self._writer(schema, mark, read)
        except HostileSchemaError:
            raise
        except Exception as error:  # what may be no schema at all meets parsers, somebody else's among them, which raise what they like
            raise HostileSchemaError(f"it is no schema: {type(error).__name__}: {error}"[:200]) from error
        if name is None:
            self._writers[SINGLE_OBJECT + mark] = writer
        else:
            self._named[name] = writer
            self._refused.pop(name, None)
            if len(self._named) > MOST_NAMED:
                del self._named[next(iter(self._named))]
        return mark

    def refuse(self, name: bytes, why: str) -> None:
        """From now on messages of this id or GUID are `unknown schema`, until it is learned or `forget` is called."""
        self._refused[name] = why

    def forget(self, name: bytes) -> None:
        """Takes back `refuse`."""
        self._refused.pop(name, None)

    def missing(self, value: bytes | None, headers: Headers | None) -> bytes | None:
        """The id or GUID that must be learned or refused before this message can be decoded."""
        if value is None or len(value) > self._max_bytes:
            return None
        try:
            found = registry_name(value, headers)
        except Rejected:
            return None
        if found is None or found.name in self._named or found.name in self._refused or not may_exist(found.name):
            return None
        return found.name

    def named_schemas(self) -> dict[bytes, Mapping[str, Any]]:
        """What was learned from the registry, by id or GUID."""
        return {name: writer.schema for name, writer in self._named.items()}

    def decode(self, value: bytes, headers: Headers | None = None) -> ChangeEvent:
        """The change event in a message's value; the headers matter only with a registry.

        Raises:
            Rejected: `undecodable`, `unknown schema`, `unmapped change`, `invalid event` or `oversized`.
        """
        if len(value) > self._max_bytes:
            raise Rejected(Reason.OVERSIZED, f"{len(value)} bytes; AUDIT_MAX_MESSAGE_BYTES is {self._max_bytes}")
        start = SINGLE_OBJECT_HEADER
        named = registry_name(value, headers) if self._with_registry else None
        if named is not None:
            start = named.start
            writer = self._named.get(named.name)
            if writer is None:
                raise Rejected(Reason.UNKNOWN_SCHEMA, self._refused.get(named.name) or f"no schema is known with the {shown(named.name)}")
        else:
            writer = self._writers.get(value[:SINGLE_OBJECT_HEADER])
            if writer is None:
                raise _unframed(value)
        try:
            datum = writer.read(value, start)
        except MalformedDatumError as error:
            raise Rejected(Reason.UNDECODABLE, f"not an event of its schema: {error}") from None
        if writer.resolve is not None:
            datum = writer.resolve(datum)
        name, change = datum["change"]
        return _event(ChangeEvent, (*_FIELDS(datum), name.rpartition(".")[2], change))

    def _writer(self, schema: Mapping[str, Any], mark: bytes, read: Callable[[bytes, int], Any]) -> _Writer:
        if full_name(dict(schema)) != EVENT:
            raise HostileSchemaError(f"the schema's record is not {EVENT}")
        if mark == self._own:
            return _Writer(schema, read, None)
        fastavro.parse_schema(strip_logical_types(schema))  # for what it refuses: names and defaults that are none
        return _Writer(schema, read, compile_resolver(schema, self._reader))


def _unframed(value: bytes) -> Rejected:
    """What to say of a message that no known writer schema can read."""
    if not value:
        return Rejected(Reason.UNDECODABLE, "an empty value; a tombstone has none at all")
    if value[:2] == SINGLE_OBJECT:
        if len(value) < SINGLE_OBJECT_HEADER:
            return Rejected(Reason.UNDECODABLE, "the bytes end inside the single-object header")
        return Rejected(Reason.UNKNOWN_SCHEMA, f"no schema is known with the fingerprint {value[2:SINGLE_OBJECT_HEADER].hex()}")
    if value[0] == CONFLUENT:
        if len(value) < CONFLUENT_HEADER:
            return Rejected(Reason.UNDECODABLE, "the bytes end inside the Confluent header")
        schema_id = int.from_bytes(value[1:CONFLUENT_HEADER], "big")
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
