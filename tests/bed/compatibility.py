"""Whether every datum of one schema can be read with another: by Avro's rules, written out here a second time, on purpose."""

from collections.abc import Iterator
from typing import Any

_WIDER = {"int": "long float double", "long": "float double", "float": "double", "string": "bytes", "bytes": "string"}

Named = dict[str, dict[str, Any]]


def breaks(writer: dict[str, Any], reader: dict[str, Any]) -> list[str]:
    """The places where a reader must fail, some time: none when it always succeeds."""
    return sorted(set(_breaks(writer, reader, "", _named(writer), _named(reader))))


def _named(schema: Any) -> Named:
    """By their short names: all are in one namespace."""
    found: Named = {}
    match schema:
        case list():
            for each in schema:
                found |= _named(each)
        case {"type": kind}:
            if kind in ("record", "enum"):
                found[schema["name"]] = schema
            for part in (kind, schema.get("items"), *(field["type"] for field in schema.get("fields", ()))):
                found |= _named(part) if isinstance(part, (dict, list)) else {}
    return found


def _plain(schema: Any, named: Named) -> Any:
    while isinstance(schema, dict) and schema["type"] not in ("record", "enum", "array"):
        schema = schema["type"]
    return named.get(schema, schema) if isinstance(schema, str) else schema


def _breaks(writer: Any, reader: Any, path: str, theirs: Named, ours: Named) -> Iterator[str]:
    writer, reader = _plain(writer, theirs), _plain(reader, ours)
    if isinstance(writer, list):
        for branch in writer:
            yield from _breaks(branch, reader, path, theirs, ours)
        return
    if isinstance(reader, list):
        fitting = [branch for branch in reader if _fits(writer, _plain(branch, ours))]
        if not fitting:
            yield f"{path}: no {writer if isinstance(writer, str) else writer.get('name', writer['type'])}"
            return
        reader = _plain(fitting[0], ours)
    if not _fits(writer, reader):
        yield f"{path}: another type"
    elif isinstance(writer, dict):
        yield from _definition_breaks(writer, reader, path, theirs, ours)


def _definition_breaks(writer: Any, reader: Any, path: str, theirs: Named, ours: Named) -> Iterator[str]:
    if writer["type"] == "array":
        yield from _breaks(writer["items"], reader["items"], path, theirs, ours)
    elif writer["type"] == "record":
        yield from _record_breaks(writer, reader, path, theirs, ours)
    elif "default" not in reader:
        yield from (f"{path}: no {symbol}" for symbol in writer["symbols"] if symbol not in reader["symbols"])


def _record_breaks(writer: Any, reader: Any, path: str, theirs: Named, ours: Named) -> Iterator[str]:
    fields = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        place = f"{path}.{field['name']}" if path else field["name"]
        found = [fields[name] for name in (field["name"], *field.get("aliases", ())) if name in fields]
        if found:
            yield from _breaks(found[0]["type"], field["type"], place, theirs, ours)
        elif "default" not in field:
            yield f"{place}: missing"


def _fits(writer: Any, reader: Any) -> bool:
    if isinstance(writer, str) and isinstance(reader, str):
        return writer == reader or reader in _WIDER.get(writer, "").split()
    if isinstance(writer, dict) and isinstance(reader, dict) and writer["type"] == reader["type"]:
        return writer["type"] == "array" or writer["name"] in (reader["name"], *reader.get("aliases", ()))
    return False
