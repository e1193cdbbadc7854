"""Why a message can't be read: its bytes field by field as far as they make sense, and the place where they stop to.

For people, beside the strict reader and not part of it: so the reader, which every message passes, keeps no books of its places.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from consumer.core.avro import full_name
from consumer.core.avro_values import MAX_ITEM_VALUES, PRIMITIVES, MalformedDatumError, check_block, read_block, read_long, read_string
from consumer.core.errors import Reason, Rejected
from consumer.core.framing import CONFLUENT, CONFLUENT_HEADER, SINGLE_OBJECT, SINGLE_OBJECT_HEADER, Headers, registry_name, shown

_MOST_FIELDS = 1_000
"""Fields that are kept of one message: enough for any change, and a bound for a hostile one."""

Span = tuple[int, int]
"""First byte, and the one after the last."""


class Field(NamedTuple):
    """A value that could be read; for a record in a union its name."""

    path: str
    span: Span
    value: Any


class Explanation(NamedTuple):
    """A message's value, as far as it can be read."""

    framing: str
    schema: str | None  # how the message names its writer's schema
    mark: Span | None  # where it goes wrong; at the value's end where bytes are missing
    error: str | None  # what goes wrong there
    fields: Sequence[Field] = ()
    path: str | None = None  # the field that was being read
    known: bool = False  # whether the schema is


def explain(value: bytes, schemas: Mapping[bytes, Mapping[str, Any]], headers: Headers | None = None) -> Explanation:
    """Reads as far as it goes; `schemas` are the writers' by fingerprint, id or GUID. `headers` only where a registry is read."""
    if headers is not None:
        try:
            named = registry_name(value, headers)
        except Rejected as rejected:
            return Explanation("Confluent", None, None, rejected.error)
        if named is not None:
            mark = (named.start - len(named.name), named.start) if named.start else None
            unknown = Explanation("Confluent", shown(named.name).removeprefix("schema "), mark, "no schema is known with this name")
            return _datum(unknown, value, named.start, schemas.get(named.name))
    if value[:2] == SINGLE_OBJECT:
        return _single_object(value, schemas)
    if value[:1] == bytes((CONFLUENT,)):
        if len(value) < CONFLUENT_HEADER:
            return Explanation("Confluent", None, _end(value), "the header ends early")
        number = int.from_bytes(value[1:CONFLUENT_HEADER], "big")
        return Explanation("Confluent", str(number), (1, CONFLUENT_HEADER), "no schema is known with this id")
    return Explanation("none", None, (0, min(2, len(value))), "no known framing begins like this" if value else "the value is empty")


def with_verdict(explanation: Explanation, rejected: Rejected) -> Explanation:
    """The same, with the place that a verdict about a well-formed message speaks of: the field whose name its text begins with."""
    if explanation.mark is not None:
        return explanation
    word = "change" if rejected.reason is Reason.UNMAPPED_CHANGE else rejected.error.partition(" ")[0]
    for field in explanation.fields:
        if word in field.path.split("."):
            return explanation._replace(mark=field.span, error=rejected.error, path=field.path)
    return explanation._replace(error=rejected.error)


def _single_object(value: bytes, schemas: Mapping[bytes, Mapping[str, Any]]) -> Explanation:
    framing = "Avro single-object"
    if len(value) < SINGLE_OBJECT_HEADER:
        return Explanation(framing, None, _end(value), "the header ends early")
    unknown = Explanation(
        framing, value[2:SINGLE_OBJECT_HEADER].hex(), (2, SINGLE_OBJECT_HEADER), "no schema is known with this fingerprint"
    )
    return _datum(unknown, value, SINGLE_OBJECT_HEADER, schemas.get(value[2:SINGLE_OBJECT_HEADER]))


def _datum(unknown: Explanation, value: bytes, start: int, schema: Mapping[str, Any] | None) -> Explanation:
    """What comes from `start` on, in place of the explanation that holds without a schema."""
    if schema is None:
        return unknown
    framing, name = unknown.framing, unknown.schema
    trace = _Trace(value, schema)
    try:
        trace.read_all(schema, start)
    except MalformedDatumError as found:
        mark, error = (found.place, min(found.place + 1, len(value))), str(found)
    except (IndexError, struct.error):
        mark, error = _end(value), f"the bytes end inside a value at byte {len(value)}"
    else:
        return Explanation(framing, name, None, None, trace.fields, known=True)
    return Explanation(framing, name, mark, error, trace.fields, trace.path, known=True)


def _end(value: bytes) -> Span:
    return len(value), len(value)


class _Trace:
    """One reading of one datum, by the schema itself. The schema has passed `compile_reader`, so it is finite and flat enough to walk."""

    def __init__(self, data: bytes, schema: Mapping[str, Any]) -> None:
        self._data = data
        self._named: dict[str, tuple[Mapping[str, Any], str]] = {}  # full name → schema, namespace for what is in it
        self._collect(schema, "")
        self._left = MAX_ITEM_VALUES
        self.fields: list[Field] = []
        self.path: str | None = None

    def read_all(self, schema: Any, place: int) -> None:
        """Reads exactly the rest."""
        place = self.read(schema, "", "", place)
        if place != len(self._data):
            self.path = None
            raise MalformedDatumError(place, f"{len(self._data) - place} bytes left over")

    def read(self, schema: Any, namespace: str, path: str, place: int) -> int:
        """Reads one value; returns the next place."""
        self.path = path
        if isinstance(schema, list):
            return self._union(schema, namespace, path, place)
        if isinstance(schema, str):
            if schema in PRIMITIVES:
                return self._keep(path, place, *PRIMITIVES[schema](self._data, place))
            schema, namespace = self._named[_absolute(schema, namespace)]
        kind = schema["type"]
        if kind in ("enum", "fixed"):
            return self._leaf(schema, path, place)
        if kind in ("array", "map"):
            return self._blocks(schema, namespace, path, place)
        if kind != "record":
            return self.read(kind, namespace, path, place)
        space = full_name(schema, namespace).rpartition(".")[0]
        for field in schema["fields"]:
            place = self.read(field["type"], space, f"{path}.{field['name']}" if path else field["name"], place)
        return place

    def _leaf(self, schema: Mapping[str, Any], path: str, place: int) -> int:
        if schema["type"] == "fixed":
            after = place + schema["size"]
            return self._keep(path, place, self._data[place:after], after)
        index, after = read_long(self._data, place)
        if not 0 <= index < len(schema["symbols"]):
            raise MalformedDatumError(place, "an enum index out of range")
        return self._keep(path, place, schema["symbols"][index], after)

    def _keep(self, path: str, place: int, value: Any, after: int) -> int:
        if after > len(self._data):
            raise MalformedDatumError(len(self._data), "the bytes end inside a value")
        if len(self.fields) < _MOST_FIELDS:
            self.fields.append(Field(path, (place, after), value))
        return after

    def _union(self, branches: list[Any], namespace: str, path: str, place: int) -> int:
        index, after = read_long(self._data, place)
        if not 0 <= index < len(branches):
            raise MalformedDatumError(place, "a union index out of range")
        branch = branches[index]
        if branch in ("null", {"type": "null"}):
            return self._keep(path, place, None, after)
        if isinstance(branch, dict) and branch.get("type") == "record":
            self._keep(path, place, full_name(branch, namespace).rpartition(".")[2], after)
        elif isinstance(branch, str) and branch not in PRIMITIVES:
            self._keep(path, place, branch.rpartition(".")[2], after)
        return self.read(branch, namespace, path, after)

    def _blocks(self, schema: Mapping[str, Any], namespace: str, path: str, place: int) -> int:
        keyed = schema["type"] == "map"
        items = schema["values" if keyed else "items"]
        number = 0
        while True:
            self.path = path
            count, place, end = read_block(self._data, place, self._left)
            if not count:
                check_block(place, end)
                return place
            self._left -= count
            for _ in range(count):
                name = str(number)
                if keyed:
                    name, place = read_string(self._data, place)
                place = self.read(items, namespace, f"{path}[{name}]", place)
                number += 1
            self.path = path
            check_block(place, end)

    def _collect(self, schema: Any, namespace: str) -> None:
        """Finds the named types first: what defines one may stand in a branch that this datum has not."""
        if isinstance(schema, list):
            for branch in schema:
                self._collect(branch, namespace)
        if not isinstance(schema, dict):
            return
        if schema["type"] in ("record", "enum", "fixed"):
            full = full_name(schema, namespace)
            namespace = full.rpartition(".")[0]
            self._named[full] = (schema, namespace)
            for field in schema.get("fields", ()):
                self._collect(field["type"], namespace)
        else:
            for part in ("type", "items", "values"):
                self._collect(schema.get(part), namespace)


def _absolute(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
