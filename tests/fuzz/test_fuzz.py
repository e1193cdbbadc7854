"""The short form of `make fuzz`: the corpus, and some hundred cases of Hypothesis on each target."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.core.errors import Reason
from consumer.core.framing import SINGLE_OBJECT
from consumer.schemas import event_schema
from tests.bed.events import message_value
from tests.fuzz.seeds import CORPUS, inputs
from tests.fuzz.targets import MARKER, TARGETS, judge, writers

CASES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
SEEDS = {target: list(made.values()) for target, made in inputs().items()}


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_corpus(path: Any) -> None:
    """Everything that was ever found, and what it was found from."""
    TARGETS[path.parent.name](path.read_bytes())


def test_the_corpus_is_there() -> None:
    """All of the first inputs, and small enough to be kept."""
    names = {(path.parent.name, path.name) for path in CASES}
    assert names >= {(target, name) for target, made in inputs().items() for name in made}
    assert sum(path.stat().st_size for path in CASES) < 256 * 1024


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """An input of the corpus with some bytes replaced, put in, taken out or doubled."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                data[at:at] = draw(st.binary(max_size=11))
            case 2:
                del data[at : at + draw(st.integers(1, 20))]
            case _:
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(mutated(SEEDS["framing"]))
def test_framing(data: bytes) -> None:
    """Any first bytes and headers."""
    TARGETS["framing"](data)


@settings(max_examples=600, deadline=None)
@given(mutated(SEEDS["datum"]))
def test_datum(data: bytes) -> None:
    """Broken events of every writer's schema."""
    TARGETS["datum"](data)


_KEYS = ("type", "name", "namespace", "fields", "items", "values", "symbols", "size", "default", "aliases", "logicalType", "precision")
_TEXTS = ("null", "string", "long", "bytes", "record", "enum", "array", "map", "fixed", "decimal", "R", "E", "a.R", "", "0")
_SCHEMAS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 2**70), st.floats(), st.sampled_from(_TEXTS)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5),
        st.fixed_dictionaries({"type": st.just("record"), "name": st.just("R"), "fields": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(("a", "b")), "type": inner}), max_size=3)}),
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(_SCHEMAS.map(lambda schema: json.dumps(schema).encode()), mutated(SEEDS["schema"])), st.binary(max_size=40))
def test_schema(text: bytes, content: bytes) -> None:
    """What is no schema, and what is nearly one."""
    TARGETS["schema"](text + b"\x00" + content)


@pytest.mark.parametrize("depth", [30, 900, 5_000])
@pytest.mark.parametrize("where", ['{"type":"array","items":%s}', "[%s]", '{"type":%s}', '{"default":%s,"type":"int","name":"a"}'])
def test_a_schema_nested_beyond_any_use(where: str, depth: int) -> None:
    """Of any kind, in any place: alone, in our schema's field, and as a default."""
    start, _, end = where.partition("%s")
    nested = start * depth + '"int"' + end * depth
    ours = json.dumps(event_schema())
    for text in (nested, ours.replace('"boolean"', nested), ours.replace('"default": null', f'"default": {nested}')):
        TARGETS["schema"](text.encode())


def test_the_invariant_can_fail() -> None:
    """A good event is a record, every refusal is told apart, and a value in a verdict is noticed."""
    assert judge(message_value()) is None
    assert judge(message_value(source_ip=MARKER)) is Reason.INVALID_EVENT
    assert judge(b"") is Reason.UNDECODABLE
    assert judge(SINGLE_OBJECT + bytes(8)) is Reason.UNKNOWN_SCHEMA
    assert {judge(SINGLE_OBJECT + mark + SEEDS["datum"][0][1:]) for mark, _ in writers()} >= {None, Reason.UNDECODABLE}
