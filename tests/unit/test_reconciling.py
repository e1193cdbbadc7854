"""The comparison of a stretch, and the books: pure, so every case is a few lines."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.core.balance import Position, balance
from consumer.core.canonical import canonical_json, content_hash
from consumer.core.clock import month_of
from consumer.core.errors import Rejected
from consumer.core.events import AuditRecord, Partition
from consumer.core.findings import Kind, Table
from consumer.core.mapping import audit_record
from consumer.core.moves import Move
from consumer.core.reconciling import Delivered, Known, QuarantinedRow, Seen, Stretch, compare
from consumer.core.samples import sample_events
from consumer.core.stored import StoredRow, stored_row
from tests.bed.events import ENCODER, FakeMessage, decoder, message_value

PARTITION = Partition("topic", 0)
NOW = 1_795_478_400_000_000  # 2026-11-24
SAMPLES = [ENCODER.encode(each) for each in sample_events(40, seed=3, now=NOW)]


def delivered(values: Sequence[bytes | None]) -> dict[int, Delivered]:
    """Messages from offset 0 on."""
    found = {}
    for offset, value in enumerate(values):
        verdict: AuditRecord | Rejected | None = None
        if value is not None:
            try:
                verdict = audit_record(decoder().decode(value), value)
            except Rejected as rejected:
                verdict = rejected
        found[offset] = Delivered(FakeMessage(value, offset), verdict)
    return found


def row_of(record: AuditRecord, offset: int, **ledger: Any) -> StoredRow:
    """The row as it is written: jsonb has its own order of keys, inet its network."""
    complement = json.loads(record.complement)
    shuffled = json.dumps({key: complement[key] for key in sorted(complement, reverse=True)})
    address = record.source_ip and record.source_ip + ("/128" if ":" in record.source_ip else "/32")
    items = tuple(record._replace(complement=shuffled, source_ip=address))
    return stored_row(offset, items, ledger.get("hash", record.content_hash), ledger.get("same_time", True))


def rows_of(messages: Mapping[int, Delivered]) -> dict[int, list[StoredRow]]:
    """A row for every event."""
    return {offset: [row_of(each.verdict, offset)] for offset, each in messages.items() if isinstance(each.verdict, AuditRecord)}


def stretch(
    messages: Mapping[int, Delivered], rows: Mapping[int, Sequence[StoredRow]],
    quarantined: Mapping[int, Sequence[QuarantinedRow]] | None = None, **more: Any,
) -> Stretch:  # fmt: skip
    """The whole of a small partition."""
    return Stretch(
        PARTITION, more.get("topic_id", "id"), 0, more.get("end", len(messages)), messages, rows, quarantined or {},
        more.get("others", ()), more.get("gone", frozenset()),
    )  # fmt: skip


def told(compared: Stretch, known: Mapping[str, Known] | None = None) -> list[tuple[Any, ...]]:
    """Findings without their text."""
    return [(each.finding, each.table, each.offset, each.columns) for each in compare(compared, known or {}, Seen())]


def rehashed(row: StoredRow) -> StoredRow:
    """The row and its ledger, made consistent by whoever changed it."""
    true = content_hash(canonical_json(row.record[:13]).encode())
    return row._replace(record=row.record._replace(content_hash=true), true_hash=true, ledger_hash=true)


COLUMNS = [name for name in AuditRecord._fields if name not in ("event_id", "content_hash", "source_bytes")]


@settings(max_examples=150, deadline=None)
@given(chosen=st.lists(st.sampled_from(SAMPLES), min_size=1, max_size=8, unique=True), data=st.data())
def test_any_change_of_any_row_is_found_at_its_place(chosen: list[bytes], data: st.DataObject) -> None:
    """An honest stretch has no finding; one with a changed column has it at that place, by that name, however consistent the change."""
    messages = delivered(chosen)
    rows = rows_of(messages)
    seen = Seen()
    assert compare(stretch(messages, rows), {}, seen) == []
    assert (seen.written, seen.rows, seen.verified) == (len(chosen),) * 3
    offset = data.draw(st.sampled_from(sorted(rows)))
    column = data.draw(st.sampled_from(COLUMNS))
    (row,) = rows[offset]
    value = row.record.occurred_at + 1 if column == "occurred_at" else '{"x":1}' if column == "complement" else "x"
    changed = row._replace(record=row.record._replace(**{column: value}))
    if column != "source_ip" and data.draw(st.booleans()):
        changed = rehashed(changed)
    (found, *more) = compare(stretch(messages, {**rows, offset: [changed]}), {}, Seen())
    assert (found.finding, found.table, found.offset, found.event_id) == (Kind.DIFFERENT, Table.LOG, offset, row.record.event_id)
    assert column in found.columns
    assert {each.table for each in more} <= {Table.LEDGER}


@given(st.sampled_from(SAMPLES), st.integers(0, 3))
def test_a_row_that_is_gone(value: bytes, before: int) -> None:
    """Missing, whatever the ledger says; a duplicate only where there is a row."""
    messages = delivered([*[None] * before, value])
    record = messages[before].verdict
    assert isinstance(record, AuditRecord)
    gone = stretch(messages, {})
    assert gone.unplaced() == [record]
    missing = [(Kind.MISSING, Table.LOG, before, ())]
    assert told(gone) == missing
    assert told(gone, {record.event_id: Known(record.content_hash, None, None)}) == missing
    assert told(gone, {record.event_id: Known(record.content_hash, record.content_hash, ("topic", 1, 5))}) == []
    conflict = Known(b"other", b"other", ("topic", 1, 5))
    assert told(gone, {record.event_id: conflict}) == [(Kind.MISSING, Table.QUARANTINE, before, ())]


def test_an_event_older_than_the_retention_is_counted() -> None:
    """Its month has left, the ledger has forgotten it."""
    messages = delivered(SAMPLES[:1])
    seen = Seen()
    assert compare(stretch(messages, {}, gone={month_of(NOW)}), {}, seen) == []
    assert seen.retired == 1


def test_where_an_older_topic_may_have_rows() -> None:
    """One row more for each topic that was there, none for its quarantined messages."""
    messages = delivered([SAMPLES[0], None])
    rows = rows_of(messages)
    (stranger,) = rows_of(delivered(SAMPLES[1:2]))[0]
    rows = {0: [stranger, *rows[0]], 1: [stranger._replace(offset=1)]}
    extra = [(Kind.EXTRA, Table.LOG, 0, ()), (Kind.EXTRA, Table.LOG, 1, ())]
    assert told(stretch(messages, rows)) == extra
    assert told(stretch(messages, rows, others=[(0, 2)])) == []
    assert told(stretch(messages, rows, others=[(0, 1)])) == extra[1:]
    old = QuarantinedRow(0, "old id", "conflict", "open", None, None, None, ())
    assert told(stretch(messages, rows, {0: [old]}, others=[(0, 2)])) == extra[:1]


def test_where_kafka_has_nothing_any_more() -> None:
    """One row a position; it can be checked against itself and the ledger only."""
    (row,) = rows_of(delivered(SAMPLES[:1]))[0]
    gone = {"topic_id": None, "others": [(0, 5)], "end": 5}
    assert told(stretch({}, {0: [row]}, **gone)) == []
    assert told(stretch({}, {0: [row, row]}, **gone)) == [(Kind.EXTRA, Table.LOG, 0, ())]
    changed = row_of(row.record._replace(tenant="x"), 0)  # its content_hash as it was
    assert told(stretch({}, {0: [changed]}, **gone)) == [(Kind.DIFFERENT, Table.LOG, 0, ("content_hash",))]
    assert told(stretch({}, {0: [row._replace(ledger_hash=None)]}, **gone)) == [(Kind.MISSING, Table.LEDGER, 0, ())]
    assert told(stretch({}, {0: [row._replace(same_time=False)]}, **gone)) == [(Kind.DIFFERENT, Table.LEDGER, 0, ("occurred_at",))]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"garbage", (Kind.MISSING, Table.QUARANTINE)),
        (message_value(source_ip="x"), (Kind.MISSING, Table.QUARANTINE)),
        (b"\xc3\x0112345678more", (Kind.MISSING, Table.QUARANTINE)),
    ],
    ids=["garbage", "an event that can't be mapped", "of an unknown schema"],
)
def test_a_message_that_is_no_event_must_be_in_quarantine(value: bytes, found: tuple[Kind, Table]) -> None:
    """Whatever is wrong with it."""
    assert told(stretch(delivered([value]), {})) == [(*found, 0, ())]


def test_a_row_of_a_message_that_can_not_be_read_here() -> None:
    """Of an unknown schema it can't be told; of garbage there can be none."""
    (row,) = rows_of(delivered(SAMPLES[:1]))[0]
    assert told(stretch(delivered([b"\xc3\x0112345678more"]), {0: [row]})) == [(Kind.UNREADABLE, Table.LOG, 0, ())]
    assert told(stretch(delivered([b"garbage"]), {0: [row]})) == [
        (Kind.MISSING, Table.QUARANTINE, 0, ()),
        (Kind.EXTRA, Table.LOG, 0, ()),
    ]


POSITION = Position(PARTITION, "id", 0, 10, 3, 2, 1, 1, 1, 2, 2)


def seen(**counts: Any) -> Seen:
    """What fits the position."""
    found = Seen(rows=3, written=3, duplicates=2, tombstones=1, skipped=1, verified=8)
    found.quarantined["id"] = 1
    for name, count in counts.items():
        setattr(found, name, count)
    return found


@pytest.mark.parametrize(
    ("position", "counts", "columns"),
    [
        ({}, {}, []),
        ({"written": 4}, {}, [(), ("written",)]),
        ({"gaps": 1}, {}, [("expired",)]),
        ({"quarantined": 2, "duplicates": 1}, {}, [("quarantined",), ("duplicates",)]),
        ({}, {"rows": 4, "retried": 1}, []),
        ({}, {"rows": 4}, [("written",)]),
        ({}, {"rows": 2, "removed": 1}, []),
        ({}, {"rows": 2, "removed": 1, "retired": 2, "written": 2, "duplicates": 1}, []),  # of two deliveries of an event that is gone
        ({}, {"rows": 2, "retired": 1, "written": 2}, [("written",)]),
        ({}, {"tombstones": 0}, []),  # may be among those that Kafka no longer has
        ({}, {"tombstones": 2}, [("tombstones",)]),
        ({"expired": 0, "gaps": 0, "skipped": 3}, {"verified": 10, "skipped": 3}, []),
        ({"expired": 0, "gaps": 0, "skipped": 3}, {"verified": 10, "skipped": 3, "tombstones": 0}, [("tombstones",)]),
        ({}, {"passed_over": 2}, []),
        ({}, {"passed_over": 2, "tombstones": 0}, [("tombstones",)]),  # all else was looked at
        ({"reread": 2, "duplicates": 4}, {}, [("reread",)]),  # nobody told of it
        ({"reread": 2, "duplicates": 4, "moves": (Move(1, 8, 6, 2),)}, {}, []),
        ({"reread": 2, "duplicates": 3, "quarantined": 2, "moves": (Move(1, 8, 6, 2),)}, {}, []),
        ({"reread": 1, "quarantined": 3, "duplicates": 1, "moves": (Move(1, 8, 7, 1),)}, {}, [("quarantined",), ("duplicates",)]),
    ],
)
def test_the_books(position: dict[str, Any], counts: dict[str, int], columns: list[tuple[str, ...]]) -> None:
    """Exactly what is there, as far as it can be known."""
    changed = POSITION._replace(**position)
    found = list(balance([changed], changed, seen(**counts)))
    assert [each.columns for each in found] == columns
    assert {each.finding for each in found} <= {Kind.BOOKS}


def test_the_books_of_a_topic_made_anew_are_one() -> None:
    """What was written under the old id may be a duplicate under the new one; together they must fit."""
    old = Position(PARTITION, "old id", 0, 4, 4, 0, 0, 0, 0, 0, 0)
    new = POSITION._replace(written=2, duplicates=3)
    assert list(balance([old, new], new, seen(rows=6, written=3, duplicates=2))) == []
    assert [each.columns for each in balance([old, new], new, seen(rows=7, written=3, duplicates=2))] == [("written",)]


def test_no_finding_is_confused_by_ids() -> None:
    """An id in another case is the same one."""
    value = message_value(event_id=str(uuid.UUID(int=0xABC)).upper())
    messages = delivered([value])
    assert told(stretch(messages, rows_of(messages))) == []
