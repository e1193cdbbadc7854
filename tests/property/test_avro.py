"""Our strict reader against fastavro, on whatever the event's schema allows; and what it must refuse."""

import contextlib
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.core.avro import _Compiler, compile_reader
from consumer.core.avro_straight import compile_straight
from consumer.core.avro_values import MalformedDatumError
from consumer.core.decoding import strip_logical_types
from consumer.core.errors import HostileSchemaError
from consumer.core.framing import SINGLE_OBJECT_HEADER
from consumer.core.samples import sample_events
from consumer.schemas import event_schema
from tests.bed.events import ENCODER
from tests.property.strategies import values

SCHEMA = strip_logical_types(event_schema())
PARSED = fastavro.parse_schema(SCHEMA)
READ = compile_reader(SCHEMA)
RULE = _Compiler().reader(SCHEMA, "", 0)
STRAIGHT: Any = compile_straight(SCHEMA)


def _encoded(schema: Any, value: Any) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, schema, value)
    return stream.getvalue()


@given(values(SCHEMA))
def test_reads_what_fastavro_wrote(value: Any) -> None:
    """Every datum of the schema comes back as it was."""
    assert READ(_encoded(PARSED, value), 0) == value


@given(values(SCHEMA), st.data())
def test_a_changed_datum_is_read_as_its_own_bytes_or_refused(value: Any, data: st.DataObject) -> None:
    """Whatever the strict reader accepts is the encoding of what it read: no second way to say the same."""
    raw = bytearray(_encoded(PARSED, value))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    try:
        found = READ(bytes(raw), 0)
    except MalformedDatumError:
        return
    if "\\ud" not in ascii(found) and not _has_blocks(found):
        assert _encoded(PARSED, found) == bytes(raw)


def _has_blocks(value: Any) -> bool:
    """Arrays may be written in several ways."""
    return any(isinstance(each, list) and each for each in value["change"][1].values())


@given(values(SCHEMA), st.data())
def test_truncated_and_trailing_bytes_are_refused(value: Any, data: st.DataObject) -> None:
    """At any place."""
    raw = _encoded(PARSED, value)
    with pytest.raises(MalformedDatumError):
        READ(raw[: data.draw(st.integers(0, len(raw) - 1))], 0)
    with pytest.raises(MalformedDatumError, match="left over"):
        READ(raw + data.draw(st.binary(min_size=1, max_size=3)), 0)


@given(st.binary(max_size=200))
def test_random_bytes_never_escape(raw: bytes) -> None:
    """Only the one error comes out."""
    with contextlib.suppress(MalformedDatumError):
        READ(raw, 0)


@pytest.mark.parametrize(
    ("schema", "raw", "what"),
    [
        ("long", b"\x80\x00", "over-long"),
        ("long", b"\xff" * 9 + b"\x02", "over-long"),
        ("long", b"\xff" * 11, "over-long"),
        ("int", b"\xfe\xff\xff\xff\x1f", "32 bits"),
        (["null", "string"], b"\x01", "union index"),
        (["null", "string"], b"\x04", "union index"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x01", "enum index"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02", "enum index"),
        ("boolean", b"\x02", "boolean"),
        ("string", b"\x01", "negative length"),
        ("string", b"\x06ab", "end inside"),
        ("double", b"\x00", "end inside"),
        ({"type": "array", "items": "string"}, b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f", "items"),
    ],
)
def test_malformed(schema: Any, raw: bytes, what: str) -> None:
    """Each has its own words."""
    with pytest.raises(MalformedDatumError, match=what):
        compile_reader(schema)(raw, 0)


def _doubled(depth: int) -> Any:
    schema: Any = "string"
    for level in range(depth):
        schema = {"type": "record", "name": f"R{level}", "fields": [{"name": "a", "type": schema}, {"name": "b", "type": f"R{level - 1}"}]}
        if level == 0:
            schema["fields"][1]["type"] = "string"
    return schema


def _deep(depth: int) -> Any:
    schema: Any = "string"
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]},
        {"type": "array", "items": "null"},
        {"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}},
        {"type": "fixed", "name": "F", "size": 0},
        _doubled(16),
        _deep(100),
        {"type": "record", "name": "R", "fields": [{"name": f"f{number}", "type": "int"} for number in range(1000)]},
        {"type": "record", "name": "R", "fields": [{"name": "x", "type": "Unknown"}]},
        {"type": "record"},
        None,
        7,
    ],
)
def test_hostile_schemas_are_refused(schema: Any) -> None:
    """Before anything is read with them."""
    with pytest.raises(HostileSchemaError):
        compile_reader(schema)


@given(values(SCHEMA), st.data())
def test_the_short_cut_takes_only_what_the_closures_take(value: Any, data: st.DataObject) -> None:
    """Whole, changed, cut, and with more behind; what it does not take the closures read."""
    raw = bytearray(_encoded(PARSED, value))
    match data.draw(st.sampled_from(("whole", "changed", "cut", "longer"))):
        case "changed":
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        case "cut":
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        case "longer":
            raw += b"\x00"
    try:
        found = STRAIGHT(bytes(raw), 0)
    except (IndexError, UnicodeDecodeError, MalformedDatumError):
        return
    if found is not None and found[1] == len(raw):
        assert found == RULE(bytes(raw), 0)


@given(st.binary(max_size=200))
def test_the_short_cut_on_random_bytes(raw: bytes) -> None:
    """None of its errors is another one."""
    with contextlib.suppress(IndexError, UnicodeDecodeError, MalformedDatumError):
        STRAIGHT(raw, 0)


def test_usual_events_take_the_short_cut() -> None:
    """All samples; and names of a schema are no code."""
    for sample in sample_events(200, seed=3, now=1_795_478_400_000_000):
        assert STRAIGHT(ENCODER.encode(sample), SINGLE_OBJECT_HEADER) is not None
    evil = {"type": "record", "name": "R", "fields": [{"name": "a'}, exit(), {'{v}", "type": "string"}]}
    straight = compile_straight(evil)
    assert straight is not None
    assert straight(b"\x02x", 0) == ({"a'}, exit(), {'{v}": "x"}, 2)


@pytest.mark.parametrize("schema", ["double", {"type": "map", "values": "string"}, {"type": "fixed", "name": "F", "size": 2}, _deep(20)])
def test_what_has_no_short_cut(schema: Any) -> None:
    """The closures read it."""
    assert compile_straight(schema) is None
