"""`make worst`: the most expensive messages that fit into AUDIT_MAX_MESSAGE_BYTES, and what each costs the worker's thread.

Decoding, mapping and rendering; what PostgreSQL does with a row of some MiB is not in it. The suite counts work instead of time, on the
same messages.
"""

import sys
import time
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import fastavro

from consumer.core.decoding import Decoder, strip_logical_types
from consumer.core.events import Partition, PartitionSlice
from consumer.core.slicing import Cursor
from consumer.postgres.batch import RenderedBatch, quarantine_row
from consumer.schemas import event_schema
from tests.bed.events import ENCODER, FakeMessage, event, message_value, slices_of

MOST = 1_048_576
"""Bytes, the default of AUDIT_MAX_MESSAGE_BYTES."""
BOUND = 0.050
"""Seconds that no message may cost."""
_ROUNDS = 5
_NAME = b"\x00\x00\x00\x07"
_PLACE = Partition("topic", 0)


def wide_schema() -> dict[str, Any]:
    """A registry's: our event, and beside it arrays of everything that takes long to read."""
    tags = {"type": "map", "values": ["null", "string", "double", {"type": "array", "items": "string"}]}
    row = {"type": "record", "name": "Row", "fields": [{"name": f"f{number}", "type": ["null", "long"]} for number in range(400)]}
    extra = {"type": "array", "items": [row, "boolean", "bytes", tags]}
    own = event_schema()
    return {**own, "fields": [*own["fields"], {"name": "extra", "type": extra}]}


def _authorized(scopes: list[str], name: str = "n") -> dict[str, Any]:
    return {"type": "IntegrationAuthorized", "target": {"type": "OAuthClient", "name": name, "id": "i"}, "scopes": scopes}


def _wide(extra: list[Any]) -> bytes:
    stream = BytesIO(b"\x00" + _NAME)
    stream.seek(0, 2)
    schema = fastavro.parse_schema(strip_logical_types(wide_schema()))
    fastavro.schemaless_writer(stream, schema, {**ENCODER.datum(event()), "extra": extra})
    return stream.getvalue()


@cache
def messages() -> dict[str, bytes]:
    """By what is bad about them."""
    most, few = MOST - 400, 65_536 - 400
    row = ("integration.audit.v1.Row", {f"f{number}": 2**62 for number in range(400)})
    found = {
        "a long name": message_value(_authorized([], "x" * most)),
        "NUL": message_value(_authorized([], "\0" * most)),
        "NUL, in as long a message as is altered": message_value(_authorized([], "\0" * few)),
        "NUL in the actor": message_value(actor="\0" * most),
        "a name of control characters": message_value(_authorized([], "\x01" * most)),
        "a name of quotes": message_value(_authorized([], '"' * most)),
        "an error code of control characters": message_value(error_code="\x1f" * most),
        "a name beyond the BMP": message_value(_authorized([], "\U0001f984" * (most // 4))),
        "surrogates": message_value(_authorized([], "@" * (most // 3 * 3))).replace(b"@@@", b"\xed\xa0\x80"),
        "surrogates, in as long a message as is altered": message_value(_authorized([], "@" * (few // 3 * 3))).replace(
            b"@@@", b"\xed\xa0\x80"
        ),
        "stray bytes": message_value(_authorized([], "@" * most)).replace(b"@", b"\xff"),
        "stray bytes, in as long a message as is altered": message_value(_authorized([], "@" * few)).replace(b"@", b"\xff"),
        "the most scopes": message_value(_authorized([""] * 9_999)),
        "the most scopes, long ones": message_value(_authorized(["\x01" * 100] * 9_999)),
        "the most scopes, of stray bytes": message_value(_authorized(["@" * 4] * 9_999)).replace(b"@", b"\xff"),
        "too many scopes": message_value(_authorized([""] * (most - 10))),
        "an address": message_value(source_ip=":" * most),
        "garbage": b"\x07" * MOST,
        "as many values as fit, in wide records": _wide([row] * 12),
        "too many values in wide records": _wide([row] * 200),
        "maps": _wide([{f"{number}": 1.5 for number in range(1_400)}]),
        "maps of arrays": _wide([{f"{number}": ["x"] * 40 for number in range(60)}]),
    }
    assert max(map(len, found.values())) <= MOST
    return found


@cache
def _decoder() -> Decoder:
    known = Decoder(event_schema(), [], MOST, with_registry=True)
    known.learn(wide_schema(), _NAME)
    return known


def treat(value: bytes) -> tuple[PartitionSlice, int]:
    """What the worker's own thread does with one message; and the bytes that it makes of it for PostgreSQL."""
    (part,) = slices_of([FakeMessage(value, 0)], {_PLACE: Cursor("id", 0)}, _decoder(), (0, 2**62))
    rendered = RenderedBatch([part])
    rows = [quarantine_row(part, message) for message in part.quarantined]
    size = sum(len(row.log) + len(row.ledger) for row in rendered.rows)
    return part, size + sum(len(field) for row in rows for field in row if isinstance(field, bytes))


def calls(function: Callable[[], Any]) -> int:
    """How many functions it calls, C's among them: work, whatever the machine has to do besides."""
    found = 0

    def count(_: Any, happened: str, __: Any) -> None:
        nonlocal found
        found += happened in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return found


def main() -> None:
    """Exit code 1 when a message costs more than the bound."""
    slow = []
    for name, value in messages().items():
        best = float("inf")
        for _ in range(_ROUNDS):  # the best, since what is measured is the code and not its neighbours
            begun = time.process_time()
            part, size = treat(value)
            best = min(best, time.process_time() - begun)
        verdict = part.quarantined[0].reason.value if part.quarantined else "a record"
        print(f"{best * 1000:7.1f} ms  {len(value):9,} bytes → {size:9,}  {verdict:15}  {name}")
        if best > BOUND:
            slow.append(name)
    print(f"the bound is {BOUND * 1000:.0f} ms of processor time" + (f"; over it: {', '.join(slow)}" if slow else ""))
    sys.exit(bool(slow))


if __name__ == "__main__":
    main()
