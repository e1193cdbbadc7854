"""Messages that know what must become of them. Encoding is slow, so contents are made once a process."""

import uuid
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from consumer.core.decoding import SINGLE_OBJECT
from consumer.core.errors import Reason
from consumer.core.events import Partition
from tests.bed.events import ENCODER, FakeMessage, event
from tests.simulation.registry import KNOWN

NOW = 1_795_478_400_000_000
"""The wall clock of every simulation: microseconds since 1970."""


class Name(str):
    """A topic's name whose hash is the same in every process: the order of a set of partitions is a part of the schedule."""

    __slots__ = ()

    def __hash__(self) -> int:
        return int.from_bytes(self.encode()[-8:], "big")


class Content(NamedTuple):
    """A message's value, and its fate but for duplicates and conflicts."""

    value: bytes | None
    event_id: str | None = None
    reason: Reason | None = None


TOMBSTONE = Content(None)


class Planned(FakeMessage):
    """A message of the simulation."""

    def __init__(self, content: Content, place: Partition, offset: int) -> None:
        super().__init__(content.value, offset, topic=place.topic, partition=place.number)
        self.content = content


@cache
def good(number: int, variant: int = 0) -> Content:
    """The event of this number; another variant is another content with the same id, of which the log takes only one."""
    event_id = str(uuid.UUID(int=(0x0195 << 112) + (7 << 76) + (2 << 62) + number))
    return Content(ENCODER.encode(event(event_id=event_id, tenant=("acme", "other")[variant])), event_id)


@cache
def framed(number: int, schema_id: int) -> Content:
    """The same event, with its schema named by a registry's id; unless the registry has it from the beginning, both fates are right."""
    value, event_id, _ = good(number)
    reason = None if schema_id == KNOWN else Reason.UNKNOWN_SCHEMA
    return Content(b"\x00" + schema_id.to_bytes(4, "big") + (value or b"")[10:], event_id, reason)


@cache
def unstorable(number: int) -> Content:
    """An event that PostgreSQL refuses."""
    event_id = good(number).event_id
    return Content(ENCODER.encode(event(event_id=event_id, tenant="x" * 3000)), event_id, Reason.UNSTORABLE)


@cache
def hostile() -> Sequence[Content]:
    """One message for each way of being bad."""
    sample = good(0).value or b""
    return [
        Content(b"", None, Reason.UNDECODABLE),
        Content(b"garbage", None, Reason.UNDECODABLE),
        Content(sample[:-1], None, Reason.UNDECODABLE),
        Content(sample + b"\x00", None, Reason.UNDECODABLE),
        Content(SINGLE_OBJECT + b"12345678" + sample[10:], None, Reason.UNKNOWN_SCHEMA),
        Content(ENCODER.encode(event(occurred_at="1999-01-01T00:00:00Z")), None, Reason.OUT_OF_RANGE),
        Content(ENCODER.encode(event(source_ip="not an address")), None, Reason.INVALID_EVENT),
    ]
