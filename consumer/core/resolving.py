"""A datum of another writer's schema → the same datum of ours, by Avro's rules of resolution. Compiled once for each writer schema.

Ours, and not fastavro's: that one reads the bytes a second time, fails where one schema defines a record in a union and the other refers to
it by name (which any reordering does), and can't say which field is the trouble. The strict reader has been over the bytes before; its
values are described in `consumer.core.avro`.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from consumer.core.avro import full_name
from consumer.core.errors import Reason, Rejected

Resolve = Callable[[Any], Any]

_PROMOTED = {
    "int": ("int", "long", "float", "double"),
    "long": ("long", "float", "double"),
    "float": ("float", "double"),
    "string": ("string", "bytes"),
    "bytes": ("bytes", "string"),
}
_BY_VALUE = ((bool, ("boolean",)), (int, ("int", "long")), (float, ("float", "double")), (str, ("string",)), (bytes, ("bytes",)),
             (list, ("array",)), (dict, ("map",)))  # fmt: skip
"""What a value outside of named types was in the writer's union; Avro allows one array and one map in it."""


def compile_resolver(writer: Mapping[str, Any], reader: Mapping[str, Any]) -> Resolve:
    """A function from the strict reader's datum to ours. It raises Rejected where the datum at hand has no equivalent.

    Both schemas must have passed `compile_reader`: they are finite.
    """
    resolve = _Compiler(_Types(writer), _Types(reader)).pair(writer, reader, "")
    return resolve if resolve is not None else _unresolvable("the event")


class _Types:
    """The named types of one schema, by full name."""

    def __init__(self, schema: Any) -> None:
        self._named: dict[str, Mapping[str, Any]] = {}
        self._collect(schema, "")

    def _collect(self, schema: Any, namespace: str) -> None:
        if isinstance(schema, list):
            for branch in schema:
                self._collect(branch, namespace)
        elif isinstance(schema, dict):
            if schema["type"] in ("record", "enum", "fixed"):
                full = full_name(schema, namespace)
                namespace = full.rpartition(".")[0]
                # Names inside are absolute from now on, so that nobody need carry the namespace along.
                self._named[full] = {**schema, "name": full, "namespace": namespace}
                for field in schema.get("fields", ()):
                    self._collect(field["type"], namespace)
            else:
                for part in ("type", "items", "values"):
                    self._collect(schema.get(part), namespace)

    def look_up(self, schema: Any, namespace: str) -> Any:
        """A union, a primitive's name, or the definition; without wrappers such as logical types."""
        while isinstance(schema, dict) and schema["type"] not in ("record", "enum", "fixed", "array", "map"):
            schema = schema["type"]
        if isinstance(schema, dict) and schema["type"] in ("record", "enum", "fixed"):
            return self._named[full_name(schema, namespace)]
        if isinstance(schema, str):
            full = schema if "." in schema or not namespace else f"{namespace}.{schema}"
            return self._named.get(full, schema)
        return schema


class _Compiler:
    def __init__(self, writer: _Types, reader: _Types) -> None:
        self._writer, self._reader = writer, reader

    def pair(self, writer: Any, reader: Any, path: str, spaces: tuple[str, str] = ("", "")) -> Resolve | None:
        """How a value of one becomes a value of the other; None: never."""
        writer, reader = self._writer.look_up(writer, spaces[0]), self._reader.look_up(reader, spaces[1])
        if isinstance(writer, list):
            return self._from_union(writer, reader, path, spaces)
        if isinstance(reader, list):
            return self._into_union(writer, reader, path, spaces)
        if isinstance(writer, str) or isinstance(reader, str):
            return _primitive(writer, reader, path) if isinstance(writer, str) and isinstance(reader, str) else None
        return self._definitions(writer, reader, path, spaces) if writer["type"] == reader["type"] else None

    def _definitions(self, writer: Mapping[str, Any], reader: Mapping[str, Any], path: str, spaces: tuple[str, str]) -> Resolve | None:
        match writer["type"]:
            case "array":
                item = self.pair(writer["items"], reader["items"], path, spaces)
                return item and (lambda values: [item(each) for each in values])
            case "map":
                value = self.pair(writer["values"], reader["values"], path, spaces)
                return value and (lambda entries: {key: value(each) for key, each in entries.items()})
            case "record" if _same_name(writer, reader):
                return self._record(writer, reader, path)
            case "enum" if _same_name(writer, reader):
                return _enum(reader, path)
            case "fixed" if _same_name(writer, reader) and writer["size"] == reader["size"]:
                return _same
        return None

    def _record(self, writer: Mapping[str, Any], reader: Mapping[str, Any], path: str) -> Resolve:
        theirs = {field["name"]: field for field in writer["fields"]}
        spaces = writer["namespace"], reader["namespace"]
        fields: list[tuple[str, str, Resolve]] = []
        defaults: dict[str, Any] = {}
        missing: str | None = None
        for field in reader["fields"]:
            name = field["name"]
            place = f"{path}.{name}" if path else name
            found = next((each for each in (name, *field.get("aliases", ())) if each in theirs), None)
            if found is not None:
                resolve = self.pair(theirs[found]["type"], field["type"], place, spaces)
                fields.append((name, found, resolve or _unresolvable(place)))
            elif "default" in field:
                defaults[name] = field["default"]
            else:
                missing = missing or place

        def convert(record: Mapping[str, Any]) -> dict[str, Any]:
            if missing is not None:
                raise Rejected(Reason.INVALID_EVENT, f"{missing} is not in the writer's schema")
            resolved = {name: resolve(record[found]) for name, found, resolve in fields}
            return resolved | deepcopy(defaults) if defaults else resolved

        return convert

    def _from_union(self, writer: list[Any], reader: Any, path: str, spaces: tuple[str, str]) -> Resolve:
        """By the branch of the value at hand."""
        named: dict[str, Resolve] = {}
        others: dict[Any, Resolve] = {}
        for branch in writer:
            theirs = self._writer.look_up(branch, spaces[0])
            resolve = self.pair(branch, reader, path, spaces)
            if isinstance(theirs, dict) and theirs["type"] in ("record", "enum", "fixed"):
                named[theirs["name"]] = resolve or _unmapped(path)
            else:
                others[theirs["type"] if isinstance(theirs, dict) else theirs] = resolve or _unresolvable(path)

        never = _unresolvable(path)

        def convert(value: Any) -> Any:
            if isinstance(value, tuple):
                return named.get(value[0], never)(value[1])
            kinds = ("null",) if value is None else next(kinds for kind, kinds in _BY_VALUE if isinstance(value, kind))
            return next((others[kind] for kind in kinds if kind in others), never)(value)

        return convert

    def _into_union(self, writer: Any, reader: list[Any], path: str, spaces: tuple[str, str]) -> Resolve | None:
        """The first branch of ours that takes it; those of its very type come before those that it could be promoted to."""
        branches = sorted(reader, key=lambda branch: self._reader.look_up(branch, spaces[1]) != writer)
        for branch in branches:
            resolve = self.pair(writer, branch, path, spaces)
            if resolve is None:
                continue
            ours = self._reader.look_up(branch, spaces[1])
            if isinstance(ours, dict) and ours["type"] in ("record", "enum", "fixed"):
                return _with_name(ours["name"], resolve)
            return resolve
        return None


def _same_name(writer: Mapping[str, Any], reader: Mapping[str, Any]) -> bool:
    """Without their namespaces, as Avro wants it; or by an alias of ours."""
    short = writer["name"].rpartition(".")[2]
    return short in {name.rpartition(".")[2] for name in (reader["name"], *reader.get("aliases", ()))}


def _primitive(writer: str, reader: str, path: str) -> Resolve | None:
    if writer == reader:
        return _same
    if reader not in _PROMOTED.get(writer, ()):
        return None
    match reader:
        case "string":
            return _text(path)
        case "bytes":
            return _bytes(path)
        case "float" | "double":
            return float
    return _same


def _enum(reader: Mapping[str, Any], path: str) -> Resolve:
    symbols, default = set(reader["symbols"]), reader.get("default")

    def convert(symbol: str) -> str:
        if symbol in symbols:
            return symbol
        if default is None:
            raise Rejected(Reason.INVALID_EVENT, f"{path} is none of the known symbols")
        return str(default)

    return convert


def _with_name(name: str, resolve: Resolve) -> Resolve:
    return lambda value: (name, resolve(value))


def _same(value: Any) -> Any:
    return value


def _bytes(path: str) -> Resolve:
    def convert(value: str) -> bytes:
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise Rejected(Reason.INVALID_EVENT, f"{path}: a text that is no UTF-8") from None

    return convert


def _text(path: str) -> Resolve:
    def convert(value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Rejected(Reason.INVALID_EVENT, f"{path}: bytes that are no UTF-8") from None

    return convert


def _unmapped(path: str) -> Resolve:
    def refuse(_: Any) -> Any:
        raise Rejected(Reason.UNMAPPED_CHANGE, f"this version knows no {path.rpartition('.')[2]} of the type in the message")

    return refuse


def _unresolvable(path: str) -> Resolve:
    def refuse(_: Any) -> Any:
        raise Rejected(Reason.INVALID_EVENT, f"{path}: the type in the writer's schema does not resolve to ours")

    return refuse
