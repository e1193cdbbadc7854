"""Alerts and dashboard on real parts: a real Prometheus asks a real worker, trouble is caused, and the alert that tells of it fires.

The rules are those that are deployed, without their `for`.
"""

import re
import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from consumer.schemas import event_schema
from tests.bed.events import encoded, event, events
from tests.bed.fault_proxy import FaultProxy
from tests.bed.health import Health
from tests.bed.kafka import KafkaBroker
from tests.bed.prometheus import Prometheus, running_prometheus
from tests.bed.registry import Apicurio, Gate, confluent
from tests.bed.secured_kafka import GROUP, SecuredKafka
from tests.bed.worker import Workplace, wait_until
from tests.deploy import watching

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

NO_AVRO = b"no Avro"


@pytest.fixture(name="health")
def _health() -> Health:
    return Health()


@pytest.fixture(name="prometheus")
def _prometheus(health: Health) -> Iterator[Prometheus]:
    with running_prometheus([health.port], watching.impatient()) as server:
        yield server


@pytest.fixture(name="place")
def _place(kafka_broker: KafkaBroker, database: str, topic: str, health: Health) -> Workplace:
    return Workplace(kafka_broker, database, topic, **health.settings)


def firing(prometheus: Prometheus) -> set[str]:
    """Their names without what all begin with."""
    return {name.removeprefix("IntegrationAudit") for name in prometheus.firing()}


def wait_for(prometheus: Prometheus, *names: str) -> None:
    """Until all these fire."""
    wait_until(lambda: set(names) <= firing(prometheus), f"{names} fire")
    said = "".join(text for annotations in prometheus.firing().values() for text in annotations.values())
    assert "<error" not in said  # a text that can't be made


def exposed(health: Health) -> set[str]:
    """Every name that queries may use of a worker, whether it has a value yet or not."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", health.text("/metrics"), flags=re.MULTILINE):
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


def test_everything_that_is_asked_for_is_there(place: Workplace, health: Health, prometheus: Prometheus) -> None:
    """Each query is understood and names the worker's metrics, each of the dashboard gets an answer, and nothing fires when all is well."""
    first = event()
    with place.worker():
        wait_until(lambda: health.ready and not firing(prometheus), "all is well")
        place.publish([*encoded([first, first, *events(20)]), None, NO_AVRO])
        wait_until(lambda: sum(place.books().values()) == 24, "all is written")
        there = exposed(health)
        for alert in watching.alerts():
            prometheus.query(alert["expr"])
            assert watching.metrics_of(alert["expr"]) <= there, alert["alert"]
        for query in watching.queries():
            assert watching.metrics_of(query.expression) <= there, query.where
            wait_until(lambda asked=query.expression: prometheus.query(asked), f"an answer to {query.where}")
            assert all(query.labels <= series["metric"].keys() for series in prometheus.query(query.expression)), query.where


def test_the_database_is_down(place: Workplace, health: Health, prometheus: Prometheus, postgres_proxy: FaultProxy) -> None:
    """It answers no more, and an old event waits. All of it ends by itself; then the worker is gone."""
    server, _, name = place.database.rpartition("/")
    place.publish(encoded(events(1)), sent=int(time.time() - 7200) * 1000)
    postgres_proxy.freeze_before_request(b"COPY")
    with place.worker(AUDIT_DATABASE_URL=f"{server.rpartition(':')[0]}:{postgres_proxy.port}/{name}"):
        wait_for(prometheus, "DatabaseDown", "NotReady", "Lag")
        wait_until(lambda: prometheus.query('ALERTS{alertname="IntegrationAuditLag", severity="critical"}'), "an hour is critical")
        postgres_proxy.thaw()
        wait_until(lambda: place.written() == 1 and not firing(prometheus), "all is well again")
    wait_for(prometheus, "WorkerAbsent", "WorkerSilent")


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_kafka_is_down(place: Workplace, health: Health, prometheus: Prometheus, kafka_proxy: FaultProxy, protocol: str) -> None:
    """The way to the broker is cut. It ends by itself."""
    with place.worker(AUDIT_KAFKA_BOOTSTRAP_SERVERS=kafka_proxy.address, AUDIT_KAFKA_GROUP_PROTOCOL=protocol):
        wait_until(lambda: health.ready and not firing(prometheus), "all is well")
        kafka_proxy.refuse()
        kafka_proxy.cut()
        wait_for(prometheus, "KafkaDown", "NotReady")
        kafka_proxy.accept()
        wait_until(lambda: health.ready and not firing(prometheus), "all is well again")


def test_the_registry_is_down(place: Workplace, health: Health, prometheus: Prometheus, registry: Apicurio, gate: Gate) -> None:
    """A message waits for its schema. It ends by itself."""
    number = registry.register({**event_schema(), "doc": "asked for while the registry is down"})
    with place.worker(AUDIT_SCHEMA_REGISTRY_URL=gate.url):
        wait_until(lambda: health.ready and not firing(prometheus), "all is well")
        gate.fault = 503
        place.publish([confluent(number, each) for each in encoded(events(3))])
        wait_for(prometheus, "RegistryDown", "NotReady")
        gate.heal()
        wait_until(lambda: place.written() == 3 and not firing(prometheus), "all is well again")


def test_messages_that_belong_in_quarantine(place: Workplace, health: Health, prometheus: Prometheus) -> None:
    """One event twice with other content, then garbage until the topic is held."""
    one = event()
    with place.worker(AUDIT_QUARANTINE_LIMIT="20"):
        wait_until(lambda: health.ready and not firing(prometheus), "all is well")
        place.publish(encoded([one, {**one, "tenant": "other"}]), partition=0)
        wait_for(prometheus, "Conflict")
        place.publish([NO_AVRO] * 25, partition=0)
        wait_until(lambda: place.books()["quarantined"] == 26, "all is in quarantine")
        place.publish([NO_AVRO], partition=0)
        wait_for(prometheus, "QuarantineFilling", "TopicHeld")
        assert "undecodable" in prometheus.firing()["IntegrationAuditQuarantineFilling"]["summary"]


def test_positions_and_what_somebody_did_by_hand(place: Workplace, health: Health, prometheus: Prometheus) -> None:
    """Messages that Kafka removed unread; then a month is taken away, a position is set forward, and the books of another are changed.

    Two of them end by what the runbook says.
    """
    place.publish(encoded(events(10)), partition=0)
    place.drain()
    place.publish(encoded(events(20)), partition=0)
    place.publish([NO_AVRO], partition=1)
    place.kafka.delete_records(place.topic, 0, 25)
    with place.worker():
        wait_until(lambda: health.ready, "it works")
        wait_for(prometheus, "PositionGap")
        with psycopg.connect(place.database) as owner:
            last = place.value("SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass")
            owner.execute(f"DROP TABLE {last}")
            owner.execute("ALTER TABLE audit.consumer_position DROP CONSTRAINT consumer_position_books_check")
            owner.execute("UPDATE audit.consumer_position SET duplicates = duplicates + 1 WHERE kafka_partition = 1")
            owner.execute(
                "UPDATE audit.consumer_position SET next_offset = next_offset + 9, skipped = skipped + 9 WHERE kafka_partition = 0"
            )
        wait_for(prometheus, "MonthsAhead", "BooksUnbalanced", "PositionBeyondEnd", "QuarantineOpen")
        assert place.command("quarantine", "discard", "--all", "--note", "a test", "--yes").returncode == 0
        (remedy,) = (each for each in watching.statements() if "ensure_month" in each)
        place.query(remedy)
        wait_until(lambda: not {"MonthsAhead", "QuarantineOpen"} & firing(prometheus), "the months are there, and nothing is open")


def test_nobody_runs_retention(place: Workplace, health: Health, prometheus: Prometheus) -> None:
    """A month of five years ago is still there; it ends by what the runbook says."""
    place.query("SELECT audit.ensure_month((date_trunc('month', now() AT TIME ZONE 'UTC') - interval '5 years')::date)")
    with place.worker():
        wait_until(lambda: health.ready, "it works")
        wait_for(prometheus, "RetentionOverdue")
        done = place.command("retention", "apply", "--yes", "--by", "suzuki")
        assert done.returncode == 0, done.stderr
        wait_until(lambda: not firing(prometheus), "all is well again")


def test_a_right_is_missing(secured_kafka: SecuredKafka, database: str, health: Health, prometheus: Prometheus) -> None:
    """Granted by the command that the worker names."""
    topic = secured_kafka.create_topic(f"topic-{uuid.uuid4().hex[:8]}", 2)
    place = Workplace(secured_kafka, database, topic, **health.settings)
    user, password, setting = f"user-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex, "AUDIT_KAFKA_SECURITY_SASL"
    secured_kafka.user(password, user)
    secured_kafka.allow(user, GROUP, place.environment["AUDIT_KAFKA_GROUP_ID"])
    login = {f"{setting}_MECHANISM": "SCRAM-SHA-512", f"{setting}_USERNAME": user, f"{setting}_PASSWORD": password}
    with place.worker(**secured_kafka.sasl, **login):
        wait_for(prometheus, "MissingRight", "NothingRead", "NotReady")
        wait_until(lambda: "kafka-acls.sh" in health.reasons, "the remedy")
        remedy = re.search(r"kafka-acls\.sh [^;]+", health.reasons)
        assert remedy is not None
        secured_kafka.run_acls(remedy[0])
        wait_until(lambda: health.ready and not firing(prometheus), "all is well")


@pytest.mark.parametrize("statement", watching.statements())
def test_the_runbooks_sql_works(database: str, statement: str) -> None:
    """For an operator."""
    with psycopg.connect(database) as connection:
        connection.execute("SET ROLE audit_operator")
        assert connection.execute(statement).description
