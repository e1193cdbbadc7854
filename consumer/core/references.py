"""One self-contained schema out of a schema and those that it refers to by name, as a registry keeps them."""

from collections.abc import Iterable, Mapping
from typing import Any

from consumer.core.avro import full_name, refuse_long_names
from consumer.core.avro_values import PRIMITIVES
from consumer.core.errors import HostileSchemaError

_DEEPEST = 100
_NAMED = ("record", "error", "enum", "fixed")


def self_contained(schema: Any, referenced: Iterable[Any]) -> Any:
    """The schema with each type of `referenced` put in where it is used first; what is defined in the schema itself goes before.

    Raises:
        HostileSchemaError: nested, or named, beyond any use.
    """
    refuse_long_names(schema)
    definitions: dict[str, tuple[Mapping[str, Any], str]] = {}
    for each in referenced:
        refuse_long_names(each)
        _collect(each, "", definitions, 0)
    return _Inliner(definitions).walk(schema, "", 0)


def _collect(schema: Any, namespace: str, found: dict[str, tuple[Mapping[str, Any], str]], depth: int) -> None:
    """Every named type, with the namespace that stands around it."""
    if depth > _DEEPEST:
        raise HostileSchemaError(f"nested deeper than {_DEEPEST}")
    if isinstance(schema, list):
        for branch in schema:
            _collect(branch, namespace, found, depth + 1)
    elif isinstance(schema, dict):
        if schema.get("type") in _NAMED and isinstance(schema.get("name"), str):
            full = full_name(schema, namespace)
            found.setdefault(full, (schema, namespace))
            namespace = full.rpartition(".")[0]
        for key in ("type", "items", "values", "fields"):
            if isinstance(schema.get(key), (dict, list)):
                _collect(schema[key], namespace, found, depth + 1)


class _Inliner:
    """One walk in the order in which a reader meets the types."""

    def __init__(self, definitions: Mapping[str, tuple[Mapping[str, Any], str]]) -> None:
        self._definitions = definitions
        self._defined: set[str] = set()

    def walk(self, schema: Any, namespace: str, depth: int) -> Any:
        """The same type, self-contained so far as it is met first here."""
        if depth > _DEEPEST:
            raise HostileSchemaError(f"nested deeper than {_DEEPEST}")
        match schema:
            case str():
                return self._reference(schema, namespace, depth)
            case list():
                return [self.walk(branch, namespace, depth + 1) for branch in schema]
            case {"type": str(kind), "name": str()} if kind in _NAMED:
                full = full_name(schema, namespace)
                # A reference's own copy of a type that was put in before becomes its name.
                return full if full in self._defined else self._definition(schema, full, depth)
            case {"type": _}:
                inner = {key: self.walk(schema[key], namespace, depth + 1) for key in ("items", "values") if key in schema}
                if not isinstance(schema["type"], str) or not inner:
                    inner["type"] = self.walk(schema["type"], namespace, depth + 1)
                return {**schema, **inner}
        return schema

    def _definition(self, schema: Mapping[str, Any], full: str, depth: int) -> Any:
        self._defined.add(full)
        fields = schema.get("fields")
        if not isinstance(fields, list):
            return schema
        return {**schema, "fields": [self._field(each, full.rpartition(".")[0], depth) for each in fields]}

    def _field(self, field: Any, namespace: str, depth: int) -> Any:
        if not isinstance(field, dict) or "type" not in field:
            return field
        return {**field, "type": self.walk(field["type"], namespace, depth + 1)}

    def _reference(self, name: str, namespace: str, depth: int) -> Any:
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if name in PRIMITIVES or name == "null" or full in self._defined or full not in self._definitions:
            return name
        schema, around = self._definitions[full]
        # Whole: its namespace must not become that of the place where it is put in.
        whole = {**schema, "name": full.rpartition(".")[2], "namespace": full.rpartition(".")[0]}
        return self.walk(whole, around, depth + 1)
