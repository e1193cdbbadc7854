"""The source: messages of the assigned partitions, each partition from the offset that the worker names.

What this client really does (measured) decides its shape. An exception inside a callback destroys the batch being consumed while the
position moves on, so callbacks catch everything, and a failure rebuilds the client. A fatal error looks like an ordinary message.
`auto.offset.reset` would jump silently, so it is `error`, and the worker decides where to go on.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from consumer.core.errors import ConfigurationError, FatalSourceError, SourceFailedError
from consumer.core.events import Message, Partition
from consumer.kafka.credentials import Credentials
from consumer.kafka.failures import refused_settings
from consumer.kafka.group_right import GroupRight
from consumer.kafka.statistics import ClientState, client_state
from consumer.kafka.topics import PartitionRange, Topics
from consumer.kafka.trouble import Trouble

_HARMLESS = (KafkaError._MAX_POLL_EXCEEDED, KafkaError._PARTITION_EOF)  # noqa: SLF001 - the client's own codes begin so
_FATAL = KafkaError._FATAL  # noqa: SLF001
_NO_OFFSET = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001

CLOSE_WAIT = 10.0
"""Seconds that leaving the group may take; one is usual."""

_error_of = KafkaMessage.error

Report = Callable[..., None]
"""Called with an event's name and fields; must not raise."""


def consumer_config(client: Mapping[str, Any], *, group_id: str, group_protocol: str, session_timeout: float) -> dict[str, Any]:
    """The consumer's settings. Whatever bounds memory is explicit."""
    config: dict[str, Any] = {
        **client,
        "group.id": group_id,
        "group.protocol": group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": 4_096,
        "fetch.max.bytes": 4_194_304,
        "fetch.queue.backoff.ms": 20,
        "allow.auto.create.topics": False,
        "topic.metadata.refresh.interval.ms": 30_000,
        "statistics.interval.ms": 10_000,
        "max.poll.interval.ms": max(300_000, int(session_timeout * 1000)),  # the client refuses a shorter one
    }
    if group_protocol == "classic":  # the consumer protocol leaves these to the broker, and refuses them
        config["partition.assignment.strategy"] = "cooperative-sticky"
        config["session.timeout.ms"] = int(session_timeout * 1000)
        config["heartbeat.interval.ms"] = max(100, min(3000, int(session_timeout * 1000 / 3)))
    return config


class KafkaSource:
    """Reads the topics as a member of the consumer group. For one thread.

    Args:
        config: as `consumer_config` makes it.
        topics: the topics to read, and who answers questions about them.
        report: where noteworthy events go.
        credentials: says when passwords and certificates are others; None: never.
    """

    def __init__(self, config: Mapping[str, Any], topics: Topics, report: Report, credentials: Credentials | None = None) -> None:
        self._config = dict(config)
        self._report = report
        self._credentials = credentials
        self.topics = topics
        self.before_revoke: Callable[[], None] = lambda: None
        """Called inside the callback before partitions are given up: the time to finish a write."""
        self.on_statistics: Callable[[ClientState], None] = lambda _: None
        """Told now and then how the client does."""
        self._group = GroupRight(self._config, topics.names[0], time.monotonic)
        self._trouble = Trouble(self._config, topics, self._group)
        self._was_refused = False
        self._open()

    def _open(self) -> None:
        self._failure: BaseException | None = None
        self._assigned: set[Partition] = set()
        self._started: set[Partition] = set()
        self._unsettled: set[Partition] = set()
        self._held = False
        self._dead = False
        try:
            callbacks = {"on_commit": self._on_commit, "error_cb": self._on_error, "stats_cb": self._on_statistics}
            self._consumer = Consumer({**self._config, **callbacks})
        except KafkaException as error:
            raise refused_settings(error) from error
        self._consumer.subscribe(self.topics.names, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def reopen(self) -> None:
        """Throws the client away and makes a new one; every partition must be started anew."""
        self.close()
        self._open()

    def close(self) -> None:
        """Leaves the group, within CLOSE_WAIT: the client itself was seen to wait for ever for brokers that are gone."""
        if self._dead:  # it has no group any more, and its close() would not return
            return
        self._dead = True
        closing = threading.Thread(target=self._close, args=(self._consumer,), name="close", daemon=True)
        closing.start()
        closing.join(CLOSE_WAIT)
        if closing.is_alive():  # nobody uses this client any more; the group gives up on it when its session ends
            self._report("consumer did not close", seconds=CLOSE_WAIT)

    def _close(self, consumer: Consumer) -> None:
        try:
            consumer.close()
        except (KafkaException, RuntimeError) as error:
            self._report("consumer did not close cleanly", error=type(error).__name__)

    @property
    def trouble(self) -> str | None:
        """What keeps messages from coming, as far as it is known; None where nothing does."""
        return self._trouble.text

    @property
    def missing_rights(self) -> frozenset[str]:
        """What Kafka does not let us read: "topic", "group"."""
        missing = {"topic": self.topics.right_missing, "group": self._group.refused is not None}
        return frozenset(kind for kind in missing if missing[kind])

    @property
    def assigned(self) -> frozenset[Partition]:
        """The partitions that are ours now."""
        return frozenset(self._assigned)

    @property
    def unsettled(self) -> frozenset[Partition]:
        """Those of them that wait for `start`: newly assigned, or their offset is not to be had."""
        return frozenset(self._unsettled)

    def unsettle(self, partition: Partition) -> None:
        """Takes back `start`: what comes of this partition is not delivered until it is started again."""
        if partition in self._assigned:
            self._unsettled.add(partition)
            self._started.discard(partition)

    def start(self, partition: Partition, offset: int) -> None:
        """Delivers the partition from this offset on.

        Raises:
            SourceFailedError: rebuild.
        """
        if partition not in self._assigned:
            return
        place = [TopicPartition(*partition, offset)]
        try:
            # Not seek: it fails once the client has lost its offset. Taking the partition away and giving it back always works.
            self._consumer.incremental_unassign(place)
            self._consumer.incremental_assign(place)
            (self._consumer.pause if self._held else self._consumer.resume)(place)
        except KafkaException as error:
            raise SourceFailedError(f"start of a partition: {error.args[0].name()}") from error
        self._unsettled.discard(partition)
        self._started.add(partition)

    def consume(self, max_messages: int, timeout: float) -> list[Message]:
        """What has arrived, at most `max_messages`; waits up to `timeout` seconds (at most half a second) for the first one.

        Raises:
            SourceFailedError: messages may be lost inside the client, or it must take other credentials: rebuild it.
            FatalSourceError: the client is dead.
        """
        self._take_credentials()
        self._look_again()
        if self._assigned and not self._trouble.unreachable:
            self._group.look(self._consumer)
        try:
            first = self._consumer.poll(min(timeout, 0.5))
            messages: list[KafkaMessage] = []
            if first is not None:
                messages.append(first)
                if max_messages > 1:
                    # consume() with a timeout would wait it out for a full batch; with none it takes what is buffered.
                    messages += self._consumer.consume(max_messages - 1, 0)
        except KafkaException as error:
            raise self._failed(error.args[0]) from error
        except RuntimeError as error:
            raise SourceFailedError(str(error)) from error
        finally:
            failure = self._failure
        if failure is not None:
            raise SourceFailedError(f"a callback failed ({type(failure).__name__})") from failure
        if any(map(_error_of, messages)):
            messages = [message for message in messages if not self._is_error(message)]
        if messages:
            self._trouble.end()
            if self._unsettled:
                messages = [each for each in messages if Partition(each.topic() or "", each.partition() or 0) in self._started]
        return messages  # type: ignore[return-value] # the client's stubs take headers for a list of any pairs

    def hold(self) -> None:
        """Stops fetching; polling goes on, so that the group keeps us."""
        if not self._held:
            self._held = True
            self._switch(self._consumer.pause)

    def resume(self) -> None:
        """Fetches again."""
        if self._held:
            self._held = False
            self._switch(self._consumer.resume)

    def idle(self, timeout: float) -> None:
        """Serves the client's callbacks while held. A message that comes all the same is read again later."""
        for message in self.consume(1, timeout):
            self.unsettle(Partition(message.topic() or "", message.partition() or 0))

    def positions(self) -> dict[Partition, int]:
        """Where the client stands in each started partition, beyond transaction markers at the end."""
        places = [TopicPartition(*partition) for partition in self._started]
        try:
            return {Partition(at.topic, at.partition): at.offset for at in self._consumer.position(places) if at.offset >= 0}
        except KafkaException:
            return {}

    def ends(self) -> dict[Partition, int]:
        """Where each started partition ends, as far as is known without waiting: fetching tells; while held, brokers are asked."""
        ends = {}
        with suppress(KafkaException, RuntimeError):  # no reason to stop
            asked = self.topics.ends(self._started) if self._held and self._started else {}
            for partition in self._started:
                _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
                if (end := max(high, asked.get(partition, -1))) >= 0:
                    ends[partition] = end
        return ends

    def ranges(self, partitions: Iterable[Partition]) -> dict[Partition, PartitionRange]:
        """Topic id, first and last offset of partitions. Raises TransientError."""
        return self.topics.ranges(partitions)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tells Kafka how far PostgreSQL is: advisory, for lag tools; asynchronous, and never an error."""
        places = [TopicPartition(*each, offset) for each, offset in offsets.items() if each in self._assigned]
        if places:
            try:
                self._consumer.commit(offsets=places, asynchronous=True)
            except KafkaException as error:
                self._report("offset commit failed", error=error.args[0].name())

    def _take_credentials(self) -> None:
        """Goes on with changed credentials. A client can change its password; with another certificate it must be another client."""
        change = self._credentials.change() if self._credentials is not None else None
        if change is None:
            return
        try:
            self.topics.renew(change.client)
        except ConfigurationError as error:  # a certificate without its new key, perhaps: the rest is still being written
            self._report("credentials refused", error=str(error))
            return
        self._config.update(change.client)
        self._trouble.renew(self._config)
        self._report("credentials taken")
        if not change.in_place:
            raise SourceFailedError("other credentials")
        self._consumer.set_sasl_credentials(change.client["sasl.username"], change.client["sasl.password"])

    def _look_again(self) -> None:
        """A member that could not see its topic would look for it again after minutes: once the right is there, it is told to."""
        was_refused, self._was_refused = self._was_refused, self.topics.refused is not None
        if was_refused and not self._was_refused and not self._assigned:
            for name in self.topics.names:
                with suppress(KafkaException):
                    self._consumer.list_topics(name, timeout=1.0)

    def _switch(self, call: Callable[[list[TopicPartition]], None]) -> None:
        places = [TopicPartition(*partition) for partition in self._started]
        try:
            if places:
                call(places)
        except KafkaException as error:
            raise SourceFailedError(f"pause or resume: {error.args[0].name()}") from error

    def _failed(self, error: KafkaError) -> Exception:
        if error.fatal() or error.code() == _FATAL:
            return self._died(error)
        return SourceFailedError(error.name())

    def _died(self, error: KafkaError) -> Exception:
        self._dead = True
        if self._config["group.protocol"] == "consumer":  # it dies of a right that is taken away, and does not say so by a code
            self._group.ask()
            if self._group.refused:
                return SourceFailedError("the right to the group was taken away")
        return FatalSourceError(error.name())

    def _is_error(self, message: KafkaMessage) -> bool:
        error = message.error()
        if error is None:
            return False
        # A fatal error arrives as one message whose fatal() may be false, and then nothing comes for ever.
        if error.fatal() or error.code() == _FATAL:
            raise self._died(error)
        if error.code() == _NO_OFFSET:
            self.unsettle(Partition(message.topic() or "", message.partition() or 0))
        elif error.code() not in _HARMLESS:
            self._trouble.come(error)
        self._report("consumer error", error=error.name(), topic=message.topic(), partition=message.partition())
        return True

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        try:
            # Paused, and at an offset of no meaning, until the worker has asked PostgreSQL.
            for place in places:
                place.offset = OFFSET_BEGINNING
            consumer.incremental_assign(places)
            if places:
                consumer.pause(places)
            partitions = {Partition(place.topic, place.partition) for place in places}
            self._assigned |= partitions
            self._unsettled |= partitions
            self._group.granted()
            self._report("partitions assigned", partitions=len(partitions))
        except BaseException as error:  # noqa: BLE001 - it must not cross the client; consume() raises it
            self._failure = error

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        try:
            if consumer is not self._consumer:  # given up, in a thread of its own: what we know is of its successor
                consumer.incremental_unassign(places)
                return
            self.before_revoke()
            self._drop(places)
            consumer.incremental_unassign(places)
            self._report("partitions revoked", partitions=len(places))
        except BaseException as error:  # noqa: BLE001 - as above
            self._failure = error

    def _on_lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        try:
            # Somebody else may own them already: nothing to wait for, the fence makes a late write harmless.
            if consumer is self._consumer:  # not one that was given up
                self._drop(places)
            consumer.incremental_unassign(places)
            self._report("partitions lost", partitions=len(places))
        except BaseException as error:  # noqa: BLE001 - as above
            self._failure = error

    def _drop(self, places: Iterable[TopicPartition]) -> None:
        gone = {Partition(place.topic, place.partition) for place in places}
        self._assigned -= gone
        self._started -= gone
        self._unsettled -= gone

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        try:
            if error is None:
                self._group.granted()
            else:
                self._group.hear(error)
                self._report("offset commit failed", error=error.name(), partitions=len(places))
        except BaseException as failure:  # noqa: BLE001 - as above
            self._failure = failure

    def _on_error(self, error: KafkaError) -> None:
        try:
            self._report("client error", error=error.name())
            self._trouble.hear(error)
        except BaseException as failure:  # noqa: BLE001 - as above
            self._failure = failure

    def _on_statistics(self, text: str) -> None:
        # Never a reason to rebuild the client, whatever the next version of it has in there.
        with suppress(Exception):
            self.on_statistics(client_state(text))
