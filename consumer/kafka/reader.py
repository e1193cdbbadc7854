"""Reads a partition again, from an offset to an offset, without any group: nothing is joined, committed or asked of a coordinator.

The client insists on a group's name, and asks for its coordinator whatever it is told; a missing right to the group comes as an error
that means nothing here.
"""

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from consumer.core.errors import TopicUnreadableError
from consumer.core.events import Message, Partition
from consumer.kafka.failures import refused_settings

PATIENCE = 60.0
"""Seconds without any progress after which reading fails: a broker that restarts is back by then."""

_POLL = 0.5
_AT_ONCE = 500
"""Messages taken from the client at once; it buffers a few MiB itself."""

_END = KafkaError._PARTITION_EOF  # noqa: SLF001 - the client's own codes begin so
_NO_OFFSET = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
_FATAL = KafkaError._FATAL  # noqa: SLF001
_MISSING_RIGHT = KafkaError.TOPIC_AUTHORIZATION_FAILED


class OffsetsGoneError(Exception):
    """Kafka has removed the offset that was to be read."""


class PartitionReader:
    """One partition at a time, committed messages only, bounded in messages and bytes. For one thread.

    Args:
        client: settings of the connection.
        patience: seconds without progress after which it gives up.
    """

    def __init__(self, client: Mapping[str, Any], patience: float = PATIENCE) -> None:
        self._patience = patience
        self._at: tuple[Partition, int] | None = None  # where reading goes on
        self._unread: list[KafkaMessage] = []
        try:
            self._consumer = Consumer(
                {
                    **client,
                    "group.id": "integration-audit-reconcile",  # never joined
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "error",
                    "enable.partition.eof": True,
                    "isolation.level": "read_committed",
                    "queued.max.messages.kbytes": 4_096,
                    "fetch.max.bytes": 4_194_304,
                    "fetch.queue.backoff.ms": 20,
                    "allow.auto.create.topics": False,
                }
            )
        except KafkaException as error:
            raise refused_settings(error) from error

    def read(self, partition: Partition, first: int, until: int, max_bytes: int) -> tuple[list[Message], int]:
        """The messages of a stretch that begins at `first`, and the offset before which it ends: at most `until`.

        Raises:
            OffsetsGoneError: Kafka no longer has `first`.
            TopicUnreadableError: no answer for too long, or no right.
        """
        if self._at != (partition, first):
            self._go_to(partition, first)
        messages: list[KafkaMessage] = []
        room, reached = max_bytes, first
        deadline = time.monotonic() + self._patience
        while reached < until and room > 0:
            batch = self._unread or self._poll(partition, reached)
            self._unread = []
            before = reached
            for number, message in enumerate(batch):
                offset = message.offset() or 0
                if offset >= until or room <= 0:
                    self._unread = batch[number:]
                    # Between the last message and this one there is none.
                    reached = min(until, offset)
                    break
                messages.append(message)
                room -= len(message.value() or b"") + len(message.key() or b"")
                reached = offset + 1
            if not self._unread and not batch:
                reached = min(until, max(reached, self._position(partition)))
            if reached > before:
                deadline = time.monotonic() + self._patience
            elif time.monotonic() > deadline:
                what = f"topic {partition.topic}, partition {partition.number}"
                raise TopicUnreadableError(f"Kafka: {what}: nothing came from offset {reached} on for {self._patience:.0f} seconds")
        self._at = partition, reached
        return messages, reached  # type: ignore[return-value] # the client's stubs take headers for a list of any pairs

    def close(self) -> None:
        """Ends the client."""
        self._consumer.close()

    def _go_to(self, partition: Partition, offset: int) -> None:
        self._unread = []
        self._at = None
        try:
            self._consumer.assign([TopicPartition(*partition, offset)])
        except KafkaException as error:
            raise TopicUnreadableError(f"Kafka: topic {partition.topic}: {error.args[0].name()}") from error

    def _poll(self, partition: Partition, offset: int) -> list[KafkaMessage]:
        """What has arrived; errors that pass by themselves are left to the deadline."""
        try:
            first = self._consumer.poll(_POLL)
            batch = [] if first is None else [first, *self._consumer.consume(_AT_ONCE - 1, 0)]
        except (KafkaException, RuntimeError) as error:
            raise TopicUnreadableError(f"Kafka: topic {partition.topic}: the client failed ({error})") from error
        for message in batch:
            failure = message.error()
            if failure is None or failure.code() == _END:
                continue
            if failure.code() == _NO_OFFSET:
                self._at = None
                raise OffsetsGoneError(f"topic {partition.topic}, partition {partition.number}, offset {offset}")
            if failure.code() == _MISSING_RIGHT:
                raise TopicUnreadableError(f"Kafka: no right to read topic {partition.topic}: grant READ on it ({failure.name()})")
            if failure.fatal() or failure.code() == _FATAL:
                raise TopicUnreadableError(f"Kafka: the client failed for good ({failure.name()})")
        return [message for message in batch if message.error() is None]

    def _position(self, partition: Partition) -> int:
        """How far the client is: beyond transaction markers and aborted messages, which are no message."""
        try:
            (at,) = self._consumer.position([TopicPartition(*partition)])
        except KafkaException:
            return 0
        return int(at.offset)
