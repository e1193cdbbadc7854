"""The explanation against the strict reader: they agree on what is wrong, and where, whatever the bytes."""

from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from consumer.core.avro import compile_reader
from consumer.core.avro_values import MalformedDatumError
from consumer.core.decoding import SINGLE_OBJECT, schema_fingerprint
from consumer.core.explaining import Explanation, explain
from consumer.schemas import event_schema
from tests.property.strategies import values
from tests.property.test_avro import PARSED, READ, SCHEMA, _encoded

HEADER = SINGLE_OBJECT + schema_fingerprint(event_schema())
SCHEMAS = {HEADER[2:]: event_schema()}


def _complaint(read: Callable[[bytes, int], Any], value: bytes) -> tuple[int, str] | None:
    """What the strict reader has against the datum behind the header, and where."""
    try:
        read(value, len(HEADER))
    except MalformedDatumError as error:
        return error.place, str(error)
    return None


def _found(explanation: Explanation) -> tuple[int, str] | None:
    """The same of the explanation."""
    return None if explanation.mark is None or explanation.error is None else (explanation.mark[0], explanation.error)


def _agree(raw: bytes) -> Explanation:
    """What the reader says, the explanation says; fields lie one after the other up to there."""
    value = HEADER + raw
    explanation = explain(value, SCHEMAS)
    assert _found(explanation) == _complaint(READ, value)
    assert explanation.mark is not None or explanation.path is None
    ends = [len(HEADER), *(field.span[1] for field in explanation.fields)]
    assert all(field.span[0] >= end for field, end in zip(explanation.fields, ends, strict=False))
    assert ends[-1] <= len(value)
    return explanation


@given(values(SCHEMA), st.data())
def test_changed_cut_and_longer_bytes(value: Any, data: st.DataObject) -> None:
    """A byte changed, the end cut off, something after the end."""
    raw = bytearray(_encoded(PARSED, value))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    _agree(bytes(raw))
    _agree(bytes(raw[:place]))
    _agree(bytes(raw) + b"\x00")


@given(st.binary(max_size=200))
def test_random_bytes(raw: bytes) -> None:
    """Garbage behind a good header; and garbage alone never escapes."""
    _agree(raw)
    explain(raw, SCHEMAS)


@given(values(SCHEMA))
def test_a_good_datum_is_read_whole(value: Any) -> None:
    """Every field by its name, with its value."""
    fields = {field.path: field.value for field in _agree(_encoded(PARSED, value)).fields}
    for name in ("event_id", "occurred_at", "tenant", "actor", "source_ip", "result", "error_code"):
        found = value[name]
        assert fields[name] == (found[1] if isinstance(found, tuple) else found)
    assert fields["change"] == value["change"][0].rpartition(".")[2]


OTHER = {
    "type": "record",
    "name": "a.Other",
    "fields": [
        {"name": "flags", "type": {"type": "map", "values": "boolean"}},
        {"name": "list", "type": {"type": "array", "items": ["null", "int", {"type": "enum", "name": "E", "symbols": ["A", "B"]}]}},
        {"name": "again", "type": ["null", "E"]},
        {"name": "fixed", "type": {"type": "fixed", "name": "F", "size": 3}},
        {"name": "number", "type": {"type": "double"}},
    ],
}


@example(b"\x00\x00\x00")  # ends inside a double
@given(st.binary(max_size=60))
def test_every_kind_of_type(raw: bytes) -> None:
    """What our own schema does not use: maps, fixed, doubles, names used again."""
    mark = schema_fingerprint(OTHER)
    value = SINGLE_OBJECT + mark + raw
    explanation = explain(value, {mark: OTHER})
    assert _found(explanation) == _complaint(compile_reader(OTHER), value)
