"""Our strict reader against fastavro, on whatever the event's schema allows; and what it must refuse."""

import contextlib
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.core.avro import _Compiler, compile_reader
from consumer.core.avro_straight import GIVES_UP, compile_straight
from consumer.core.avro_values import MAX_ITEM_VALUES, MalformedDatumError
from consumer.core.decoding import strip_logical_types
from consumer.core.errors import HostileSchemaError
from consumer.core.framing import SINGLE_OBJECT_HEADER
from consumer.core.references import self_contained
from consumer.core.samples import sample_events
from consumer.schemas import event_schema
from tests.bed.events import ENCODER
from tests.property.strategies import values

SCHEMA = strip_logical_types(event_schema())
PARSED = fastavro.parse_schema(SCHEMA)
READ = compile_reader(SCHEMA)
COMPILER = _Compiler()
CLOSURES = COMPILER.reader(SCHEMA, "", 0)
STRAIGHT: Any = compile_straight(SCHEMA)


def rule(data: bytes) -> Any:
    """What the closures say."""
    COMPILER.room.left = MAX_ITEM_VALUES
    return CLOSURES(data, 0)


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
        ({"type": "array", "items": "string"}, b"\x01\x04\x02a\x00\x04", "left over"),
        ({"type": "array", "items": "string"}, b"\x01\x06\x02a\x00", "size in bytes"),
        ({"type": "array", "items": "string"}, b"\x01\x02\x02a\x00", "size in bytes"),
        ({"type": "map", "values": "int"}, b"\x01\x08\x02a\x00\x00", "size in bytes"),
        ("string", b"\x80\x80\x10" + b"\xff" * 131_072, "no UTF-8"),
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


EMPTY = {"type": "record", "name": "Empty", "fields": []}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]},
        {"type": "array", "items": "null"},
        {"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}},
        {"type": "array", "items": {"type": "record", "name": "A", "fields": [{"name": "e", "type": EMPTY}]}},
        {"type": "array", "items": {"type": EMPTY}},
        {"type": "map", "values": ["null", EMPTY, {"type": "array", "items": "Empty"}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", EMPTY]}, {"name": "b", "type": "Empty"}]},
        {"type": "fixed", "name": "F", "size": 0},
        {"type": "fixed", "name": "F", "size": True},
        {"type": "fixed", "name": "F", "size": 2**70},
        {"type": "fixed", "name": "F", "size": 16, "logicalType": "decimal", "precision": 10**9},
        {"type": "bytes", "logicalType": "decimal", "precision": 10**9, "scale": 2},
        {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1e300},
        {"type": "enum", "name": "E", "symbols": []},
        {"type": "enum", "name": "E", "symbols": ["A", "A"]},
        {"type": "enum", "name": "E", "symbols": ["A", ["B"]]},
        {"type": "enum", "name": "E", "symbols": ["no name"]},
        {"type": "enum", "name": "E", "symbols": [f"S{number}" for number in range(2000)]},
        {"type": "enum", "name": "E", "namespace": None, "symbols": ["A"]},
        {"type": "enum", "name": "string", "symbols": ["A"]},
        {"type": "enum", "name": "", "symbols": ["A"]},
        {"type": "enum", "name": "a..b", "symbols": ["A"]},
        {"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}, {"name": "x", "type": "int"}]},
        {"type": "record", "name": "R", "fields": [{"name": "x\n", "type": "int"}]},
        [],
        ["int", ["null", "string"]],
        [{"type": "record"}],
        [{"type": "record", "name": ["R"], "fields": []}],
        ["null"] * 1000,
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
    except (IndexError, MalformedDatumError, *GIVES_UP):
        return
    if found is not None and found[1] == len(raw):
        assert found == rule(bytes(raw))


@given(st.binary(max_size=200))
def test_the_short_cut_on_random_bytes(raw: bytes) -> None:
    """None of its errors is another one."""
    with contextlib.suppress(IndexError, MalformedDatumError, *GIVES_UP):
        STRAIGHT(raw, 0)


def test_usual_events_take_the_short_cut() -> None:
    """All samples; and names of a schema are no code."""
    for sample in sample_events(200, seed=3, now=1_795_478_400_000_000):
        assert STRAIGHT(ENCODER.encode(sample), SINGLE_OBJECT_HEADER) is not None
    evil = {"type": "record", "name": "R", "fields": [{"name": "a'}, exit(), {'{v}", "type": "string"}]}
    straight = compile_straight(evil)
    assert straight is not None
    assert straight(b"\x02x", 0) == ({"a'}, exit(), {'{v}": "x"}, 2)


@pytest.mark.parametrize("schema", ["double", {"type": "map", "values": "string"}, {"type": "fixed", "name": "F", "size": 2}, _deep(2)])
def test_what_has_no_short_cut(schema: Any) -> None:
    """The closures read it."""
    assert compile_straight(schema) is None


def test_a_block_may_say_its_size() -> None:
    """If it is right; twice in one array."""
    assert compile_reader({"type": "array", "items": "string"})(b"\x03\x08\x02a\x02b\x01\x04\x02c\x00", 0) == ["a", "b", "c"]
    assert compile_reader({"type": "map", "values": "int"})(b"\x01\x06\x02a\x02\x00", 0) == {"a": 1}


def test_a_change_without_fields_is_none_of_the_hostile() -> None:
    """In a union, whose index takes a byte."""
    assert compile_reader({"type": "array", "items": ["null", EMPTY]})(b"\x04\x00\x02\x00", 0) == [None, ("Empty", {})]


@pytest.mark.parametrize(
    "items", ["boolean", {"type": "record", "name": "R", "fields": [{"name": f"f{n}", "type": "int"} for n in range(99)]}]
)
def test_the_values_of_all_items_are_bounded_together(items: Any) -> None:
    """However they are spread over arrays in arrays, and however wide they are."""
    schema = {"type": "array", "items": {"type": "array", "items": items}}
    width = 1 if isinstance(items, str) else 100
    read = compile_reader(schema)
    inner = 50  # in each array
    item = b"\x64" + b"\x00" * (inner * max(1, width - 1)) + b"\x00"
    weight = width + 1 + inner * width  # of an outer item, once it is read; the array and its item were counted before
    fit = MAX_ITEM_VALUES // weight

    def raw(count: int) -> bytes:
        return b"".join(b"\x02" + item for _ in range(count)) + b"\x00"

    for _ in range(2):  # each datum has all the room
        assert len(read(raw(fit), 0)) == fit
        with pytest.raises(MalformedDatumError, match="too many items"):
            read(raw(fit + 1), 0)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "R", "namespace": "n" * 100_000, "fields": [{"name": "a", "type": "string"}]},
        {"type": "record", "name": "R", "fields": [{"name": "a" * 257, "type": "string"}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", "R" * 257]}]},
        {"type": "enum", "name": "E", "symbols": ["A" * 257]},
    ],
)
def test_long_names_are_refused_before_they_are_written_out(schema: Any) -> None:
    """By whoever sees the schema first."""
    for look in (compile_reader, lambda each: self_contained(each, [])):
        with pytest.raises(HostileSchemaError, match="a name of more than 256 characters"):
            look(schema)
