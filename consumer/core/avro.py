"""A strict Avro reader, compiled once for each writer schema.

Ours, and not fastavro's, for two reasons. Every byte must be right before an event enters an audit log, and fastavro silently takes
trailing bytes, negative union and enum indexes, and over-long varints. And reading by closures made for the schema is faster. The
tests hold it against fastavro on whatever the schema allows.

Values: a record is a dict; in a union a record, an enum or a fixed is the pair (full name, value); logical types stay raw.
"""

import re
import struct
from collections.abc import Callable
from typing import Any

from consumer.core.avro_straight import GIVES_UP, compile_straight
from consumer.core.avro_values import (
    MAX_ITEM_VALUES,
    PRIMITIVES,
    MalformedDatumError,
    Read,
    check_block,
    read_block,
    read_long,
    read_null,
    read_string,
)
from consumer.core.errors import HostileSchemaError

MAX_NODES = 5_000
"""How many values without a repetition one datum may hold: a bound on the work that the schema alone can ask for."""
MAX_DEPTH = 24
MAX_FIELDS = 500
MAX_SYMBOLS = 1_000
MAX_BRANCHES = 500
MAX_FIXED = 4_096
"""Bytes of one fixed."""
MAX_NAME = 256
"""Characters of a name, a namespace, an alias or a symbol: each reference writes them out."""
MAX_DIGITS = 1_000
"""Digits of a decimal. We never make a number of one; whoever reads the schema after us may."""

_NAMING = ("name", "namespace", "aliases", "symbols", "type", "items", "values", "fields")
_is_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_is_full_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*").fullmatch


def compile_reader(schema: Any) -> Callable[[bytes, int], Any]:
    """A function (bytes, start) → value that reads exactly the rest of the bytes. For one thread: it counts what one datum holds.

    Raises:
        HostileSchemaError: the schema could make a small datum cost unbounded time or memory, or is no schema.
    """
    refuse_long_names(schema)
    compiler = _Compiler()
    read, room = compiler.reader(schema, "", 0), compiler.room
    straight = compile_straight(schema)

    def read_all(data: bytes, start: int) -> Any:
        place = start
        room.left = MAX_ITEM_VALUES
        try:
            try:
                found = straight(data, start) if straight is not None else None
            except GIVES_UP:
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


def refuse_long_names(schema: Any) -> None:
    """To be called before anything else looks at a schema.

    Raises:
        HostileSchemaError: a name of more than MAX_NAME characters.
    """
    waiting = [schema]
    while waiting:
        match waiting.pop():
            case str(name) if len(name) > MAX_NAME:
                raise HostileSchemaError(f"a name of more than {MAX_NAME} characters")
            case list(several):
                waiting += several
            case dict(part):
                waiting += [part[key] for key in _NAMING if key in part]


class _Room:
    """How many more values the items of the datum at hand may hold, all arrays and maps together."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_ITEM_VALUES


class _Compiler:
    """Walks one schema, depth first; refuses whatever is hostile or no schema."""

    def __init__(self) -> None:
        self.room = _Room()
        self._named: dict[str, tuple[Read, int]] = {}  # full name → reader, nodes
        self._open: set[str] = set()
        self._empty: set[str] = set()  # records without fields
        self._nodes = 0

    def reader(self, schema: Any, namespace: str, depth: int, *, counted: bool = False) -> Read:  # noqa: PLR0911 - one for each kind
        """Reads values of the schema. `counted`: something before each takes a byte, so that the value itself may take none."""
        if depth > MAX_DEPTH:
            raise HostileSchemaError(f"nested deeper than {MAX_DEPTH}")
        self._count(1)
        match schema:
            case str():
                return self._reference(schema, namespace, counted=counted)
            case list():
                return self._union(schema, namespace, depth)
            case {"type": "record", "name": str(), "fields": list(fields)}:
                return self._named_type(schema, namespace, lambda space: self._record(fields, space, depth), counted=counted)
            case {"type": "enum", "name": str(), "symbols": list(symbols)}:
                return self._named_type(schema, namespace, lambda _: self._enum(symbols))
            case {"type": "fixed", "name": str(), "size": int(size)} if 0 < size <= MAX_FIXED and size is not True:
                self._check_decimal(schema)
                return self._named_type(schema, namespace, lambda _: self._fixed(size))
            case {"type": "array", "items": items}:
                return self._array(items, namespace, depth)
            case {"type": "map", "values": values}:
                return self._map(values, namespace, depth)
            case {"type": str() | list() | dict() as inner} if inner not in ("record", "enum", "fixed", "array", "map"):
                self._check_decimal(schema)
                return self.reader(inner, namespace, depth + 1, counted=counted)
        raise HostileSchemaError("no schema, or one without content, where a type is expected")

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise HostileSchemaError(f"one datum would hold more than {MAX_NODES} values")

    @staticmethod
    def _check_decimal(schema: dict[str, Any]) -> None:
        if schema.get("logicalType") != "decimal":  # Avro wants a logical type that makes no sense to be passed over
            return
        for key in ("precision", "scale"):
            digits = schema.get(key)
            if isinstance(digits, (int, float)) and digits > MAX_DIGITS:
                raise HostileSchemaError(f"a decimal of more than {MAX_DIGITS} digits")

    def _reference(self, name: str, namespace: str, *, counted: bool) -> Read:
        if name == "null":
            raise HostileSchemaError("null outside a union takes no bytes, so that any number of them costs nothing to send")
        if name in PRIMITIVES:
            return PRIMITIVES[name]
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full in self._open:
            raise HostileSchemaError("a type that contains itself")
        if full not in self._named:
            raise HostileSchemaError("a name that is not defined before its use")
        if full in self._empty and not counted:
            raise HostileSchemaError(_NO_BYTES)
        read, nodes = self._named[full]
        self._count(nodes)
        return read

    def _named_type(self, schema: dict[str, Any], namespace: str, make: Callable[[str], Read], *, counted: bool = True) -> Read:
        if not isinstance(schema.get("namespace", ""), str):
            raise HostileSchemaError("a namespace that is no text; readers disagree on what that means")
        full = full_name(schema, namespace)
        if not _is_full_name(full) or full in PRIMITIVES or full == "null":
            raise HostileSchemaError("a name that is none")
        if schema.get("fields") == []:
            if not counted:
                raise HostileSchemaError(_NO_BYTES)
            self._empty.add(full)
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
        found: dict[str, Read] = {}
        for field in fields:
            match field:
                case {"name": str(name), "type": kind} if _is_name(name) and name not in found:
                    found[name] = self.reader(kind, namespace, depth + 1)
                case _:
                    raise HostileSchemaError("a field without a name of its own, or without a type")
        readers = list(found.items())

        def read(data: bytes, place: int) -> tuple[dict[str, Any], int]:
            record = {}
            for name, read_field in readers:
                record[name], place = read_field(data, place)
            return record, place

        return read

    @staticmethod
    def _enum(symbols: list[Any]) -> Read:
        if not 0 < len(symbols) <= MAX_SYMBOLS:
            raise HostileSchemaError(f"an enum of no symbols, or of more than {MAX_SYMBOLS}")
        if not all(isinstance(each, str) and _is_name(each) for each in symbols) or len(set(symbols)) < len(symbols):
            raise HostileSchemaError("an enum with a symbol that is none, or one twice")

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
        if not 0 < len(branches) <= MAX_BRANCHES:
            raise HostileSchemaError(f"a union of nothing, or of more than {MAX_BRANCHES} types")
        readers: list[tuple[str | None, Read]] = []
        for branch in branches:
            if isinstance(branch, list):
                raise HostileSchemaError("a union directly in a union")
            if branch in ("null", {"type": "null"}):
                readers.append((None, read_null))
                continue
            read_this = self.reader(branch, namespace, depth + 1, counted=True)  # first: it refuses what has no name
            readers.append((self._branch_name(branch, namespace), read_this))
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
        read_item, weight = self._item(items, namespace, depth)
        room = self.room

        def read(data: bytes, place: int) -> tuple[list[Any], int]:
            values: list[Any] = []
            while True:
                count, place, end = read_block(data, place, room.left // weight)
                if not count:
                    check_block(place, end)
                    return values, place
                room.left -= count * weight
                for _ in range(count):
                    value, place = read_item(data, place)
                    values.append(value)
                check_block(place, end)

        return read

    def _map(self, values: Any, namespace: str, depth: int) -> Read:
        read_value, weight = self._item(values, namespace, depth)
        room = self.room

        def read(data: bytes, place: int) -> tuple[dict[str, Any], int]:
            entries: dict[str, Any] = {}
            while True:
                count, place, end = read_block(data, place, room.left // weight)
                if not count:
                    check_block(place, end)
                    return entries, place
                room.left -= count * weight
                for _ in range(count):
                    key, place = read_string(data, place)
                    entries[key], place = read_value(data, place)
                check_block(place, end)

        return read

    def _item(self, schema: Any, namespace: str, depth: int) -> tuple[Read, int]:
        """How an item is read, and how many values it may hold."""
        before = self._nodes
        read = self.reader(schema, namespace, depth + 1)
        return read, self._nodes - before


_NO_BYTES = "a record without fields outside a union takes no bytes, so that any number of them costs nothing to send"


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
