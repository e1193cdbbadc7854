"""A short chaos run, and that its verdict notices what it is there to notice."""

from collections.abc import Iterator
from itertools import pairwise

import psycopg
import pytest

from tests.bed.kafka import KafkaBroker
from tests.bed.postgres import PostgresServer
from tests.chaos.plan import KINDS, make_plan
from tests.chaos.run import Outcome, Run, table
from tests.chaos.truth import read_database
from tests.chaos.verdict import examine

SEED = 2591  # its plan has sixteen kinds of fault, among them the crashes, the frozen worker and the lost answer
SECONDS = 35.0

ONE_ROW = "(kafka_partition, kafka_offset) = (SELECT kafka_partition, kafka_offset FROM audit.{} ORDER BY 1, 2 LIMIT 1)"
POSITION = "UPDATE audit.consumer_position SET {} WHERE kafka_partition = 0"
TAMPERED = {
    "a deleted row": "DELETE FROM audit.audit_log WHERE " + ONE_ROW.format("audit_log"),
    "a changed name": "UPDATE audit.audit_log SET login_name = 'nobody at all' WHERE " + ONE_ROW.format("audit_log"),
    "a changed complement": "UPDATE audit.audit_log SET complement = '{}' WHERE " + ONE_ROW.format("audit_log"),
    "a changed place": "UPDATE audit.audit_log SET kafka_offset = kafka_offset + 1000000 WHERE " + ONE_ROW.format("audit_log"),
    "a doubled row": "CREATE TEMP TABLE one AS SELECT * FROM audit.audit_log WHERE " + ONE_ROW.format("audit_log") + ";"
    " UPDATE one SET occurred_at = occurred_at + interval '1 second'; INSERT INTO audit.audit_log SELECT * FROM one",
    "a forgotten event": "DELETE FROM audit.event WHERE event_id = (SELECT event_id FROM audit.event LIMIT 1)",
    "a position too far": POSITION.format("next_offset = next_offset + 1, skipped = skipped + 1"),
    "a position too near": POSITION.format("next_offset = next_offset - 1, written = written - 1"),
    "a wrong book": POSITION.format("duplicates = duplicates + 1, written = written - 1"),
    "a lost position": "DELETE FROM audit.consumer_position WHERE kafka_partition = 0",
    "a vanished quarantine": "DELETE FROM audit.quarantine WHERE " + ONE_ROW.format("quarantine"),
    "changed bytes": "UPDATE audit.quarantine SET value = value || '\\x00' WHERE " + ONE_ROW.format("quarantine"),
    "another reason": "UPDATE audit.quarantine SET reason = 'unmapped change' WHERE " + ONE_ROW.format("quarantine"),
    "a good event in quarantine": "UPDATE audit.quarantine SET kafka_offset = (SELECT max(kafka_offset) FROM audit.audit_log l"
    " WHERE l.kafka_partition = quarantine.kafka_partition) WHERE " + ONE_ROW.format("quarantine"),
    "a gap": "INSERT INTO audit.source_gap (kafka_topic, kafka_topic_id, kafka_partition, first_offset, next_offset)"
    " VALUES ('', '', 0, 1, 2)",
}


pytestmark = pytest.mark.timeout(400)
"""Seconds, the run included, which whichever test comes first must wait for; it takes 45, and on a machine under load more."""


@pytest.fixture(scope="module")
def outcome(kafka_broker: KafkaBroker, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run for all tests of this module; it leaves broker and database server whole."""
    plan = make_plan(SEED, seconds=SECONDS, workers=2)
    return Run(plan, kafka_broker, postgres, tmp_path_factory.mktemp("chaos"), 200.0, print).run()


def test_whatever_dies_nothing_is_lost_and_nothing_twice(outcome: Outcome) -> None:
    """Two workers under random faults of a fixed seed. `make chaos` runs longer ones."""
    assert outcome.passed, "\n".join(table(outcome))


def test_the_run_tried_what_it_is_there_to_try(outcome: Outcome) -> None:
    """A verdict on a run in which nothing happened would be worth nothing."""
    checks = {check.name: check.examined for check in outcome.checks}
    assert checks["every delivered event is in the log once, as it was sent"] > 1_000
    assert checks["quarantine holds the hostile and the conflicting, byte for byte"] > 50
    assert all(outcome.load.get(what, 0) > 0 for what in ("duplicate", "conflict", "hostile", "tombstone", "transaction aborted"))
    assert all(outcome.said.get(what, 0) > 0 for what in ("held", "client error", "stopped"))


@pytest.fixture
def copy(outcome: Outcome, postgres: PostgresServer) -> Iterator[str]:
    """A copy of the run's database; its URL."""
    name = outcome.database.rpartition("/")[2]
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
        yield f"{outcome.database}_copy"
        connection.execute(f"DROP DATABASE {name}_copy WITH (FORCE)")


@pytest.mark.parametrize("tampered", TAMPERED)
def test_the_verdict_notices(outcome: Outcome, copy: str, tampered: str) -> None:
    """Each way in which a log could be wrong, done by hand."""
    assert all(check.passed for check in examine(outcome.account, outcome.topic, read_database(copy)))
    with psycopg.connect(copy) as connection:
        connection.execute(_without_triggers(connection))
        connection.execute(TAMPERED[tampered])
    assert not all(check.passed for check in examine(outcome.account, outcome.topic, read_database(copy)))


def test_the_verdict_notices_what_kafka_did_not_keep(outcome: Outcome) -> None:
    """Then the rest would prove nothing."""
    place = next(iter(outcome.account.acknowledged))
    topic = type(outcome.topic)({key: message for key, message in outcome.topic.messages.items() if key != place}, outcome.topic.ends)
    checks = examine(outcome.account, topic, read_database(outcome.database))
    assert not checks[0].passed


def test_a_seed_makes_one_plan() -> None:
    """The same for the same seed, another for another one; a run of some minutes has every kind of fault, one after the other."""
    plan = make_plan(7, seconds=300.0, workers=3)
    assert plan == make_plan(7, seconds=300.0, workers=3)
    assert plan != make_plan(8, seconds=300.0, workers=3)
    assert {fault.kind for fault in plan.faults} == set(KINDS)
    for part in {kind.part for kind in KINDS}:
        own = [fault for fault in plan.faults if fault.kind.part == part]
        assert all(one.ends < other.begins for one, other in pairwise(own))


def _without_triggers(connection: "psycopg.Connection[tuple[object, ...]]") -> str:
    """Statements that switch off what guards the tables, for the superuser that a tamperer would have to be."""
    found = connection.execute(
        "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid"
        " WHERE NOT tgisinternal AND relnamespace = 'audit'::regnamespace"
    ).fetchall()
    return ";".join(f"ALTER TABLE {table} DISABLE TRIGGER USER" for (table,) in found)
