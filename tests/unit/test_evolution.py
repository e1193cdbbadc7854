"""Older and newer producers: what our reader makes of the worked examples in `schemas/evolution`."""

from typing import Any

import pytest

from consumer.core.decoding import Decoder, schema_fingerprint
from consumer.core.errors import Reason, Rejected
from consumer.core.mapping import audit_record
from consumer.schemas import event_schema
from tests.bed.events import ENCODER, decoder
from tests.bed.evolution import (
    ADAPT,
    CLIENT,
    DELETED,
    ENABLED,
    FOLDER,
    GENERATED,
    SLACK,
    eleventh_change,
    new_symbol,
    pair,
    writer_schema,
)  # fmt: skip

CHANGES = {"client": CLIENT, "slack": SLACK, "target": ENABLED, "token": DELETED, "validity": GENERATED}


def reader_of(name: str) -> Decoder:
    """The decoder with this writer's schema; with aliases where the writer's names need them."""
    reader = writer_schema("renamed-reader") if name == "renamed" else event_schema()
    return Decoder(reader, [writer_schema(name)], 1_048_576)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("name", ADAPT)
def test_another_version_says_the_same(name: str, change: dict[str, Any]) -> None:
    """Every allowed difference: the record is the one of our own schema, byte for byte."""
    optional = {} if "older" in name else {"error_code": "E-1", "result": "FAILED"}
    said, value = pair(name, change, source_ip=None, **optional)
    ours = ENCODER.encode(said)
    assert value != ours
    assert audit_record(reader_of(name).decode(value), value) == audit_record(decoder().decode(ours), ours)


def refusal(name: str, value: bytes, reader: dict[str, Any] | None = None) -> tuple[Reason, str]:
    """Why the message is no record."""
    with pytest.raises(Rejected) as caught:
        audit_record(Decoder(reader or event_schema(), [writer_schema(name)], 1_048_576).decode(value), value)
    return caught.value.reason, caught.value.error


def test_an_eleventh_change_is_unmapped() -> None:
    """And is read again after the upgrade; here an upgrade that knows the change and still has no action for it."""
    assert refusal("newer-with-eleventh-change", eleventh_change())[0] is Reason.UNMAPPED_CHANGE
    upgraded = writer_schema("newer-with-eleventh-change")
    assert refusal("newer-with-eleventh-change", eleventh_change(), upgraded) == (
        Reason.UNMAPPED_CHANGE,
        "this version knows no action for the change type",
    )


def test_a_new_symbol_is_invalid_until_the_upgrade() -> None:
    """With the field's name, and never the symbol."""
    assert refusal("newer-with-symbol", new_symbol()) == (Reason.INVALID_EVENT, "result is none of the known symbols")


def test_names_without_aliases_do_not_resolve() -> None:
    """A producer can't rename by itself."""
    for change in (CLIENT, SLACK):
        _, value = pair("renamed", change)
        assert refusal("renamed", value) == (Reason.INVALID_EVENT, "tenant is not in the writer's schema")


def test_aliases_are_no_part_of_the_fingerprint() -> None:
    """So a reader may get them without being another version."""
    assert schema_fingerprint(writer_schema("renamed-reader")) == schema_fingerprint(event_schema())


def test_every_example_is_used() -> None:
    """None is left behind."""
    assert {path.stem for path in FOLDER.glob("*.avsc")} == {*ADAPT, "renamed-reader"}
