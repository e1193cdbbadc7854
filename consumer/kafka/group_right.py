"""The right to the consumer group.

Not asked of the admin client, though it could tell more: one whose connection breaks while it asks a group's coordinator aborts the process
(librdkafka issue 4605). The consumer asks for its committed offset instead, which nobody else needs.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.kafka.failures import Rights

INTERVAL = 1.0
"""Seconds between two questions."""
_PATIENCE = 0.2
"""Seconds for one; a millisecond is usual."""
_OWN_PATIENCE = 4.0
"""Seconds for a client of its own, which must connect first."""
_REFUSED = KafkaError.GROUP_AUTHORIZATION_FAILED


class GroupRight:
    """Knows from what the client says, and by asking, whether the group may be read.

    Args:
        config: the consumer's settings.
        topic: one that it reads.
        monotonic: seconds, never going back.
    """

    def __init__(self, config: Mapping[str, Any], topic: str, monotonic: Callable[[], float]) -> None:
        self._text = str(Rights(config).missing("group", config["group.id"]))
        self._config = {name: value for name, value in config.items() if not name.endswith("_cb")}
        self._place = [TopicPartition(topic, 0)]
        self._monotonic = monotonic
        self._asked = monotonic()
        self.refused: str | None = None
        """Why the group can't be read, and the remedy."""

    def hear(self, error: KafkaError) -> None:
        """An error from joining or committing."""
        if error.code() == _REFUSED:
            self.refused = self._text

    def granted(self) -> None:
        """The group gave partitions, or took an offset."""
        self.refused = None

    def look(self, consumer: Consumer) -> None:
        """Asks now and then, for a member of the group; who could not join hears of it once, and joins when it may."""
        if self._monotonic() - self._asked < INTERVAL:
            return
        self._asked = self._monotonic()
        with suppress(KafkaException):
            self._ask(consumer)

    def ask(self) -> None:
        """Asks through a client of its own, where the consumer can't any more, or there is none; waits for an answer."""
        self.refused = None
        consumer = Consumer({**self._config, "group.protocol": "classic"})
        end = self._monotonic() + _OWN_PATIENCE
        try:
            while self._monotonic() < end and self.refused is None:
                # Where not even the coordinator may be known, nothing is answered, but this comes in place of a message.
                message = consumer.poll(0.1)
                if message is not None and (error := message.error()) is not None:
                    self.hear(error)
                    continue
                with suppress(KafkaException):
                    self._ask(consumer)
                    break
        finally:
            consumer.close()

    def _ask(self, consumer: Consumer) -> None:
        try:
            consumer.committed(self._place, timeout=_PATIENCE)
        except KafkaException as error:
            self.hear(error.args[0])
            raise
        self.granted()
