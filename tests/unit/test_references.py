"""A schema and its references become one."""

from typing import Any

import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from consumer.core.errors import HostileSchemaError
from consumer.core.references import self_contained

INNER = {"type": "record", "name": "Inner", "namespace": "other", "fields": [{"name": "x", "type": "int"}]}
KIND = {"type": "enum", "name": "Kind", "symbols": ["A"]}


def record(*types: Any) -> dict[str, Any]:
    """A record in a namespace of its own."""
    return {"type": "record", "name": "R", "namespace": "n", "fields": [{"name": f"f{at}", "type": each} for at, each in enumerate(types)]}


def mark(schema: Any) -> str:
    """What the schema means."""
    return fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")


def test_put_in_where_it_is_used_first() -> None:
    """Once; in its own namespace, not in that of the place."""
    found = self_contained(record(["null", "other.Inner"], {"type": "array", "items": "other.Inner"}, {"type": "map", "values": "Kind"}),
                           [INNER, {**KIND, "namespace": "n"}])  # fmt: skip
    whole = record(["null", INNER], {"type": "array", "items": "other.Inner"}, {"type": "map", "values": KIND})
    assert mark(found) == mark(whole)


def test_through_references_of_references() -> None:
    """In any order, and where one of them brings a copy of another."""
    middle = {"type": "record", "name": "Middle", "namespace": "m", "fields": [{"name": "inner", "type": "other.Inner"}]}
    copied = {"type": "record", "name": "Copied", "namespace": "m", "fields": [{"name": "inner", "type": INNER}]}
    whole = record(
        {**middle, "fields": [{"name": "inner", "type": INNER}]}, {**copied, "fields": [{"name": "inner", "type": "other.Inner"}]}
    )
    for references in ([middle, copied, INNER], [INNER, copied, middle]):
        assert mark(self_contained(record("m.Middle", "m.Copied"), references)) == mark(whole)


def test_what_has_no_namespace_keeps_none() -> None:
    """Though it stands inside one."""
    found = self_contained(record("Kind"), [{**KIND, "namespace": "n"}])
    assert found["fields"][0]["type"]["namespace"] == "n"
    plain = {**record("string"), "namespace": ""}
    assert self_contained(plain, [INNER]) == plain


def test_what_is_nowhere_stays_for_the_reader_to_refuse() -> None:
    """Nothing is guessed."""
    assert self_contained(record("other.Nowhere"), [INNER]) == record("other.Nowhere")


def test_nested_without_end() -> None:
    """Refused; a circle ends by itself, in a name that the reader refuses."""
    deep: Any = "string"
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    for schema, references in ((record(deep), []), (record("string"), [record(deep)])):
        with pytest.raises(HostileSchemaError, match="nested deeper"):
            self_contained(schema, references)
    circle = {"type": "record", "name": "Inner", "namespace": "other", "fields": [{"name": "again", "type": "n.R"}]}
    found = self_contained(record("other.Inner"), [circle, record("other.Inner")])
    assert found["fields"][0]["type"]["fields"][0]["type"] == "n.R"
