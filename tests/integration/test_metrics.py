"""The metrics of real workers between a real Kafka and a real PostgreSQL: all are there, and what they say is true."""

import contextlib
from datetime import UTC, datetime

import psycopg
import pytest

from consumer import __version__
from consumer.core.clock import month_after
from consumer.core.errors import TransientError
from consumer.core.ports import LogState
from consumer.postgres.background import BackgroundStore
from consumer.postgres.connection import connect
from consumer.postgres.store import PostgresStore
from tests.bed.events import encoded, event, events, message_value
from tests.bed.fault_proxy import FaultProxy
from tests.bed.health import Health
from tests.bed.kafka import KafkaBroker
from tests.bed.worker import Workplace, wait_until
from tests.unit.test_pages import metric_rows

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

TAMPERED = {
    "the sum": "UPDATE audit.consumer_position SET written = written + 1",
    "a count below none": "UPDATE audit.consumer_position SET skipped = skipped - 1, written = written + 1",
    "expired without a gap": "UPDATE audit.consumer_position SET expired = expired + 1, written = written - 1",
    "fewer quarantined": "UPDATE audit.consumer_position SET quarantined = quarantined - 1, written = written + 1",
    "set back": "UPDATE audit.consumer_position SET next_offset = 1, written = 0, duplicates = 0",
}


@pytest.fixture(name="place")
def _place(kafka_broker: KafkaBroker, database: str, topic: str) -> Workplace:
    return Workplace(kafka_broker, database, topic)


def test_every_metric_is_there_and_true(place: Workplace) -> None:
    """Scraped from a worker that has met a bit of everything."""
    health = Health()
    declared = {row.split("`")[1].removeprefix("integration_audit_"): row.split("|")[2].strip() for row in metric_rows()}
    place.publish([message_value({"type": "SlackSettingUpdated", "enabled": True}) for _ in range(5)], partition=0)
    place.publish([message_value(result="FAILED", error_code="E1"), b"garbage", None], partition=1)
    with place.worker(**health.settings):
        wait_until(lambda: sum(place.books().values()) == 8, "all is accounted for")
        wait_until(lambda: health.metric("client_brokers_connected") == 1, "the client's statistics")
        for name, kind in declared.items():
            assert health.series(name + ("_count" if kind == "histogram" else "")), name
        written = {labels: value for labels, value in health.series("events_written_total").items() if value}
        assert written == {'action="update slack setting",outcome="SUCCESS"': 5, 'action="enable integration",outcome="FAILED"': 1}
        assert health.series("quarantined_total")['reason="undecodable"'] == 1
        assert health.metric("quarantined_total") == health.metric("tombstones_total") == 1
        positions = {f'partition="{number}",topic="{place.topic}"': offset for number, offset in place.positions().items()}
        wait_until(lambda: health.series("position") == positions, "the positions")
        wait_until(lambda: health.series("lag_offsets") == dict.fromkeys(positions, 0), "nothing is left")
        assert health.series("lag_seconds") == dict.fromkeys(positions, 0)
        assert health.metric("assigned_partitions") == len(positions) == 4
        assert health.metric("end_to_end_seconds_count") == health.metric("decode_seconds_count") == health.metric("batches_total") >= 1
        assert health.series("build_info") == {f'version="{__version__}"': 1}
        assert health.metric("months_ahead") == 2
        month = month_after(datetime.now(UTC).date(), -1)
        assert health.metric("retention_horizon_timestamp_seconds") == datetime(month.year, month.month, 1, tzinfo=UTC).timestamp()
        assert health.metric("database_state_timestamp_seconds") == pytest.approx(datetime.now(UTC).timestamp(), abs=120)


def test_a_partition_goes_from_one_worker_to_the_other(place: Workplace) -> None:
    """Between two workers each series is there once; when one leaves, the other has all."""
    first, second = Health(), Health()
    with place.worker(**first.settings):
        wait_until(lambda: len(first.series("position")) == 4, "one has all")
        with place.worker(**second.settings) as leaving:
            wait_until(lambda: len(second.series("position")) == len(first.series("position")) == 2, "each has its half")
            assert not first.series("position").keys() & second.series("position").keys()
            assert first.series("lag_offsets").keys() == first.series("lag_seconds").keys() == first.series("position").keys()
            leaving.terminate()
            assert leaving.wait(timeout=60) == 0
        wait_until(lambda: len(first.series("position")) == 4, "one has all again")
        assert first.metric("rebalances_total") >= 3


def test_the_lag_grows_while_the_database_is_down(place: Workplace, postgres_proxy: FaultProxy) -> None:
    """In offsets and in seconds, though nothing is fetched; the cause is shown; when it is back, nothing is left."""
    health = Health()
    through = place.database.replace(f":{place.database.rpartition(':')[2].partition('/')[0]}/", f":{postgres_proxy.port}/")
    lag = f'partition="0",topic="{place.topic}"'
    with place.worker(**health.settings, AUDIT_DATABASE_URL=through):
        place.publish(encoded(events(10)), partition=0)
        wait_until(lambda: health.series("lag_offsets").get(lag) == 0 and place.written() == 10, "the first are written")
        postgres_proxy.refuse()
        postgres_proxy.cut()
        place.publish(encoded(events(5)), partition=0)
        wait_until(lambda: health.series("held")['cause="database"'] == 1, "held")
        place.publish(encoded(events(5)), partition=0)
        wait_until(lambda: health.series("lag_offsets")[lag] == 10, "all ten wait")
        wait_until(lambda: health.series("lag_seconds")[lag] > 2, "they age")
        assert {labels for labels, value in health.series("pauses_total").items() if value} == {'cause="database"'}
        postgres_proxy.accept()
        wait_until(lambda: health.series("lag_offsets")[lag] == 0, "nothing is left")
        assert (place.written(), health.metric("held"), health.series("lag_seconds")[lag]) == (20, 0, 0)


class TestLogState:
    """What one question tells of the log."""

    @staticmethod
    def state(database: str) -> LogState:
        """As the worker asks."""
        with contextlib.closing(PostgresStore(lambda: connect(database), lambda: int(datetime.now(UTC).timestamp() * 1e6))) as store:
            return store.log_state()

    def test_what_is_open_is_counted(self, place: Workplace) -> None:
        """And no longer what was settled."""
        place.publish([b"one", b"two", b"three"], partition=0)
        place.drain()
        assert self.state(place.database)[:3] == (3, 0, 2)
        settled = place.command("quarantine", "discard", "--by", "suzuki", "--note", "garbage", "--yes", "--id", "1")
        assert settled.returncode == 0, settled.stderr
        assert self.state(place.database).quarantine_open == 2

    @pytest.mark.parametrize("how", TAMPERED)
    def test_books_that_somebody_changed_do_not_add_up(self, place: Workplace, how: str) -> None:
        """Whoever may change the position's table may take its constraint away first."""
        first = event()
        place.publish([*encoded([first, first]), b"garbage"], partition=0)
        place.drain()
        assert self.state(place.database).books_unbalanced == 0
        with psycopg.connect(place.database) as connection:
            connection.execute("ALTER TABLE audit.consumer_position DROP CONSTRAINT consumer_position_books_check")
            connection.execute(TAMPERED[how] + " WHERE kafka_partition = 0")  # type: ignore[arg-type]
        assert self.state(place.database).books_unbalanced == 1

    def test_the_count_of_what_is_open_is_bounded(self, any_database: str) -> None:
        """By index, on both majors: of 30,000 open messages and 30,000 settled ones some pages are read and not the table."""
        with psycopg.connect(any_database, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO audit.quarantine (kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, reason, error, status)"
                " SELECT 't', 'id', 0, number, 'conflict', repeat('x', 400), CASE WHEN number % 2 = 0 THEN 'open' ELSE 'discarded' END"
                " FROM generate_series(1, 60000) AS number"
            )
            connection.execute(
                "INSERT INTO audit.consumer_position (kafka_topic, kafka_topic_id, kafka_partition, first_offset, next_offset, quarantined)"
                " SELECT 't', 'id', number, 1, CASE number WHEN 0 THEN 60001 ELSE 1 END, CASE number WHEN 0 THEN 60000 ELSE 0 END"
                " FROM generate_series(0, 20) AS number"
            )
            connection.execute("VACUUM ANALYZE audit.quarantine")
            assert connection.execute("SELECT quarantine_open, books_unbalanced FROM audit.log_state()").fetchone() == (10_000, 0)
            explained = connection.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM audit.log_state()").fetchone()
            assert explained is not None
            plan = explained[0][0]["Plan"]
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 1500

    def test_a_missing_month_is_seen_and_made(self, database: str) -> None:
        """The function sees it; the worker's look makes it, for a log that nobody writes to."""
        ahead = month_after(datetime.now(UTC).date(), 1)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f"DROP TABLE audit.audit_log_{ahead:%Y_%m}")  # type: ignore[arg-type]
            assert connection.execute("SELECT months_ahead FROM audit.log_state()").fetchone() == (0,)
            assert self.state(database).months_ahead == 2
            connection.execute(f"DROP TABLE audit.audit_log_{month_after(ahead, -1):%Y_%m}")  # type: ignore[arg-type]
            assert connection.execute("SELECT months_ahead FROM audit.log_state()").fetchone() == (-1,)

    def test_a_look_that_fails_costs_no_call(self, database: str) -> None:
        """The call's result is there, the failure is told, and the next call is done over a new connection."""
        told: list[LogState | TransientError] = []
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ALTER FUNCTION audit.log_state() RENAME TO gone")
        with contextlib.closing(BackgroundStore(PostgresStore(lambda: connect(database), lambda: 0), told.append)) as store:
            for _ in range(2):
                store.start_look({})
                assert store.wait(30)
                assert store.result() == {}
            wait_until(lambda: told, "the failure")
            assert isinstance(told[0], TransientError)
