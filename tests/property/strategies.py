"""Hypothesis strategies made from an Avro schema."""

from typing import Any

from hypothesis import strategies as st

from consumer.core.avro import full_name

_LONGS = st.integers(-(2**63), 2**63 - 1)
_LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=30),
    "long": _LONGS,
    "boolean": st.booleans(),
    "null": st.none(),
}


def values(schema: Any, named: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """Any datum of the schema, in the form that our reader gives."""
    named = {} if named is None else named
    if isinstance(schema, str):
        return values(named[schema], named) if schema in named else _LEAVES[schema]
    if isinstance(schema, list):
        return st.one_of(*(_branch(branch, named) for branch in schema))
    kind = schema["type"]
    if kind == "record":
        named[schema["name"]] = schema
        return st.fixed_dictionaries({field["name"]: values(field["type"], named) for field in schema["fields"]})
    if kind == "enum":
        return st.sampled_from(schema["symbols"])
    if kind == "array":
        return st.lists(values(schema["items"], named), max_size=4)
    return values(kind, named)


def _branch(branch: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    strategy = values(branch, named)
    schema = named.get(branch) if isinstance(branch, str) else branch
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return strategy
    name = full_name(schema, "integration.audit.v1")
    return strategy.map(lambda value: (name, value))
