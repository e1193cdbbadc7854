"""Publishes events with an idempotent producer."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage


class PublishError(Exception):
    """Kafka did not confirm messages; the text counts them. To publish them once more is safe: their event_id is the same."""


class Publisher:
    """Sends messages to one topic, in order within a key.

    Args:
        client: settings of the connection.
        topic: where to.

    Raises:
        PublishError: the client refuses its settings.
    """

    def __init__(self, client: Mapping[str, Any], topic: str) -> None:
        self._topic = topic
        self._failed = 0
        self._error: str | None = None
        self.delivered = 0
        """Messages that Kafka has confirmed."""
        config = {
            **client,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 10,
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 65_536,
            "delivery.timeout.ms": 30_000,
            "error_cb": self._on_error,
        }
        try:
            self._producer = Producer(config)
        except KafkaException as error:
            raise PublishError(f"the Kafka client refuses its settings: {error.args[0].str()}") from error

    def publish(self, key: bytes | None, value: bytes | None) -> None:
        """Queues a message; waits while the queue is full.

        Raises:
            PublishError: an earlier message has failed, or this one can't be sent.
        """
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._on_delivery)
                break
            except BufferError:
                self._producer.poll(0.5)
                self._check(0)
            except KafkaException as error:
                raise PublishError(f"Kafka refuses the message: {error.args[0].name()}") from error
        self._producer.poll(0)
        self._check(0)

    def flush(self, timeout: float = 35.0) -> None:
        """Waits until Kafka has confirmed everything.

        Raises:
            PublishError: some messages were not confirmed.
        """
        self._check(self._producer.flush(timeout))

    def _check(self, queued: int) -> None:
        missing = self._failed + queued
        if missing:
            raise PublishError(f"Kafka did not confirm {missing} messages ({self._error or 'time-out'})")

    def _on_delivery(self, error: KafkaError | None, _message: KafkaMessage) -> None:
        if error is None:
            self.delivered += 1
        else:
            self._failed += 1
            self._error = error.name()

    def _on_error(self, error: KafkaError) -> None:
        self._error = error.name()
