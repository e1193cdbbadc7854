"""Hostile messages: values that PostgreSQL can't keep (15), broken Avro (16), header names that are no text (17)."""

import uuid
from io import BytesIO
from typing import Any

import fastavro
import psutil
import psycopg
import pytest

from consumer.core.decoding import SINGLE_OBJECT, schema_fingerprint
from consumer.schemas import event_schema
from tests.bed.events import ENCODER, encoded, event, events, message_value
from tests.bed.raw_producer import produce_with_header_name
from tests.bed.worker import BOOKS, Workplace, wait_until

HEADER = SINGLE_OBJECT + schema_fingerprint(event_schema())
YEAR_300000, LONGEST = 9_403_926_000_000_000_000, 2**63 - 1


def raw_value(**fields: Any) -> bytes:
    """An event whose fields are what Avro writes, such as times beyond any calendar."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, ENCODER._plain, {**ENCODER.datum(event()), **fields})
    return HEADER + stream.getvalue()


def long(number: int) -> bytes:
    """An Avro long."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, "long", number)
    return stream.getvalue()


class TestFault15Unstorable:
    """The event is in the log, visibly escaped, or alone in quarantine; its batch-mates are in."""

    def test_fault_15_nul_and_invalid_utf8_can_not_hide(self, place: Workplace) -> None:
        """NUL, stray bytes and a lone surrogate are escaped, with the raw message beside the row."""
        nul = message_value(actor="sa\x00to")
        broken = message_value(actor="sakai").replace(b"sakai", b"s\xff\xedai")
        surrogate = message_value(actor="suzuki").replace(b"suzuki", b"s\xed\xa0\x80ki")
        mates = events(100)
        place.publish([nul, broken, surrogate, *encoded(mates)], partition=0)
        place.drain()
        rows = place.query("SELECT login_name, source_bytes FROM audit.audit_log WHERE source_bytes IS NOT NULL")
        shown = [("sa\\u0000to", nul), ("s\\udcff\\udcedai", broken), ("s\\ud800ki", surrogate)]
        assert sorted((name, bytes(raw)) for name, raw in rows) == sorted(shown)
        assert place.books() == {**dict.fromkeys(BOOKS, 0), "written": 103}

    def test_fault_15_alone_in_quarantine(self, place: Workplace) -> None:
        """A text that an index refuses, and times beyond any calendar: each for its reason, byte for byte."""
        end = {"type": "ApiTokenGenerated", "token_id": "t", "scope": [], "validity": {"start": None, "end": None}}
        token = ENCODER.datum(event(end))["change"]
        name, fields = token if isinstance(token, tuple) else (None, token)
        forever = {**fields, "validity": {"start": None, "end": LONGEST}}
        bad = [
            (message_value(tenant="".join(uuid.uuid4().hex for _ in range(200))), "unstorable"),
            (raw_value(occurred_at=LONGEST), "out of range"),
            (raw_value(occurred_at=-LONGEST - 1), "out of range"),
            (raw_value(occurred_at=-LONGEST + 946_684_800_000_000), "out of range"),
            (raw_value(change=(name, forever) if name else forever), "invalid event"),
        ]
        mates = events(300)
        values = encoded(mates)
        for number, (value, _) in enumerate(bad):
            values.insert(number * 50, value)
        place.publish(values, partition=0)
        place.drain()
        found = place.query("SELECT value, reason FROM audit.quarantine ORDER BY kafka_offset")
        assert [(bytes(value), reason) for value, reason in found] == bad
        place.assert_complete(mates, quarantined=len(bad))

    def test_fault_15_found_by_halving(self, place: Workplace) -> None:
        """What nobody could see coming, such as a rule that was added to the table, is found alone too."""
        with psycopg.connect(place.database) as connection:
            connection.execute("ALTER TABLE audit.audit_log ADD CONSTRAINT house_rule CHECK (tenant <> 'refused')")
        mates = events(300)
        values = encoded(mates)
        for at in (0, 120, 121, 303):
            values.insert(at, message_value(tenant="refused"))
        place.publish(values, partition=0)
        place.drain()
        found = place.query("SELECT kafka_offset, reason, error LIKE '%%23514%%' FROM audit.quarantine ORDER BY kafka_offset")
        assert found == [(at, "unstorable", True) for at in (0, 120, 121, 303)]
        place.assert_complete(mates, quarantined=4)


class TestFault16Avro:
    """Broken or hostile bytes are quarantined, byte for byte, in bounded time and memory."""

    def test_fault_16_hostile_messages_cost_nobody_else_a_place(self, place: Workplace) -> None:
        """Three hundred good events are in the log; each bad message is in quarantine for its own reason."""
        sample = message_value()
        bad: list[tuple[bytes, str]] = [
            (b"", "undecodable"),
            (b"garbage", "undecodable"),
            (sample[:-1], "undecodable"),
            (sample + b"\x00", "undecodable"),
            (HEADER, "undecodable"),
            (HEADER[:7], "undecodable"),
            (SINGLE_OBJECT + b"12345678" + sample[10:], "unknown schema"),
            (b"\x00\x00\x00\x00\x07" + sample[10:], "unknown schema"),
            (sample[:-2] + b"\x01\x01", "undecodable"),  # union index -1
            (message_value(occurred_at="1999-01-01T00:00:00Z"), "out of range"),
            (message_value(occurred_at="2999-01-01T00:00:00Z"), "out of range"),
            (message_value(source_ip="not an address"), "invalid event"),
            (sample.replace(b"-", b"_"), "invalid event"),
            (b"x" * 102_401, "oversized"),
        ]
        good = events(300)
        values: list[bytes | None] = [*encoded(good)]
        for number, (value, _) in enumerate(bad):
            values.insert(number * 17, value)
        place.publish([*values, None], partition=0)
        place.drain(AUDIT_MAX_MESSAGE_BYTES="100 KiB")
        found = place.query("SELECT value, reason FROM audit.quarantine ORDER BY kafka_offset")
        assert [(bytes(value), reason) for value, reason in found] == bad
        place.assert_complete(good, quarantined=len(bad), tombstones=1)

    @pytest.mark.parametrize("count", [2**40, -(2**40), 2**62])
    def test_fault_16_bombs(self, place: Workplace, count: int) -> None:
        """Lengths and counts far beyond the message take no memory: of a text, and of an array's block."""
        authorized = {"type": "IntegrationAuthorized", "target": {"type": "OAuthClient", "name": "n", "id": "i"}, "scopes": ["marker"]}
        whole = message_value(authorized)
        array, text = long(1) + long(6) + b"marker", long(6) + b"marker"
        assert array in whole
        bombs = [
            whole.replace(array, long(count) + b"\x00" * 50_000),
            whole.replace(text, long(count) + b"marker"),
        ]
        mates = events(100)
        with place.worker() as process:
            place.publish(encoded(mates), partition=0)
            wait_until(lambda: place.written() == 100, "it works")
            memory = psutil.Process(process.pid)
            before = memory.memory_info().rss
            place.publish(bombs * 20, partition=0)
            wait_until(lambda: place.books()["quarantined"] == 40, "all are quarantined")
            assert memory.memory_info().rss - before < 64 * 1024 * 1024
        assert place.query("SELECT DISTINCT reason FROM audit.quarantine") == [("undecodable",)]
        place.assert_complete(mates, quarantined=40)


class TestFault17HeaderNames:
    """The client can't read them, and a second try would crash it."""

    def test_fault_17_header_names_that_are_not_utf8(self, place: Workplace) -> None:
        """Each such message is alone in quarantine; many of them, since CPython calls a function another way after tens of calls."""
        place.publish([b"garbage"] * 60, partition=0)
        produce_with_header_name(place.kafka.bootstrap_servers, place.topic, b"garbage", b"\xff\xfe", 100)
        good = events(1)
        place.publish(encoded(good), partition=0)
        place.drain()
        place.assert_complete(good, quarantined=160)
        assert place.value("SELECT count(*) FROM audit.quarantine WHERE headers IS NULL AND error LIKE '%%not UTF-8%%'") == 100
