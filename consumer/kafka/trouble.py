"""What keeps messages from coming, as far as client and brokers say it."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError

from consumer.kafka.failures import MISSING_RIGHT, Silence
from consumer.kafka.group_right import GroupRight
from consumer.kafka.topics import Topics


class Trouble:
    """Begins with what the consumer's client says, and ends with a message.

    Brokers that were out of reach, or refused something, need only answer a later question about the topics, for there may be no
    message to come.

    Args:
        client: settings of the connection.
        topics: who asks the questions.
        group: who knows of our right to the group.
    """

    def __init__(self, client: Mapping[str, Any], topics: Topics, group: GroupRight) -> None:
        self._topics = topics
        self._group = group
        self._silence = Silence(client)
        self._error: str | None = None
        # How many questions had been asked of the brokers then.
        self._unreachable_since: int | None = None
        self._refused_since: int | None = None

    def renew(self, client: Mapping[str, Any]) -> None:
        """The connection has other settings."""
        self._silence.client = dict(client)

    def hear(self, error: KafkaError) -> None:
        """An error of the connections."""
        if self._silence.hear(error):
            self._unreachable_since = self._topics.questions

    def come(self, error: KafkaError) -> None:
        """An error that came in place of a message."""
        self._group.hear(error)
        self._error = f"Kafka: {error.name()}"
        self._refused_since = self._topics.questions if error.code() in MISSING_RIGHT else None

    def end(self) -> None:
        """A message came."""
        self._error = self._unreachable_since = self._refused_since = None
        self._silence.end()

    @property
    def unreachable(self) -> bool:
        """Whether no broker answers."""
        return self._unreachable_since is not None and self._topics.answered <= self._unreachable_since

    @property
    def text(self) -> str | None:
        """The reason; None where there is no trouble."""
        if self.unreachable:
            return self._silence.text
        if self._unreachable_since is not None:
            self._unreachable_since = None
            self._silence.end()
        if self._refused_since is not None and self._topics.answered > self._refused_since:  # the topics know better from now on
            self._refused_since = self._error = None
        return self._topics.refused or self._group.refused or self._error
