"""The schema as the migrations make it: complete, append-only, with least privilege, whoever and however many migrate."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, LiteralString, cast

import psycopg
import pytest
from psycopg import errors

from consumer.core.actions import ACTIONS, RESULTS
from consumer.core.clock import month_after
from consumer.core.errors import ConfigurationError, Reason
from consumer.postgres.migrate import HEAD_REVISION, UnknownRevisionError, current_revision, migrate
from tests.bed.postgres import PostgresServer

pytestmark = pytest.mark.postgres

LATER_TABLES = {"quarantine_history", "operation_history", "retention_month", "retention_history"}
TABLES = {"audit_log", "event", "consumer_position", "quarantine", "source_gap", *LATER_TABLES}
ROLES = {"audit_owner", "audit_writer", "audit_reader", "audit_operator", "audit_retention"}
NOW = datetime.now(UTC)
THIS_MONTH = NOW.date().replace(day=1)
PARTITION = f"audit.audit_log_{THIS_MONTH:%Y_%m}"

LOG_ROW = (
    "INSERT INTO audit.audit_log (event_id, occurred_at, tenant, level, service, login_name, module, action, result,"
    " complement, subject_type, kafka_topic, kafka_partition, kafka_offset, content_hash)"
    " VALUES (gen_random_uuid(), {when}, 'acme', 'Notice', 'Common', 'sato', 'System administration',"
    " 'add oauth client', 'SUCCESS', {complement}, 'OAuth client', 't', 0, 0, '')"
)
QUARANTINE_ROW = (
    "INSERT INTO audit.quarantine (kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, reason, error)"
    " VALUES ('t', 'id', 0, 7, {reason}, 'why') ON CONFLICT DO NOTHING"
)
POSITION_ROW = (
    "INSERT INTO audit.consumer_position (kafka_topic, kafka_topic_id, kafka_partition, first_offset, next_offset)"
    " VALUES ('t', 'id', 0, 5, 5)"
)
EVENT_ROW = "INSERT INTO audit.event VALUES (gen_random_uuid(), now(), '')"
HISTORY_ROW = (
    "INSERT INTO audit.quarantine_history (quarantine_id, who, action, outcome, note)"
    " SELECT max(id), 'sato', 'retry failed', 'conflict', 'why' FROM audit.quarantine"
)
SETTLED = "UPDATE audit.quarantine SET status = 'discarded', resolved_at = now(), resolved_by = 'sato'"
GAP_ROW = (
    "INSERT INTO audit.source_gap (kafka_topic, kafka_topic_id, kafka_partition, first_offset, next_offset) VALUES ('t', 'id', 0, 0, 5)"
)


def log_row(when: str = "now()", complement: str = "'{}'") -> str:
    """An INSERT of one row."""
    return LOG_ROW.replace("{when}", when).replace("{complement}", complement)


def quarantine_row(reason: str = "conflict") -> str:
    """An INSERT of one quarantined message."""
    return QUARANTINE_ROW.replace("{reason}", f"'{reason}'")


class Session:
    """A connection in autocommit mode, as a role."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows, if there are any."""
        cursor = self._connection.execute(cast("LiteralString", statement))
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str) -> Any:
        """The first value of the first row."""
        return self.run(statement)[0][0]


@contextmanager
def session(url: str, role: str | None = None) -> Iterator[Session]:
    """A connection, as the role if one is named."""
    with psycopg.connect(url, autocommit=True) as connection:
        if role is not None:
            connection.execute(cast("LiteralString", f"SET ROLE {role}"))
        yield Session(connection)


class TestSchema:
    """What a migration leaves behind."""

    def test_tables_and_roles_are_there_and_the_owner_owns_them(self, any_database: str) -> None:
        """No object of the schema belongs to whoever happened to migrate."""
        with session(any_database) as db:
            owned = db.run("SELECT relname, pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'audit'::regnamespace")
            assert {name for name, _ in owned} >= {*TABLES, "alembic_version"}
            assert {owner for _, owner in owned} == {"audit_owner"}
            functions = db.run("SELECT DISTINCT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'audit'::regnamespace")
            assert functions == [("audit_owner",)]
            roles = db.run("SELECT rolname, rolcanlogin, rolsuper FROM pg_roles WHERE rolname LIKE 'audit\\_%'")
            assert {name for name, *_ in roles} >= ROLES
            assert not any(login or superuser for name, login, superuser in roles if name in ROLES)

    def test_the_revision_is_known(self, any_postgres: PostgresServer, any_database: str) -> None:
        """Where nothing was migrated there is none."""
        with psycopg.connect(any_database) as connection:
            assert current_revision(connection) == HEAD_REVISION
        with psycopg.connect(any_postgres.new_database(migrated=False)) as connection:
            assert current_revision(connection) is None

    def test_a_second_migration_finds_nothing_to_do(self, any_postgres: PostgresServer) -> None:
        """From nothing to the head, then from the head to the head."""
        url = any_postgres.new_database(migrated=False)
        assert migrate(url) == (None, HEAD_REVISION)
        assert migrate(url) == (HEAD_REVISION, HEAD_REVISION)

    def test_a_newer_schema_is_left_alone(self, any_database: str) -> None:
        """An old replica must not touch what a new one has made."""
        with session(any_database) as db:
            db.run("UPDATE audit.alembic_version SET version_num = '9999'")
        with pytest.raises(UnknownRevisionError, match="9999"):
            migrate(any_database)

    def test_a_database_of_another_encoding_is_refused(self, any_postgres: PostgresServer) -> None:
        """SQL_ASCII takes any bytes for text, and gives bytes back."""
        name = f"ascii_{uuid.uuid4().hex}"
        with psycopg.connect(any_postgres.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        with pytest.raises(ConfigurationError, match="SQL_ASCII, and must be UTF8: CREATE DATABASE"):
            migrate(any_postgres.url(name))

    def test_a_socket_and_several_hosts_in_the_url(self, any_postgres: PostgresServer) -> None:
        """The URL is libpq's business alone."""
        name = any_postgres.new_database(migrated=False).rsplit("/", 1)[1]
        port = any_postgres.port
        assert migrate(f"postgresql:///{name}?host={any_postgres.folder}&port={port}&user=postgres") == (None, HEAD_REVISION)
        several = f"postgresql://postgres@127.0.0.1:1,127.0.0.1:{port}/{name}?sslmode=prefer&target_session_attrs=read-write"
        assert migrate(several) == (HEAD_REVISION, HEAD_REVISION)

    def test_the_closed_lists_are_those_of_the_program(self, any_database: str) -> None:
        """The table of actions and the checks of the database say the same."""

        def listed(name: str) -> set[str]:
            with session(any_database) as db:
                return {
                    each[0]
                    for each in db.run(
                        "SELECT (regexp_matches(pg_get_constraintdef(oid), '''([^'']+)''::text', 'g'))[1]"
                        f" FROM pg_constraint WHERE conname = '{name}'"
                    )
                }

        assert listed("audit_log_action_check") == {action.name for action in ACTIONS}
        assert listed("audit_log_level_check") == {action.level for action in ACTIONS}
        assert listed("audit_log_module_check") == {action.module for action in ACTIONS}
        assert listed("audit_log_result_check") == set(RESULTS.values())
        assert listed("quarantine_reason_check") == {reason.value for reason in Reason}

    @pytest.mark.parametrize(
        "statement",
        [
            log_row(complement="'[]'"),
            log_row().replace("'Notice'", "'Warning'"),
            log_row().replace("'add oauth client'", "'drop table'"),
            log_row().replace("'SUCCESS'", "'VALIDATION_ERROR'"),
            quarantine_row("bad luck"),
            POSITION_ROW.replace("5, 5", "5, 6"),
            GAP_ROW.replace("0, 0, 5", "0, 5, 5"),
            f"{quarantine_row()}; " + HISTORY_ROW.replace("'retry failed'", "'thought about'"),
            f"{quarantine_row()}; " + HISTORY_ROW.replace("'conflict'", "'written'"),
            f"{quarantine_row()}; " + HISTORY_ROW.replace("'conflict'", "NULL"),
            f"{quarantine_row()}; " + HISTORY_ROW.replace("'retry failed', 'conflict', 'why'", "'discarded', NULL, ' '"),
        ],
    )
    def test_what_the_checks_refuse(self, any_database: str, statement: str) -> None:
        """The last line of defence: against a mistake in the program, and in books that do not balance."""
        with session(any_database) as db, pytest.raises(errors.CheckViolation) as caught:
            db.run(statement)
        assert caught.value.diag.constraint_name


class TestTogether:
    """Many at once."""

    def test_ten_processes_migrate_at_once(self, any_postgres: PostgresServer) -> None:
        """One migrates, nine wait and find nothing to do."""
        url = any_postgres.new_database(migrated=False)
        code = "import sys; from consumer.postgres.migrate import migrate; print(migrate(sys.argv[1])[0])"
        running = [
            subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(10)
        ]
        ended = [(*process.communicate(timeout=120), process.returncode) for process in running]
        assert [error for _, error, code in ended if code] == []
        assert sorted(output.strip() for output, *_ in ended) == [*[HEAD_REVISION] * 9, "None"]

    def test_databases_of_one_cluster_migrate_at_once(self, any_postgres: PostgresServer) -> None:
        """Roles belong to the cluster, where no lock of one database helps."""
        urls = [any_postgres.new_database(migrated=False) for _ in range(6)]
        with ThreadPoolExecutor(len(urls)) as threads:
            assert list(threads.map(migrate, urls)) == [(None, HEAD_REVISION)] * len(urls)

    def test_a_month_is_made_once(self, any_database: str) -> None:
        """Of eight who ask for it together one makes it."""

        def ask(_: int) -> bool:
            with session(any_database, "audit_writer") as db:
                return bool(db.value("SELECT audit.ensure_month('2020-02-29')"))

        with ThreadPoolExecutor(8) as threads:
            assert sorted(threads.map(ask, range(8))) == [False] * 7 + [True]


class TestAppendOnly:
    """What is in the log stays as it is, for everybody."""

    @pytest.mark.parametrize("table", ["audit.audit_log", PARTITION])
    @pytest.mark.parametrize("statement", ["UPDATE {} SET tenant = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
    @pytest.mark.parametrize("role", ["postgres", "audit_owner"])
    def test_a_change_of_the_log_is_refused(self, any_database: str, table: str, statement: str, role: str) -> None:
        """On the parent and on the partition, to the superuser and to the owner; and the row is still there."""
        with session(any_database) as db:
            db.run(log_row())
            db.run(f"SET ROLE {role}")
            with pytest.raises(errors.InsufficientPrivilege, match=f"{statement.split(' ', 1)[0]} on audit.* is refused"):
                db.run(statement.format(table))
            assert db.value("SELECT count(*) FROM audit.audit_log WHERE tenant = 'acme'") == 1

    def test_nor_as_a_replica_nor_by_upsert_nor_by_cascade(self, any_database: str) -> None:
        """The ways around ordinary triggers."""
        with session(any_database) as db:
            db.run(log_row())
            db.run("SET session_replication_role = replica")
            with pytest.raises(errors.InsufficientPrivilege):
                db.run("DELETE FROM audit.audit_log")
            with pytest.raises(errors.InsufficientPrivilege):
                db.run(log_row() + " ON CONFLICT (occurred_at, event_id) DO UPDATE SET tenant = 'x'")
            with pytest.raises(errors.InsufficientPrivilege):
                db.run("TRUNCATE audit.audit_log, audit.event CASCADE")

    def test_every_partition_is_guarded_the_late_ones_too(self, any_database: str) -> None:
        """A month that the function makes later is guarded as the first ones are."""
        with session(any_database) as db:
            db.run("SELECT audit.ensure_month('2021-05-01')")
            unguarded = db.run(
                "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass AND NOT EXISTS"
                " (SELECT FROM pg_trigger WHERE tgrelid = inhrelid AND tgenabled = 'A' AND tgname = 'append_only')"
            )
            assert unguarded == []
            with pytest.raises(errors.InsufficientPrivilege):
                db.run("TRUNCATE audit.audit_log_2021_05")

    def test_the_ledger_forgets_but_never_changes(self, any_database: str) -> None:
        """Retention deletes from it; nobody updates or truncates it."""
        with session(any_database) as db:
            db.run(EVENT_ROW)
            for statement in ("UPDATE audit.event SET content_hash = 'x'", "TRUNCATE audit.event"):
                with pytest.raises(errors.InsufficientPrivilege, match="is refused"):
                    db.run(statement)
            db.run("DELETE FROM audit.event")


class TestQuarantine:
    """What is quarantined stays as it came, and what was done with it stays told."""

    @pytest.mark.parametrize("role", ["postgres", "audit_owner", "audit_operator"])
    @pytest.mark.parametrize("statement", ["UPDATE {} SET note = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
    def test_the_history_only_grows(self, any_database: str, role: str, statement: str) -> None:
        """For everybody, also where triggers are meant to be silent."""
        with session(any_database) as db:
            db.run(quarantine_row())
            db.run(HISTORY_ROW)
            if role == "postgres":
                db.run("SET session_replication_role = replica")
            db.run(f"SET ROLE {role}")
            with pytest.raises(errors.InsufficientPrivilege):
                db.run(statement.format("audit.quarantine_history"))
            assert db.run("SELECT action, outcome, note FROM audit.quarantine_history") == [("retry failed", "conflict", "why")]

    @pytest.mark.parametrize("role", ["postgres", "audit_owner"])
    def test_what_is_quarantined_stays(self, any_database: str, role: str) -> None:
        """Neither another byte, nor away; and the one change that is allowed, once only."""
        refused = [
            *(f"UPDATE audit.quarantine SET {column} = {value}" for column, value in (
                ("value", "'x'"), ("key", "'x'"), ("headers", "'[]'"), ("reason", "'conflict'"), ("error", "'x'"), ("kafka_offset", "8"),
                ("quarantined_at", "now()"), ("kafka_topic_id", "'x'"),
            )),
            f"{SETTLED}, value = NULL", "UPDATE audit.quarantine SET status = 'retried'", "UPDATE audit.quarantine SET resolved_by = 'x'",
            "DELETE FROM audit.quarantine", "TRUNCATE audit.quarantine CASCADE",
        ]  # fmt: skip
        with session(any_database) as db:
            db.run(quarantine_row("undecodable").replace("reason, error", "reason, error, value").replace("'why'", "'why', '\\x00'"))
            if role == "postgres":
                db.run("SET session_replication_role = replica")
            db.run(f"SET ROLE {role}")
            before = db.run("SELECT * FROM audit.quarantine")
            for statement in refused:
                with pytest.raises(errors.InsufficientPrivilege, match="is refused to everybody"):
                    db.run(statement)
            assert db.run("SELECT * FROM audit.quarantine") == before
            db.run(SETTLED)
            for statement in (SETTLED, "UPDATE audit.quarantine SET status = 'open'", "UPDATE audit.quarantine SET resolved_by = 'x'"):
                with pytest.raises(errors.InsufficientPrivilege, match="is settled once"):
                    db.run(statement)

    def test_who_was_connected_and_when_can_not_be_made_up(self, any_database: str) -> None:
        """The operator says who sits there; the role and the time PostgreSQL says."""
        with session(any_database, "audit_operator") as db:
            db.run(quarantine_row())
            db.run(HISTORY_ROW)
            assert db.run("SELECT database_role, who, at BETWEEN now() - interval '1 minute' AND now() FROM audit.quarantine_history") == [
                ("postgres", "sato", True)
            ]
            for column, value in (("database_role", "'admin'"), ("at", "now()")):
                with pytest.raises(errors.InsufficientPrivilege):
                    db.run(HISTORY_ROW.replace("who,", f"{column}, who,").replace("'sato'", f"{value}, 'sato'"))

    def test_a_database_in_use_is_upgraded(self, any_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """From 0001 with content: everything stays, and is guarded from then on."""
        url = any_postgres.new_database(migrated=False)
        with monkeypatch.context() as former:
            former.setattr("consumer.postgres.migrate.HEAD_REVISION", "0001")
            assert migrate(url) == (None, "0001")
        with session(url, "audit_writer") as db:
            for statement in (log_row(), EVENT_ROW, POSITION_ROW, GAP_ROW, quarantine_row()):
                db.run(statement)
        with session(url) as db:
            # By hand, as it was possible before: such a row need not please the new guard.
            db.run("UPDATE audit.quarantine SET status = 'discarded'")
            content = "SELECT to_jsonb(kept) - 'reread' FROM audit.{} AS kept"  # a column that came later
            before = {table: db.run(content.format(table)) for table in TABLES - LATER_TABLES}
        assert migrate(url) == ("0001", HEAD_REVISION)
        with session(url) as db:
            assert {table: db.run(content.format(table)) for table in before} == before
            with pytest.raises(errors.InsufficientPrivilege):
                db.run("DELETE FROM audit.quarantine")
            db.run(HISTORY_ROW)
            owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'audit'::regnamespace"
            assert db.run(owners) == [("audit_owner",)]


class TestMonths:
    """Partitions by month of UTC."""

    def test_the_first_months_are_there(self, any_database: str) -> None:
        """One back, this one, two ahead; and none for everything else."""
        with session(any_database) as db:
            found = db.run("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass")
            wanted = {f"audit.audit_log_{month_after(THIS_MONTH, ahead):%Y_%m}" for ahead in range(-1, 3)}
            assert {name for (name,) in found} == wanted
            with pytest.raises(errors.CheckViolation) as caught:
                db.run(log_row("'2019-01-01'"))
            assert caught.value.diag.constraint_name is None  # by which the store tells it from a broken check

    @pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
    def test_bounds_are_utc_whatever_the_session_thinks(self, any_database: str, zone: str) -> None:
        """The last microsecond of a month is in it, the first one of the next is not, in any time zone and date style."""
        with session(any_database) as db:
            db.run(f"SET TimeZone = '{zone}'")
            db.run("SET DateStyle = 'German'")
            assert db.value("SELECT audit.ensure_month(make_date(2022, 3, 31))") is True
            for when in ("2022-03-01T00:00:00Z", "2022-03-31T23:59:59.999999Z"):
                db.run(log_row(f"'{when}'"))
            for when in ("2022-02-28T23:59:59.999999Z", "2022-04-01T00:00:00Z"):
                with pytest.raises(errors.CheckViolation):
                    db.run(log_row(f"'{when}'"))
            assert db.value("SELECT count(*) FROM audit.audit_log_2022_03") == 2

    def test_migrating_in_another_time_zone(self, any_postgres: PostgresServer) -> None:
        """The months that the migration makes are those of UTC."""
        url = any_postgres.new_database(migrated=False)
        migrate(url + "?options=-c%20TimeZone%3DPacific/Kiritimati")
        with session(url) as db:
            bound = db.value(
                "SELECT pg_get_expr(relpartbound, oid) FROM"
                f" (SELECT set_config('TimeZone', 'UTC', false)) AS zone, pg_class WHERE oid = '{PARTITION}'::regclass"
            )
        assert f"FROM ('{THIS_MONTH} 00:00:00+00')" in bound

    def test_a_second_call_makes_nothing(self, any_database: str) -> None:
        """True once, false ever after, by whatever day of the month."""
        with session(any_database, "audit_writer") as db:
            assert db.value("SELECT audit.ensure_month('2020-07-01')") is True
            assert db.value("SELECT audit.ensure_month('2020-07-31')") is False

    def test_months_beyond_what_is_kept_are_refused(self, any_database: str) -> None:
        """Ten years and a month back, three months ahead; no value makes a partition elsewhere."""
        first, last = month_after(THIS_MONTH, -121), month_after(THIS_MONTH, 3)
        with session(any_database, "audit_writer") as db:
            for month in (first, last):
                assert db.value(f"SELECT audit.ensure_month('{month}')") is True
            beyond = [date.fromordinal(first.toordinal() - 1), month_after(last), "infinity", "-infinity", "4000-01-01 BC"]
            for day in beyond:
                with pytest.raises(errors.InvalidParameterValue, match="no partition for"):
                    db.run(f"SELECT audit.ensure_month('{day}')")
            with pytest.raises(errors.InvalidParameterValue):
                db.run("SELECT audit.ensure_month(NULL)")

    def test_a_month_is_like_its_parent(self, any_database: str) -> None:
        """The same indexes, attached to those of the parent, so that no query is slow in a late month."""
        with session(any_database) as db:
            db.run("SELECT audit.ensure_month('2021-06-01')")
            counts = db.run(
                "SELECT count(*), count(inhparent) FROM pg_index LEFT JOIN pg_inherits ON inhrelid = indexrelid"
                " WHERE indrelid = 'audit.audit_log_2021_06'::regclass"
            )
            (here,) = db.run("SELECT count(*) FROM pg_index WHERE indrelid = 'audit.audit_log'::regclass")
        assert counts == [(here[0], here[0])]

    def test_neither_readers_nor_writers_wait_for_a_new_month(self, any_database: str) -> None:
        """A month is made while another transaction has read from the log and written into it."""
        with psycopg.connect(any_database) as busy, session(any_database) as db:
            busy.execute("SELECT count(*) FROM audit.audit_log")
            busy.execute(cast("LiteralString", log_row()))
            db.run("SET lock_timeout = '2s'")
            assert db.value("SELECT audit.ensure_month('2021-07-01')") is True


@pytest.fixture
def fresh_roles(any_postgres: PostgresServer) -> Iterator[None]:
    """As on a cluster that has never heard of us: the roles, which other databases use, are set aside by renaming them."""
    any_postgres.new_database()  # the roles are there
    roles = sorted(ROLES)
    with session(any_postgres.url()) as db:
        for role in roles:
            db.run(f"ALTER ROLE {role} RENAME TO aside_{role}")
        before = db.run("SELECT datname FROM pg_database")
    yield
    with session(any_postgres.url()) as db:
        for (name,) in set(db.run("SELECT datname FROM pg_database")) - set(before):
            db.run(f"DROP DATABASE {name}")
        for role in roles:
            db.run(f"DROP ROLE IF EXISTS {role}")
            db.run(f"ALTER ROLE aside_{role} RENAME TO {role}")


class TestPrivileges:
    """Least privilege, by role."""

    def test_the_writer_does_what_it_must(self, any_database: str) -> None:
        """All that a batch needs."""
        with session(any_database, "audit_writer") as db:
            assert db.value("SELECT version_num FROM audit.alembic_version") == HEAD_REVISION
            for statement in (log_row(), EVENT_ROW, POSITION_ROW, GAP_ROW, quarantine_row()):
                db.run(statement)
            db.run("UPDATE audit.consumer_position SET next_offset = next_offset + 1, written = written + 1")
            assert db.run("SELECT next_offset FROM audit.consumer_position FOR UPDATE") == [(6,)]
            assert db.value("SELECT count(*) FROM audit.event") == 1
            assert db.value("SELECT months_ahead FROM audit.log_state()") == 2
            assert db.value("SELECT audit.tell_retention('worker', '400 days')") == 1

    @pytest.mark.parametrize(
        "statement",
        [
            *(f"{verb} audit.{table}" for table in sorted(TABLES) for verb in ("DELETE FROM", "TRUNCATE", "DROP TABLE")),
            "UPDATE audit.audit_log SET tenant = 'x'",
            "UPDATE audit.event SET content_hash = ''",
            "UPDATE audit.quarantine SET status = 'discarded'",
            "UPDATE audit.source_gap SET next_offset = 9",
            "SELECT * FROM audit.quarantine_history",
            HISTORY_ROW,
            "UPDATE audit.alembic_version SET version_num = 'x'",
            f"DELETE FROM {PARTITION}",
            f"TRUNCATE {PARTITION}",
            f"ALTER TABLE audit.audit_log DETACH PARTITION {PARTITION}",
            "ALTER TABLE audit.audit_log DISABLE TRIGGER ALL",
            "CREATE TABLE audit.mine (id int)",
            "SELECT audit.refuse_change()",
            "SELECT * FROM audit.operation_history",
            "SELECT audit.export_began('sato', '{}')",
            "SELECT audit.add_hold('sato', 'why', 'acme', NULL, NULL)",
            "SELECT audit.set_position('t', 'id', 0, NULL, 5, 'sato', 'why', 'by hand')",
            "UPDATE audit.consumer_position SET reread = 1, written = written + 1",
            "UPDATE audit.consumer_position SET first_offset = first_offset + 1, next_offset = next_offset + 1",
        ],
    )
    def test_the_writer_does_nothing_else(self, any_database: str, statement: str) -> None:
        """What is written it can neither change nor remove."""
        with session(any_database, "audit_writer") as db, pytest.raises((errors.InsufficientPrivilege, errors.FeatureNotSupported)):
            db.run(statement)

    def test_the_reader_reads_and_no_more(self, any_database: str) -> None:
        """Every table and every partition, the late ones too; nothing written, no month made."""
        with session(any_database, "audit_writer") as db:
            db.run("SELECT audit.ensure_month('2021-08-01')")
        with session(any_database, "audit_reader") as db:
            for table in (*TABLES, "alembic_version", PARTITION.removeprefix("audit."), "audit_log_2021_08"):
                db.run(f"SELECT * FROM audit.{table}")
            for statement in (
                log_row(), EVENT_ROW, POSITION_ROW, GAP_ROW, quarantine_row(), HISTORY_ROW, "DELETE FROM audit.event",
                "SELECT audit.ensure_month(current_date)", "SELECT audit.log_state()", "UPDATE audit.quarantine SET status = 'retried'",
            ):  # fmt: skip
                with pytest.raises(errors.InsufficientPrivilege):
                    db.run(statement)

    def test_the_operator_settles_the_quarantine(self, any_database: str) -> None:
        """Reads, adds rows as the worker does, and changes the state of a quarantined message but not its bytes; no position."""
        with session(any_database, "audit_writer") as db:
            db.run(POSITION_ROW)
        with session(any_database, "audit_operator") as db:
            for statement in (log_row(), EVENT_ROW, quarantine_row()):
                db.run(statement)
            for table in (*TABLES, PARTITION.removeprefix("audit.")):
                db.run(f"SELECT * FROM audit.{table}")
            db.run("UPDATE audit.quarantine SET status = 'discarded', resolved_at = now(), resolved_by = current_user")
            for statement in (
                "UPDATE audit.quarantine SET value = ''", "DELETE FROM audit.quarantine", "DELETE FROM audit.event",
                "DELETE FROM audit.audit_log", "DELETE FROM audit.consumer_position", POSITION_ROW.replace("'id'", "'other'"), GAP_ROW,
                "UPDATE audit.consumer_position SET next_offset = next_offset + 1, skipped = skipped + 1",
            ):  # fmt: skip
                with pytest.raises(errors.InsufficientPrivilege):
                    db.run(statement)

    def test_a_stranger_sees_nothing(self, any_postgres: PostgresServer, any_database: str) -> None:
        """PUBLIC has no rights at all."""
        stranger = new_role(any_postgres, "")
        with session(any_database, stranger) as db:
            for statement in ("SELECT * FROM audit.audit_log", "SELECT audit.ensure_month(current_date)"):
                with pytest.raises(errors.InsufficientPrivilege):
                    db.run(statement)

    @pytest.mark.usefixtures("fresh_roles")
    def test_an_owner_of_the_database_who_may_create_roles_migrates(self, any_postgres: PostgresServer) -> None:
        """No superuser is needed on a cluster that has never heard of us, and none where a second database follows."""
        deployer = new_role(any_postgres, "CREATEROLE")
        for _ in range(2):
            url = owned_database(any_postgres, deployer)
            assert migrate(url) == (None, HEAD_REVISION)
            with session(url) as db:
                assert db.value("SELECT current_setting('is_superuser')") == "off"
                owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'audit'::regnamespace"
                assert db.run(owners) == [("audit_owner",)]

    def test_a_member_of_the_owner_migrates(self, any_postgres: PostgresServer) -> None:
        """Where an administrator has made the roles, membership is enough."""
        any_postgres.new_database()  # the roles are there
        member = new_role(any_postgres, "")
        with session(any_postgres.url()) as db:
            db.run(f"GRANT audit_owner TO {member}")
        assert migrate(owned_database(any_postgres, member)) == (None, HEAD_REVISION)

    def test_who_may_not_become_the_owner_is_told_the_remedy(self, any_postgres: PostgresServer) -> None:
        """Not a bare `permission denied`; and nothing is left behind."""
        any_postgres.new_database()  # the roles are there
        url = owned_database(any_postgres, new_role(any_postgres, ""))
        with pytest.raises(ConfigurationError, match="let an administrator run: GRANT audit_owner TO"):
            migrate(url)
        with psycopg.connect(url) as connection:
            assert current_revision(connection) is None


def new_role(server: PostgresServer, attributes: str) -> str:
    """A role that may log in, with the attributes."""
    name = f"role_{uuid.uuid4().hex[:8]}"
    with session(server.url()) as db:
        db.run(f"CREATE ROLE {name} LOGIN {attributes}")
    return name


def owned_database(server: PostgresServer, owner: str) -> str:
    """An empty database that the role owns; its URL for that role."""
    url = server.new_database(migrated=False)
    name = url.rsplit("/", 1)[1]
    with session(server.url()) as db:
        db.run(f"ALTER DATABASE {name} OWNER TO {owner}")
    return server.url(name, owner)
