"""Schemas from outside, broken in any way: refused, or their messages are; nothing else is ever raised."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.core.decoding import Decoder
from consumer.core.errors import HostileSchemaError, Rejected
from consumer.core.mapping import audit_record
from consumer.core.references import self_contained
from consumer.schemas import event_schema
from tests.bed.events import message_value
from tests.bed.evolution import CLIENT, ENABLED, GENERATED

SCHEMA = event_schema()
NAME = b"\x00\x00\x00\x07"
TEXTS = ("null", "string", "long", "int", "bytes", "record", "enum", "array", "map", "fixed", "OAuthClient", "nowhere", "0 bad", "")
KEYS = ("type", "name", "namespace", "fields", "items", "values", "symbols", "size", "default", "aliases", "logicalType", "order")
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 2**70), st.floats(allow_nan=False), st.sampled_from(TEXTS)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=8,
)
PATHS: list[tuple[Any, ...]] = []


def _walk(node: Any, path: tuple[Any, ...]) -> None:
    PATHS.append(path)
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key != "doc":
            _walk(inner, (*path, key))


_walk(SCHEMA, ())
VALUES = [b"\x00" + NAME + message_value(change)[10:] for change in (None, CLIENT, ENABLED, GENERATED)]


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS[1:]), JUNK), min_size=1, max_size=2), st.sampled_from(VALUES), st.booleans())
def test_a_broken_schema_breaks_nothing_else(edits: list[tuple[tuple[Any, ...], Any]], value: bytes, tail: bool) -> None:
    """Whatever stands where in it."""
    schema = json.loads(json.dumps(SCHEMA))
    for path, junk in edits:
        node = schema
        with suppress(KeyError, IndexError, TypeError):
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = junk
    decoder = DECODER
    decoder.refuse(NAME, "unknown")
    with suppress(HostileSchemaError, Rejected):
        decoder.learn(self_contained(schema, [schema]), NAME)
        audit_record(decoder.decode(value + b"\x00" * 9 * tail, None), value)


DECODER = Decoder(SCHEMA, (), 1_048_576, with_registry=True)
