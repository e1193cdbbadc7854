"""What only the admin client knows: topic ids and the ends of partitions. Every call has a bound."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from consumer.core.errors import Cause, ConfigurationError, MissingRightError, TransientError
from consumer.core.events import Partition
from consumer.kafka.failures import Rights, Silence, refused_settings

TIMEOUT = 5.0
"""Seconds for one question to the brokers."""


class PartitionRange(NamedTuple):
    """Where a partition begins and ends now."""

    topic_id: str
    low: int
    high: int  # the last stable offset: what a reader of committed messages can reach


class Topics:
    """Answers about topics. Holds its client, which would fail its futures if it were collected.

    Args:
        config: settings of the connection.
        topics: their names.
    """

    def __init__(self, config: Mapping[str, Any], topics: Iterable[str]) -> None:
        self.names = list(topics)
        self.refused: str | None = None
        """What the brokers last refused, and the remedy."""
        self.right_missing = False
        """Whether that was a right."""
        self.renew(config)
        self.questions = 0
        """How many were asked so far."""
        self.answered = 0
        """Which of them was the last that the brokers answered."""
        self._open_question = 0  # the number of changed_ids' one

    def renew(self, config: Mapping[str, Any]) -> None:
        """Goes on with other settings of the connection.

        Raises:
            ConfigurationError: the client refuses them; it goes on with the old ones, if there were any.
        """
        silence = Silence(config)
        admin = self._client(config, silence)
        self._config, self._silence, self._admin = dict(config), silence, admin
        self._rights = Rights(config)
        self._asked: dict[str, Any] | None = None
        self._asked_ends: dict[TopicPartition, Any] = {}
        self._ends: dict[Partition, int] = {}

    @staticmethod
    def _client(config: Mapping[str, Any], silence: Silence) -> AdminClient:
        settings: dict[str, Any] = {**config, "error_cb": silence.hear}
        try:
            return AdminClient(settings)
        except KafkaException as error:
            raise refused_settings(error) from error

    def partitions(self) -> dict[Partition, str]:
        """Every partition of the topics, with its topic's id.

        Raises:
            TransientError: no answer, or a topic that does not exist (yet); ConfigurationError where a right is missing.
        """
        found = self._answers(self._ask())
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
            return {name: str(topic.topic_id) for name, topic in self._answers(asked, self._open_question).items()}
        except TransientError as error:
            self._replace_client(error)
            return None

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

    def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Where the partitions end, asked without waiting: as the last answer to an earlier call said."""
        if not all(future.done() for future in self._asked_ends.values()):
            return self._ends
        for place, future in self._asked_ends.items():
            with suppress(KafkaException):
                self._ends[Partition(place.topic, place.partition)] = future.result().offset
        self._asked_ends = self._ask_offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return self._ends

    def _replace_client(self, error: TransientError) -> None:
        """A client that has lost a broker (one of three, killed) was seen to time out for ever, where a new one is answered."""
        if not isinstance(error, ConfigurationError):
            self._admin = self._client(self._config, self._silence)
            self._asked = None
            self._asked_ends = {}

    def _ask(self) -> dict[str, Any]:
        self.questions += 1
        self._admin.poll(0)  # what it says of its connections would pile up
        asked: dict[str, Any] = self._admin.describe_topics(
            TopicCollection(self.names), include_authorized_operations=True, request_timeout=TIMEOUT
        )
        return asked

    def _answers(self, asked: Mapping[str, Any], question: int | None = None) -> dict[str, Any]:
        """The topics' descriptions by name; what we may not do with them is in `refused` afterwards."""
        answers = {}
        try:
            for name, future in asked.items():
                answers[name] = self._answer(future, name)
        except ConfigurationError as error:
            self._heard(question, str(error), right_missing=isinstance(error, MissingRightError))
            raise
        refused = [self._rights.refused("topic", name, topic.authorized_operations) for name, topic in answers.items()]
        self._heard(question, next(filter(None, refused), None), right_missing=any(refused))
        return answers

    def _answer(self, future: Any, name: str) -> Any:
        try:
            return future.result(timeout=TIMEOUT + 1)
        except KafkaException as error:
            failure = self._rights.failure(error.args[0], "topic", name)
            raise failure if isinstance(failure, ConfigurationError) else TransientError(self._unanswered(failure), Cause.KAFKA) from error
        except TimeoutError as error:
            raise TransientError(self._unanswered("Kafka: no answer to a question about the topics"), Cause.KAFKA) from error

    def _heard(self, question: int | None, refused: str | None, *, right_missing: bool) -> None:
        self.answered = max(self.answered, self.questions if question is None else question)
        self.refused, self.right_missing = refused, right_missing
        self._silence.end()

    def _unanswered(self, failure: object) -> str:
        """What the client says of its connections, where it says something."""
        with suppress(KafkaException):
            self._admin.poll(0)
        return self._silence.text if self._silence.heard else str(failure)

    def _offsets(self, partitions: Iterable[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        offsets = {}
        for place, future in self._ask_offsets(partitions, spec).items():
            try:
                offsets[Partition(place.topic, place.partition)] = future.result(timeout=TIMEOUT + 1).offset
            except KafkaException as error:
                raise self._rights.failure(error.args[0], "topic", place.topic) from error
            except TimeoutError as error:
                raise TransientError("Kafka: no answer to a question about offsets", Cause.KAFKA) from error
        return offsets

    def _ask_offsets(self, partitions: Iterable[Partition], spec: OffsetSpec) -> dict[TopicPartition, Any]:
        return self._admin.list_offsets(
            {TopicPartition(*partition): spec for partition in partitions},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=TIMEOUT,
        )


class TopicsWithoutIds(Topics):
    """For brokers that have no topic ids, such as the demo's: a topic made anew can't be told from the old one there."""

    def partitions(self) -> dict[Partition, str]:
        """Every partition of the topics, with an empty id."""
        try:
            found = self._admin.list_topics(timeout=TIMEOUT).topics
        except KafkaException as error:
            raise TransientError(self._unanswered(f"Kafka: the list of topics: {error.args[0].name()}"), Cause.KAFKA) from error
        return {Partition(name, number): "" for name in self.names if name in found for number in found[name].partitions}

    def changed_ids(self) -> dict[str, str]:
        """Nothing to compare."""
        return {}
