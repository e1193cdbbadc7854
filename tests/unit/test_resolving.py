"""Resolution of a datum, piece by piece, beside fastavro where that library gets it right."""

from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given

from consumer.core.avro import compile_reader
from consumer.core.errors import Reason, Rejected
from consumer.core.resolving import compile_resolver
from consumer.schemas import event_schema
from tests.bed.evolution import writer_schema
from tests.property.strategies import values


def record(*fields: Any, name: str = "R") -> dict[str, Any]:
    """A record of fields a, b, c …, in a namespace."""
    return {
        "type": "record", "name": name, "namespace": "n",
        "fields": [{"name": letter, "type": field} for letter, field in zip("abcdef", fields, strict=False)],
    }  # fmt: skip


def resolved(writer: dict[str, Any], reader: dict[str, Any], datum: Any) -> Any:
    """Through bytes, the strict reader and the resolver."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(writer), datum)
    return compile_resolver(writer, reader)(compile_reader(writer)(stream.getvalue(), 0))


ENUM = {"type": "enum", "name": "E", "symbols": ["X", "Y"]}
INNER = {"type": "record", "name": "I", "fields": [{"name": "x", "type": "int"}]}
WIDE_INNER = {"type": "record", "name": "I", "fields": [{"name": "x", "type": "long"}, {"name": "y", "type": "string", "default": "d"}]}


@pytest.mark.parametrize(
    ("writer", "reader", "datum", "expected"),
    [
        ("int", "long", 7, 7),
        ("int", "double", 7, 7.0),
        ("long", "float", 7, 7.0),
        ("float", "double", 0.5, 0.5),
        ("string", "bytes", "é", "é".encode()),
        ("bytes", "string", "é".encode(), "é"),
        ("int", ["null", "long"], 7, 7),
        (["null", "int"], ["long", "null"], None, None),
        (["null", "int"], ["long", "null"], 7, 7),
        (["int", "string"], ["string", "long"], "x", "x"),
        (["int", "string"], ["bytes", "double"], 7, 7.0),
        (["null", "int"], "long", 7, 7),
        (["null", "boolean", "int"], ["int", "boolean", "null"], True, True),
        ("string", ["bytes", "string"], "x", "x"),
        ({"type": "array", "items": "int"}, {"type": "array", "items": "long"}, [1, 2], [1, 2]),
        ({"type": "map", "values": "int"}, {"type": "map", "values": "double"}, {"k": 1}, {"k": 1.0}),
        (["null", {"type": "array", "items": "int"}], {"type": "array", "items": "long"}, [1], [1]),
        ({"type": "array", "items": ["null", INNER]}, {"type": "array", "items": [WIDE_INNER, "null"]}, [None, {"x": 1}],
         [None, ("n.I", {"x": 1, "y": "d"})]),
        (ENUM, {**ENUM, "symbols": ["Y", "X"]}, "Y", "Y"),
        (ENUM, {**ENUM, "symbols": ["Z"], "default": "Z"}, "Y", "Z"),
        ([ENUM, "null"], ["null", ENUM], "X", ("n.E", "X")),
        (INNER, [WIDE_INNER], {"x": 1}, ("n.I", {"x": 1, "y": "d"})),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 2}, b"ab", b"ab"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "long", 7, 7),
    ],
)  # fmt: skip
def test_a_value_becomes_ours(writer: Any, reader: Any, datum: Any, expected: Any) -> None:
    """As the specification says."""
    found = resolved(record(writer), record(reader), {"a": datum})["a"]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("writer", "reader", "datum", "reason"),
    [
        ("long", "int", 7, Reason.INVALID_EVENT),
        ("string", "long", "x", Reason.INVALID_EVENT),
        ("bytes", "string", b"\xff", Reason.INVALID_EVENT),
        (["null", "int"], "long", None, Reason.INVALID_EVENT),
        (["string", "int"], ["null", "int"], "x", Reason.INVALID_EVENT),
        (ENUM, {**ENUM, "symbols": ["X"]}, "Y", Reason.INVALID_EVENT),
        (ENUM, {**ENUM, "name": "Other"}, "Y", Reason.INVALID_EVENT),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 3}, b"ab", Reason.INVALID_EVENT),
        ({"type": "array", "items": "string"}, {"type": "array", "items": "long"}, ["x"], Reason.INVALID_EVENT),
        (INNER, "string", {"x": 1}, Reason.INVALID_EVENT),
        ([INNER, "null"], ["null", {**INNER, "name": "Other"}], {"x": 1}, Reason.UNMAPPED_CHANGE),
    ],
)  # fmt: skip
def test_a_value_that_can_not(writer: Any, reader: Any, datum: Any, reason: Reason) -> None:
    """Is refused with its field, and not with its value."""
    with pytest.raises(Rejected) as caught:
        resolved(record(writer), record(reader), {"a": datum})
    assert caught.value.reason is reason
    assert "a" in caught.value.error.replace(":", "").split()


def test_a_type_named_before_is_found_by_its_name() -> None:
    """In the namespace around it, in arrays too; and where the other schema defines it elsewhere."""
    writer = record({"type": "array", "items": INNER}, ["null", "I"], {"type": "array", "items": "I"})
    reader = {**record(), "fields": [{"name": "c", "type": {"type": "array", "items": INNER}}, {"name": "b", "type": ["n.I", "null"]}]}
    found = resolved(writer, reader, {"a": [], "b": {"x": 2}, "c": [{"x": 3}]})
    assert found == {"c": [{"x": 3}], "b": ("n.I", {"x": 2})}


def test_a_text_that_is_no_utf8_is_not_made_bytes() -> None:
    """The strict reader gives such a text; which bytes it was is not told."""
    with pytest.raises(Rejected, match=r"^a: a text that is no UTF-8$"):
        compile_resolver(record("string"), record("bytes"))({"a": "\udcff"})


def test_defaults_are_not_shared() -> None:
    """Between two events."""
    reader = {**record("int"), "fields": [{"name": "z", "type": {"type": "array", "items": "string"}, "default": []}]}
    resolve = compile_resolver(record("int"), reader)
    first, second = resolve({"a": 1}), resolve({"a": 1})
    first["z"].append("x")
    assert second == {"z": []}


@given(values(event_schema()))
def test_whatever_the_event_holds(datum: Any) -> None:
    """Through the same schema, and through one with its unions reordered: the datum stays as it is."""
    for name in (None, "reordered-unions", "newer-with-eleventh-change", "newer-with-symbol"):
        assert compile_resolver(writer_schema(name) if name else event_schema(), event_schema())(datum) == datum
