"""The committed offsets of a consumer group, read without joining it.

By a consumer and not by the admin client, which aborts the process when its connection breaks while it asks a group's coordinator
(librdkafka issue 4605).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.core.errors import TransientError
from consumer.core.events import Partition
from consumer.kafka.failures import MISSING_RIGHT, Rights, refused_settings

_TIMEOUT = 10.0
"""Seconds; the client must find the group's coordinator first."""


def committed_offsets(client: Mapping[str, Any], group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """The next offset of the group in each of the partitions for which it has committed one.

    Raises:
        TransientError: Kafka could not be asked (ConfigurationError: it refuses, with the right that is missing).
    """
    try:
        # Neither subscribed nor assigned, so it never is a member; and never moves what it reads.
        consumer = Consumer({**client, "group.id": group, "enable.auto.commit": False, "enable.auto.offset.store": False})
    except KafkaException as error:
        raise refused_settings(error) from error
    try:
        places = consumer.committed([TopicPartition(*each) for each in partitions], _TIMEOUT)
    except KafkaException as error:
        raise _failure(client, group, error.args[0]) from error
    finally:
        consumer.close()
    for place in places:
        if place.error is not None:
            raise _failure(client, group, place.error)
    return {Partition(place.topic, place.partition): place.offset for place in places if place.offset >= 0}


def _failure(client: Mapping[str, Any], group: str, error: KafkaError) -> TransientError:
    if error.code() in MISSING_RIGHT:
        return Rights(client).missing("group", group)
    return TransientError(f"Kafka: the offsets of group {group}: {error.name()}")
