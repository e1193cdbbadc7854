"""What only the admin client knows: topic ids and the ends of partitions. Every call has a bound."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from consumer.core.errors import ConfigurationError, TransientError
from consumer.core.events import Partition

TIMEOUT = 5.0
"""Seconds for one question to the brokers."""

_MISSING_RIGHT = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)


class PartitionRange(NamedTuple):
    """Where a partition begins and ends now."""

    topic_id: str
    low: int
    high: int  # the last stable offset: what a reader of committed messages can reach


class Topics:
    """Answers about topics. Holds its client, which would fail its futures if it were collected."""

    def __init__(self, config: Mapping[str, Any], topics: Iterable[str]) -> None:
        self._config = dict(config)
        self.names = list(topics)
        self._open()
        self.questions = 0
        """How many were asked so far."""
        self.answered = 0
        """Which of them was the last that the brokers answered."""
        self._open_question = 0  # the number of changed_ids' one

    def _open(self) -> None:
        try:
            self._admin = AdminClient(self._config)
        except KafkaException as error:
            raise refused_settings(error) from error
        self._asked: dict[str, Any] | None = None

    def partitions(self) -> dict[Partition, str]:
        """Every partition of the topics, with its topic's id.

        Raises:
            TransientError: no answer, or a topic that does not exist (yet); ConfigurationError where a right is missing.
        """
        found = self._answers(self._ask())
        self.answered = self.questions
        return {Partition(name, part.id): str(topic.topic_id) for name, topic in found.items() for part in topic.partitions}

    def changed_ids(self) -> dict[str, str] | None:
        """The topics' ids by name, asked without waiting: None until the answer to an earlier call has come."""
        if self._asked is None:
            self._asked = self._ask()
            self._open_question = self.questions
            return None
        if not all(future.done() for future in self._asked.values()):
            return None
        asked, self._asked = self._asked, None
        try:
            ids = {name: str(topic.topic_id) for name, topic in self._answers(asked).items()}
        except TransientError as error:
            self._replace_client(error)
            return None
        self.answered = max(self.answered, self._open_question)
        return ids

    def ranges(self, partitions: Iterable[Partition]) -> dict[Partition, PartitionRange]:
        """Topic id, first and last offset of each partition that exists.

        Raises:
            TransientError: as `partitions`.
        """
        try:
            ids = self.partitions()
            wanted = [partition for partition in partitions if partition in ids]
            if not wanted:
                return {}
            lows = self._offsets(wanted, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
            highs = self._offsets(wanted, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        except TransientError as error:
            self._replace_client(error)
            raise
        return {each: PartitionRange(ids[each], lows[each], highs[each]) for each in wanted}

    def _replace_client(self, error: TransientError) -> None:
        """A client that has lost a broker (one of three, killed) was seen to time out for ever, where a new one is answered."""
        if not isinstance(error, ConfigurationError):
            self._open()

    def _ask(self) -> dict[str, Any]:
        self.questions += 1
        asked: dict[str, Any] = self._admin.describe_topics(TopicCollection(self.names), request_timeout=TIMEOUT)
        return asked

    @staticmethod
    def _answers(asked: Mapping[str, Any]) -> dict[str, Any]:
        answers = {}
        for name, future in asked.items():
            try:
                answers[name] = future.result(timeout=TIMEOUT + 1)
            except KafkaException as error:
                raise as_failure(error.args[0], f"topic {name}") from error
            except TimeoutError as error:
                raise TransientError("Kafka: no answer to a question about the topics") from error
        return answers

    def _offsets(self, partitions: Iterable[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        asked = self._admin.list_offsets(
            {TopicPartition(*partition): spec for partition in partitions},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=TIMEOUT,
        )
        offsets = {}
        for place, future in asked.items():
            try:
                offsets[Partition(place.topic, place.partition)] = future.result(timeout=TIMEOUT + 1).offset
            except KafkaException as error:
                raise as_failure(error.args[0], f"offsets of topic {place.topic}") from error
            except TimeoutError as error:
                raise TransientError("Kafka: no answer to a question about offsets") from error
        return offsets


class TopicsWithoutIds(Topics):
    """For brokers that have no topic ids, such as the demo's: a topic made anew can't be told from the old one there."""

    def partitions(self) -> dict[Partition, str]:
        """Every partition of the topics, with an empty id."""
        try:
            found = self._admin.list_topics(timeout=TIMEOUT).topics
        except KafkaException as error:
            raise as_failure(error.args[0], "the list of topics") from error
        return {Partition(name, number): "" for name in self.names if name in found for number in found[name].partitions}

    def changed_ids(self) -> dict[str, str]:
        """Nothing to compare."""
        return {}


def as_failure(error: KafkaError, what: str) -> TransientError:
    """The client's error as the worker knows it."""
    code = error.code()
    if code in _MISSING_RIGHT:
        return ConfigurationError(f"Kafka: no right to read {what} ({error.name()})")
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):  # noqa: SLF001 - the client's own codes begin so
        return ConfigurationError(f"Kafka: {what} does not exist")
    return TransientError(f"Kafka: {what}: {error.name()}")


def refused_settings(error: KafkaException) -> ConfigurationError:
    """The client refuses its settings, such as a certificate that it can't read."""
    return ConfigurationError(f"the Kafka client refuses its settings: {error.args[0].str()}")
