"""What is useful of librdkafka's statistics, one JSON text every `statistics.interval.ms`."""

import json
from typing import NamedTuple


class ClientState(NamedTuple):
    """How the consumer's client does."""

    queue_messages: int  # fetched and not yet consumed
    queue_bytes: int
    brokers_connected: int
    broker_rtt_seconds: float  # of the slowest broker, the mean over the interval


def client_state(text: str) -> ClientState:
    """Reads the statistics.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: they are other than known.
    """
    statistics = json.loads(text)
    partitions = [each for topic in statistics["topics"].values() for each in topic["partitions"].values()]
    brokers = [each for each in statistics["brokers"].values() if each["state"] == "UP"]
    return ClientState(
        sum(each["fetchq_cnt"] for each in partitions),
        sum(each["fetchq_size"] for each in partitions),
        len({each["nodeid"] for each in brokers if each["nodeid"] >= 0}),
        max((each["rtt"]["avg"] for each in brokers), default=0) / 1e6,
    )
