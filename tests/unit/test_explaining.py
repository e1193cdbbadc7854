"""What an operator reads about a message that can't be in the log."""

import pytest

from consumer.cli.hexdump import hexdump
from consumer.core.decoding import SINGLE_OBJECT, schema_fingerprint
from consumer.core.errors import Reason, Rejected
from consumer.core.explaining import explain, with_verdict
from consumer.schemas import event_schema
from tests.bed.events import message_value

SCHEMAS = {schema_fingerprint(event_schema()): event_schema()}


class TestExplain:
    """Framing, schema, place."""

    @pytest.mark.parametrize(
        ("value", "framing", "schema", "mark"),
        [
            (b"", "none", None, (0, 0)),
            (b"x", "none", None, (0, 1)),
            (b"garbage", "none", None, (0, 2)),
            (SINGLE_OBJECT + b"1234", "Avro single-object", None, (6, 6)),
            (SINGLE_OBJECT + b"12345678", "Avro single-object", b"12345678".hex(), (2, 10)),
            (b"\x00\x00", "Confluent", None, (2, 2)),
            (b"\x00\x00\x00\x01\x02rest", "Confluent", "258", (1, 5)),
        ],
    )
    def test_framing(self, value: bytes, framing: str, schema: str | None, mark: tuple[int, int]) -> None:
        """What stands before the datum, and where it is wrong."""
        found = explain(value, SCHEMAS)
        assert (found.framing, found.schema, found.mark, found.known) == (framing, schema, mark, False)
        assert found.error

    def test_the_field_in_which_it_stops(self) -> None:
        """Everything before it is there; it and what follows is not."""
        value = message_value({"type": "IntegrationEnabled", "target": {"type": "OAuthClient", "name": "Reporting", "id": "c-1"}})
        cut = explain(value[:-2], SCHEMAS)
        paths = [field.path for field in cut.fields]
        assert (cut.path, cut.mark, paths[-1]) == ("change.target.id", (len(value) - 2,) * 2, "change.target.name")
        longer = explain(value + b"\x00\x00", SCHEMAS)
        assert (longer.path, longer.mark) == (None, (len(value), len(value) + 1))

    @pytest.mark.parametrize(
        ("reason", "error", "path"),
        [
            (Reason.INVALID_EVENT, "source_ip is not an IP address", "source_ip"),
            (Reason.INVALID_EVENT, "validity holds a time outside the years 1 to 9999", "change.validity.start"),
            (Reason.OUT_OF_RANGE, "occurred_at is older than the retention", "occurred_at"),
            (Reason.UNMAPPED_CHANGE, "this version knows no action for the change type", "change"),
            (Reason.CONFLICT, "the log holds it", None),
        ],
    )
    def test_a_verdict_about_a_well_formed_message(self, reason: Reason, error: str, path: str | None) -> None:
        """Its text begins with the field."""
        period = {"start": "2026-01-01T00:00:00Z", "end": None}
        value = message_value({"type": "ApiTokenGenerated", "token_id": "t", "scope": [], "validity": period})
        found = with_verdict(explain(value, SCHEMAS), Rejected(reason, error))
        assert (found.error, found.path, found.mark is None) == (error, path, path is None)
        broken = explain(b"garbage", SCHEMAS)
        assert with_verdict(broken, Rejected(reason, error)) == broken


class TestHexdump:
    """Bytes for people."""

    def test_the_mark(self) -> None:
        """Before each marked byte; at the end where bytes are missing."""
        assert list(hexdump(b"abc\x00", (1, 3))) == ["00000000  61>62>63 00" + 12 * "   " + "  |abc.|"]
        assert list(hexdump(b"ab", (2, 2))) == ["00000000  61 62>  " + 13 * "   " + "  |ab|"]
        assert list(hexdump(bytes(16), (16, 16)))[1] == "00000010 >  " + 15 * "   " + "  ||"
        assert list(hexdump(bytes(16))) == ["00000000 " + 16 * " 00" + "  |................|"]
        assert list(hexdump(b"")) == []

    def test_a_long_value_is_shown_around_the_mark(self) -> None:
        """Bounded, and it says what is left out."""
        lines = list(hexdump(bytes(1_000_000), (500_000, 500_001)))
        assert len(lines) == 35
        assert sum(">" in line for line in lines) == 1
        assert lines[0] == f"… {(500_000 // 16 - 16) * 16} bytes before"
        assert lines[-1] == f"… {1_000_000 - (500_000 // 16 + 17) * 16} bytes after"
        assert not any("before" in line for line in hexdump(bytes(10_000)))
