"""The fixtures of the bed, for all tests."""

from tests.bed.kafka import kafka_broker, kafka_proxy, new_topic, topic
from tests.bed.kafka_cluster import kafka_cluster
from tests.bed.pgbouncer import pgbouncer
from tests.bed.postgres import any_database, any_postgres, database, oldest_postgres, postgres, postgres_proxy
from tests.bed.registry import gate, registry
from tests.bed.secured_kafka import secured_kafka

__all__ = [
    "any_database",
    "any_postgres",
    "database",
    "gate",
    "kafka_broker",
    "kafka_cluster",
    "kafka_proxy",
    "new_topic",
    "oldest_postgres",
    "pgbouncer",
    "postgres",
    "postgres_proxy",
    "registry",
    "secured_kafka",
    "topic",
]
