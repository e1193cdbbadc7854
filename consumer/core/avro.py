"""A strict Avro reader, compiled once for each writer schema.

Ours, and not fastavro's, for two reasons. Every byte must be right before an event enters an audit log, and fastavro silently takes
trailing bytes, negative union and enum indexes, and over-long varints. And reading by closures made for the schema is faster. The
tests hold it against fastavro on whatever the schema allows.

Values: a record is a dict; in a union a record, an enum or a fixed is the pair (full name, value); logical types stay raw.
"""

import struct
from collections.abc import Callable
from typing import Any

from consumer.core.avro_straight import compile_straight
from consumer.core.avro_values import PRIMITIVES, MalformedDatumError, Read, read_block, read_long, read_null, read_string
from consumer.core.errors import HostileSchemaError

MAX_NODES = 5_000
"""How many values without a repetition one datum may hold: a bound on the work that the schema alone can ask for."""
MAX_DEPTH = 24
MAX_FIELDS = 500


def compile_reader(schema: Any) -> Callable[[bytes, int], Any]:
    """A function (bytes, start) → value that reads exactly the rest of the bytes.

    Raises:
        HostileSchemaError: the schema could make a small datum cost unbounded time or memory, or is no schema.
    """
    read = _Compiler().reader(schema, "", 0)
    straight = compile_straight(schema)

    def read_all(data: bytes, start: int) -> Any:
        place = start
        try:
            try:
                found = straight(data, start) if straight is not None else None
            except UnicodeDecodeError:
                found = None
            if found is not None and found[1] == len(data):
                return found[0]
            value, place = read(data, start)
        except (IndexError, struct.error):
            raise MalformedDatumError(len(data), "the bytes end inside a value") from None
        if place != len(data):
            if place > len(data):
                raise MalformedDatumError(len(data), "the bytes end inside a value")
            raise MalformedDatumError(place, f"{len(data) - place} bytes left over")
        return value

    return read_all


class _Compiler:
    """Walks one schema, depth first; refuses whatever is hostile or no schema."""

    def __init__(self) -> None:
        self._named: dict[str, tuple[Read, int]] = {}  # full name → reader, nodes
        self._open: set[str] = set()
        self._nodes = 0

    def reader(self, schema: Any, namespace: str, depth: int) -> Read:  # noqa: PLR0911 - one for each kind of schema
        if depth > MAX_DEPTH:
            raise HostileSchemaError(f"nested deeper than {MAX_DEPTH}")
        self._count(1)
        match schema:
            case str():
                return self._reference(schema, namespace)
            case list():
                return self._union(schema, namespace, depth)
            case {"type": "record", "name": str(), "fields": list(fields)}:
                return self._named_type(schema, namespace, lambda space: self._record(fields, space, depth))
            case {"type": "enum", "name": str(), "symbols": list(symbols)}:
                return self._named_type(schema, namespace, lambda _: self._enum(symbols))
            case {"type": "fixed", "name": str(), "size": int(size)} if size > 0:
                return self._named_type(schema, namespace, lambda _: self._fixed(size))
            case {"type": "array", "items": items}:
                return self._array(items, namespace, depth)
            case {"type": "map", "values": values}:
                return self._map(values, namespace, depth)
            case {"type": str() | list() | dict() as inner} if inner not in ("record", "enum", "fixed", "array", "map"):
                return self.reader(inner, namespace, depth + 1)
        raise HostileSchemaError("no schema, or one without content, where a type is expected")

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise HostileSchemaError(f"one datum would hold more than {MAX_NODES} values")

    def _reference(self, name: str, namespace: str) -> Read:
        if name == "null":
            raise HostileSchemaError("null outside a union takes no bytes, so that any number of them costs nothing to send")
        if name in PRIMITIVES:
            return PRIMITIVES[name]
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full in self._open:
            raise HostileSchemaError("a type that contains itself")
        if full not in self._named:
            raise HostileSchemaError("a name that is not defined before its use")
        read, nodes = self._named[full]
        self._count(nodes)
        return read

    def _named_type(self, schema: dict[str, Any], namespace: str, make: Callable[[str], Read]) -> Read:
        full = full_name(schema, namespace)
        if full in self._named or full in self._open:
            raise HostileSchemaError("a name that is defined twice")
        self._open.add(full)
        before = self._nodes
        read = make(full.rpartition(".")[0])
        self._open.discard(full)
        self._named[full] = (read, self._nodes - before)
        return read

    def _record(self, fields: list[Any], namespace: str, depth: int) -> Read:
        if len(fields) > MAX_FIELDS:
            raise HostileSchemaError(f"a record of more than {MAX_FIELDS} fields")
        readers: list[tuple[str, Read]] = []
        for field in fields:
            match field:
                case {"name": str(name), "type": kind}:
                    readers.append((name, self.reader(kind, namespace, depth + 1)))
                case _:
                    raise HostileSchemaError("a field without a name or type")

        def read(data: bytes, place: int) -> tuple[dict[str, Any], int]:
            record = {}
            for name, read_field in readers:
                record[name], place = read_field(data, place)
            return record, place

        return read

    @staticmethod
    def _enum(symbols: list[str]) -> Read:
        def read(data: bytes, place: int) -> tuple[str, int]:
            index, after = read_long(data, place)
            if not 0 <= index < len(symbols):
                raise MalformedDatumError(place, "an enum index out of range")
            return symbols[index], after

        return read

    @staticmethod
    def _fixed(size: int) -> Read:
        return lambda data, place: (data[place : place + size], place + size)

    def _union(self, branches: list[Any], namespace: str, depth: int) -> Read:
        readers: list[tuple[str | None, Read]] = []
        for branch in branches:
            if branch in ("null", {"type": "null"}):
                readers.append((None, read_null))
                continue
            readers.append((self._branch_name(branch, namespace), self.reader(branch, namespace, depth + 1)))
        if len(readers) == 2 and readers[0][1] is read_null and readers[1][0] is None:
            return _optional(readers[1][1])

        def read(data: bytes, place: int) -> tuple[Any, int]:
            index = data[place]
            if index < 0x80 and not index & 1:
                after = place + 1
                index >>= 1
            else:
                index, after = read_long(data, place)
            if not 0 <= index < len(readers):
                raise MalformedDatumError(place, "a union index out of range")
            name, read_branch = readers[index]
            if name is None:
                return read_branch(data, after)
            value, after = read_branch(data, after)
            return (name, value), after

        return read

    def _branch_name(self, branch: Any, namespace: str) -> str | None:
        if isinstance(branch, dict) and branch.get("type") in ("record", "enum", "fixed"):
            return full_name(branch, namespace)
        if isinstance(branch, str) and branch not in PRIMITIVES:
            return branch if "." in branch or not namespace else f"{namespace}.{branch}"
        return None

    def _array(self, items: Any, namespace: str, depth: int) -> Read:
        read_item = self._item(items, namespace, depth)

        def read(data: bytes, place: int) -> tuple[list[Any], int]:
            values: list[Any] = []
            while True:
                count, place = read_block(data, place, len(values))
                if not count:
                    return values, place
                for _ in range(count):
                    value, place = read_item(data, place)
                    values.append(value)

        return read

    def _map(self, values: Any, namespace: str, depth: int) -> Read:
        read_value = self._item(values, namespace, depth)

        def read(data: bytes, place: int) -> tuple[dict[str, Any], int]:
            entries: dict[str, Any] = {}
            total = 0
            while True:
                count, place = read_block(data, place, total)
                if not count:
                    return entries, place
                total += count
                for _ in range(count):
                    key, place = read_string(data, place)
                    entries[key], place = read_value(data, place)

        return read

    def _item(self, schema: Any, namespace: str, depth: int) -> Read:
        if isinstance(schema, dict) and schema.get("type") == "record" and not schema.get("fields"):
            raise HostileSchemaError("an array of records without fields takes no bytes")
        return self.reader(schema, namespace, depth + 1)


def _optional(read_value: Read) -> Read:
    """The union of null and a value without a name: the most frequent one, without a look at lists."""

    def read(data: bytes, place: int) -> tuple[Any, int]:
        index = data[place]
        if index == 2:
            return read_value(data, place + 1)
        if index == 0:
            return None, place + 1
        index, after = read_long(data, place)
        if index not in (0, 1):
            raise MalformedDatumError(place, "a union index out of range")
        return read_value(data, after) if index else (None, after)

    return read


def full_name(schema: dict[str, Any], namespace: str = "") -> str:
    """The full name of a record, enum or fixed."""
    name: str = schema["name"]
    space = schema.get("namespace", namespace)
    return name if "." in name or not space else f"{space}.{name}"
