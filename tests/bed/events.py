"""Events for tests, in the three forms they take."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from consumer.core.decoding import Decoder
from consumer.core.event_json import EventEncoder
from consumer.schemas import event_schema

ENCODER = EventEncoder(event_schema())
WHEN = "2026-11-20T09:00:00.000001Z"


def decoder() -> Decoder:
    """A decoder as the worker has it."""
    return Decoder(event_schema(), [], 1_048_576)


def event(change: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """An event in the contract's JSON form, with an id of its own."""
    return {
        "event_id": str(uuid.uuid4()),
        "occurred_at": WHEN,
        "tenant": "acme",
        "actor": "sato",
        "source_ip": "192.0.2.7",
        "result": "SUCCESS",
        "change": change or {"type": "SlackSettingUpdated", "enabled": True},
        **fields,
    }


def message_value(change: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """An event as the bytes of a message."""
    return ENCODER.encode(event(change, **fields))


def events(count: int) -> list[dict[str, Any]]:
    """So many events in the contract's JSON form."""
    return [event() for _ in range(count)]


def encoded(several: Iterable[dict[str, Any]]) -> list[bytes]:
    """Events as the bytes of messages."""
    return [ENCODER.encode(each) for each in several]


class FakeMessage:
    """A message as the client gives it."""

    def __init__(
        self, value: bytes | None, offset: int, *, topic: str = "topic", partition: int = 0, key: bytes | None = b"acme",
        headers: Sequence[tuple[str, bytes | None]] | None = None,
    ) -> None:  # fmt: skip
        self._content = (topic, partition, offset, key, value, headers)
        self.at = 1_795_478_400_000
        """Kafka's timestamp, in milliseconds."""

    def topic(self) -> str:
        """As confluent_kafka.Message."""
        return self._content[0]

    def partition(self) -> int:
        """As confluent_kafka.Message."""
        return self._content[1]

    def offset(self) -> int:
        """As confluent_kafka.Message."""
        return self._content[2]

    def key(self) -> bytes | None:
        """As confluent_kafka.Message."""
        return self._content[3]

    def value(self) -> bytes | None:
        """As confluent_kafka.Message."""
        return self._content[4]

    def headers(self) -> Sequence[tuple[str, bytes | None]] | None:
        """As confluent_kafka.Message."""
        return self._content[5]

    def timestamp(self) -> tuple[int, int]:
        """As confluent_kafka.Message."""
        return 1, self.at
