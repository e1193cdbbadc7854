"""The contract's JSON form of an event ⇄ the value that Avro encodes; driven by the schema, so that no field is listed twice."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import fastavro

from consumer.core.avro import full_name
from consumer.core.canonical import is_uuid
from consumer.core.decoding import schema_fingerprint, strip_logical_types
from consumer.core.framing import SINGLE_OBJECT

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Python's own parser takes more than RFC 3339, and drops what is finer than a microsecond.
_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})?").fullmatch
_SHOWN = 40
"""Characters of an unknown field's name that an error shows."""


class EventJsonError(ValueError):
    """JSON that is no event; the text names the place, never the value."""


class EventEncoder:
    """Encodes events given as JSON in Avro single-object encoding.

    Args:
        schema: the event's schema, with its logical types: they say which fields are times and UUIDs.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._namespace = str(schema.get("namespace", ""))
        self._named: dict[str, Mapping[str, Any]] = {}
        self._collect(schema)
        self._plain = fastavro.parse_schema(strip_logical_types(schema))
        self._header = SINGLE_OBJECT + schema_fingerprint(schema)

    def encode(self, event: object) -> bytes:
        """A message's value.

        Raises:
            EventJsonError: the event does not fit the schema.
        """
        stream = BytesIO()
        stream.write(self._header)
        fastavro.schemaless_writer(stream, self._plain, self.datum(event))
        return stream.getvalue()

    def datum(self, event: object) -> Any:
        """The event as the Avro library takes it."""
        return self._value(self._schema, event, "")

    def _collect(self, schema: Any) -> None:
        if isinstance(schema, list):
            for branch in schema:
                self._collect(branch)
        elif isinstance(schema, dict):
            if schema.get("type") in ("record", "enum"):
                self._named[full_name(schema, self._namespace).rpartition(".")[2]] = schema
            for field in schema.get("fields", ()):
                self._collect(field["type"])

    def _value(self, schema: Any, value: Any, path: str) -> Any:
        if isinstance(schema, str) and schema in self._named:
            schema = self._named[schema]
        if isinstance(schema, list):
            return self._branch(schema, value, path)
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind == "record":
            return self._record(schema, value, path)
        if kind == "array":
            if not isinstance(value, list):
                raise _wrong(path, "expected an array")
            return [self._value(schema["items"], item, f"{path}[{index}]") for index, item in enumerate(value)]
        if kind == "enum":
            if value not in schema["symbols"]:
                raise _wrong(path, f"expected one of {', '.join(schema['symbols'])}")
            return value
        logical = None if isinstance(schema, str) else schema.get("logicalType")
        return _LEAVES[logical or kind](value, path)

    def _record(self, schema: Mapping[str, Any], value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(path, "expected an object")
        names = [field["name"] for field in schema["fields"]]
        for key in value:
            if key not in names:
                raise _wrong(path, f"unknown field {str(key)[:_SHOWN]!r}; known are {', '.join(names)}")
        record = {}
        for field in schema["fields"]:
            name = field["name"]
            if name not in value and "default" not in field:
                raise _wrong(_join(path, name), "is missing")
            record[name] = self._value(field["type"], value.get(name, field.get("default")), _join(path, name))
        return record

    def _branch(self, branches: list[Any], value: Any, path: str) -> Any:
        names = [
            branch if isinstance(branch, str) else full_name(branch).rpartition(".")[2]
            for branch in branches
            if branch != "null" and (isinstance(branch, str) or branch.get("type") == "record")
        ]
        records = {name: self._named[name] for name in names if name in self._named}
        if not records:  # an optional value
            (other,) = (branch for branch in branches if branch != "null")
            return None if value is None else self._value(other, value, path)
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in records:
            raise _wrong(_join(path, "type"), f"expected one of {', '.join(records)}")
        schema = records[kind]
        fields = {key: item for key, item in value.items() if key != "type"}
        return full_name(dict(schema), self._namespace), self._record(schema, fields, path)


def parse_line(line: bytes) -> Any:
    """A line of JSON, not yet looked at.

    Raises:
        EventJsonError: it is none, or a key stands twice in an object.
    """
    try:
        return json.loads(line, object_pairs_hook=_object)
    except EventJsonError:
        raise
    except (ValueError, RecursionError):
        raise EventJsonError("not JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no key stands twice: which of the two values was meant, nobody can say."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise EventJsonError("a key stands twice in one object")
    return found


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong(path: str, what: str) -> EventJsonError:
    return EventJsonError(f"{path or 'the event'}: {what}")


def _string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _wrong(path, "expected a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _wrong(path, "holds a lone surrogate") from None
    return value


def _uuid(value: Any, path: str) -> str:
    if not isinstance(value, str) or not is_uuid(value):
        raise _wrong(path, "expected a UUID of 36 characters")
    return value


def _boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(path, "expected true or false")
    return value


def _micros(value: Any, path: str) -> int:
    try:
        if not isinstance(value, str) or not _RFC_3339(value):
            raise ValueError  # noqa: TRY301 - one error for both
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _wrong(path, "expected a time such as 2026-11-23T09:00:00.000001Z") from None
    if moment.tzinfo is None:
        raise _wrong(path, "expected a time with Z or an offset")
    return (moment - _EPOCH) // _MICROSECOND


_LEAVES: dict[str, Callable[[Any, str], Any]] = {
    "string": _string,
    "uuid": _uuid,
    "boolean": _boolean,
    "timestamp-micros": _micros,
}
