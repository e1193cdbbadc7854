"""As each role, everything that PostgreSQL has against a table, on every table: only what the role needs is done."""

import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, LiteralString, cast

import psycopg
import pytest
from psycopg import errors

from tests.bed.postgres import PostgresServer
from tests.integration.test_migrations import EVENT_ROW, GAP_ROW, POSITION_ROW, log_row, new_role, quarantine_row

ROLES = ("audit_writer", "audit_reader", "audit_operator", "audit_retention")

ALLOWED: dict[str, dict[str, set[str]]] = {
    "audit_writer": {
        "alembic_version": {"SELECT"},
        "audit_log": {"INSERT"},
        "event": {"SELECT", "INSERT"},
        "consumer_position": {"SELECT", "INSERT", "UPDATE"},
        "quarantine": {"INSERT"},
        "source_gap": {"INSERT"},
    },
    "audit_reader": {
        name: {"SELECT"}
        for name in (
            "alembic_version",
            "audit_log",
            "event",
            "consumer_position",
            "quarantine",
            "quarantine_history",
            "source_gap",
            "operation_history",
            "retention_month",
            "retention_history",
            "MONTH",
        )
    },
    "audit_operator": {
        "alembic_version": {"SELECT"},
        "audit_log": {"SELECT", "INSERT"},
        "event": {"SELECT", "INSERT"},
        "consumer_position": {"SELECT"},
        "quarantine": {"SELECT", "INSERT", "UPDATE"},
        "quarantine_history": {"SELECT", "INSERT"},
        "source_gap": {"SELECT"},
        "operation_history": {"SELECT"},
        "retention_month": {"SELECT"},
        "retention_history": {"SELECT"},
        "MONTH": {"SELECT"},
    },
    "audit_retention": {
        name: {"SELECT"} for name in ("alembic_version", "audit_log", "operation_history", "retention_month", "retention_history")
    },
}
"""A second time, on purpose: what the migrations grant. `MONTH` stands for each month of the log."""

COLUMNS = {
    "quarantine": {"status", "resolved_at", "resolved_by"},
    "consumer_position": {
        "next_offset", "written", "duplicates", "quarantined", "tombstones", "skipped", "expired", "updated_at",
    },
}  # fmt: skip
"""Of these only, where a role may change a row: how a message was settled, and how far a partition is, but not where it begins."""

TRIES = {
    "SELECT": ("SELECT * FROM {table}", "COPY {table} TO STDOUT", "SELECT count(*) FROM {table}", "SELECT 1 FROM {table} FOR KEY SHARE"),
    "INSERT": ("INSERT INTO {table} DEFAULT VALUES",),
    "UPDATE": ("UPDATE {table} SET {column} = DEFAULT WHERE false",),
    "DELETE": ("DELETE FROM {table}", "DELETE FROM ONLY {table}"),
    "TRUNCATE": ("TRUNCATE {table} CASCADE", "TRUNCATE {table} RESTART IDENTITY CASCADE"),
    "OWN": (
        "DROP TABLE {table} CASCADE",
        "ALTER TABLE {table} DISABLE TRIGGER ALL",
        "ALTER TABLE {table} ADD COLUMN mine int",
        "ALTER TABLE {table} ALTER COLUMN {column} TYPE text",
        "ALTER TABLE {table} OWNER TO CURRENT_USER",
        "ALTER TABLE {table} RENAME TO mine",
        "ALTER TABLE {table} SET SCHEMA public",
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE {table} SET UNLOGGED",
        "CREATE INDEX mine ON {table} ({column})",
        "CREATE TRIGGER mine BEFORE INSERT ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
        "CREATE POLICY mine ON {table}",
        "CREATE TABLE pg_temp.mine (x int) INHERITS ({table})",
        "DROP TRIGGER append_only ON {table}",
        "COMMENT ON TABLE {table} IS 'mine'",
        "CLUSTER {table}",
    ),
}
"""By the privilege that a statement needs."""

ELSEWHERE = (
    "SET ROLE audit_owner",
    "SET SESSION AUTHORIZATION audit_owner",
    "SET session_replication_role = replica",
    "GRANT audit_owner TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "CREATE ROLE mine",
    "CREATE TABLE audit.mine (x int)",
    "CREATE VIEW audit.mine AS SELECT 1",
    "CREATE FUNCTION audit.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "ALTER FUNCTION audit.ensure_month(date) SECURITY INVOKER",
    "DROP FUNCTION audit.ensure_month(date)",
    "SELECT audit.refuse_change()",
    "SELECT audit.guard_quarantined()",
    "CREATE TABLE public.mine (x int)",
    "CREATE SCHEMA mine",
    "ALTER SCHEMA audit RENAME TO mine",
    "DROP SCHEMA audit CASCADE",
    "DROP OWNED BY audit_owner",
    "ALTER SYSTEM SET session_replication_role = replica",
    "CREATE EXTENSION file_fdw",
    "CREATE LANGUAGE plperlu",
    "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION audit.refuse_change()",
    "CREATE PUBLICATION mine FOR ALL TABLES",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_reload_conf()",
    "SELECT pg_promote()",
    "COPY (SELECT 1) TO '/tmp/mine'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY audit.event FROM PROGRAM 'true'",
    "DO LANGUAGE plpgsql $$ BEGIN EXECUTE 'ALTER TABLE audit.audit_log DISABLE TRIGGER append_only'; END $$",
)
"""For no role at all."""

_IN_VAIN = (errors.InsufficientPrivilege, errors.FeatureNotSupported, errors.UndefinedObject, errors.UndefinedFile, errors.WrongObjectType)
"""What nobody may is also refused because of what the object is, or where a thing is not installed."""


@pytest.fixture(scope="module")
def filled(postgres: PostgresServer) -> tuple[PostgresServer, str]:
    """A database with a row everywhere."""
    url = postgres.new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (log_row(), EVENT_ROW, POSITION_ROW, GAP_ROW, quarantine_row()):
            _run(connection, statement)
    return postgres, url


@pytest.fixture(params=ROLES)
def member(request: pytest.FixtureRequest, filled: tuple[PostgresServer, str]) -> Iterator[tuple[str, "psycopg.Connection[Any]"]]:
    """The role, and a connection of somebody who was granted it."""
    server, url = filled
    name = new_role(server, "")
    with psycopg.connect(server.url(), autocommit=True) as admin:
        _run(admin, f"GRANT {request.param} TO {name}")
    with psycopg.connect(url.replace("postgres@", f"{name}@"), autocommit=True) as connection:
        yield request.param, connection


def test_every_statement_on_every_table(member: tuple[str, "psycopg.Connection[Any]"]) -> None:
    """What a role does not need is refused for want of a right, and nothing else."""
    role, connection = member
    wrong = []
    tables = _run(
        connection, "SELECT relname FROM pg_class WHERE relnamespace = 'audit'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1"
    )
    assert len(tables) >= 11
    for (table,) in tables:
        allowed = ALLOWED[role].get(re.sub(r"audit_log_\d{4}_\d\d", "MONTH", table), set())
        for privilege, statements in TRIES.items():
            for column in _columns(connection, table) if privilege == "UPDATE" else _columns(connection, table)[:1]:
                may = privilege in allowed and (privilege != "UPDATE" or column in COLUMNS.get(table, {column}))
                for statement in statements:
                    text = statement.format(table=f"audit.{table}", column=column)
                    needed = {privilege, "UPDATE"} if "FOR KEY SHARE" in text else {privilege}
                    if _is_refused(connection, text, nobody_may=privilege == "OWN") == (may and needed <= allowed):
                        wrong.append(text)
    assert not wrong


TOLD_BY_THE_SERVER = (
    "INSERT INTO audit.audit_log (recorded_at) VALUES (now() - interval '2 days')",
    "INSERT INTO audit.quarantine (status) VALUES ('discarded')",
    "INSERT INTO audit.quarantine (resolved_at) VALUES (now())",
    "INSERT INTO audit.quarantine (resolved_by) VALUES ('suzuki')",
    "INSERT INTO audit.quarantine (quarantined_at) VALUES (now())",
    "INSERT INTO audit.source_gap (seen_at) VALUES (now())",
)


def test_nobody_says_when_a_row_came_or_how_it_was_settled(member: tuple[str, "psycopg.Connection[Any]"]) -> None:
    """Whoever may insert brings the content; time and status are PostgreSQL's own."""
    _, connection = member
    assert not [statement for statement in TOLD_BY_THE_SERVER if not _is_refused(connection, statement)]


def test_nothing_else(member: tuple[str, "psycopg.Connection[Any]"]) -> None:
    """Neither another role's rights, nor an object, nor a file of the server."""
    _, connection = member
    assert not [statement for statement in ELSEWHERE if not _is_refused(connection, statement, nobody_may=True)]


def test_nobody_can_give_rights_away(member: tuple[str, "psycopg.Connection[Any]"]) -> None:
    """PostgreSQL only warns of such a GRANT, so what came of it is looked at."""
    _, connection = member
    for statement in ("GRANT ALL ON ALL TABLES IN SCHEMA audit TO PUBLIC", "GRANT ALL ON FUNCTION audit.ensure_month(date) TO PUBLIC"):
        _is_refused(connection, statement)
    assert _run(connection, "SELECT count(*) FROM pg_class WHERE relnamespace = 'audit'::regnamespace AND relacl::text ~ '[{,]='") == [(0,)]


def test_every_function_that_runs_as_the_owner_has_its_own_search_path(filled: tuple[PostgresServer, str]) -> None:
    """Else whoever calls it chooses what its names mean."""
    with psycopg.connect(filled[1]) as connection:
        question = "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'audit'::regnamespace AND prosecdef"
        functions = dict(_run(connection, question))
    assert len(functions) > 5
    assert [name for name, config in functions.items() if "search_path=pg_catalog, pg_temp" not in (config or [])] == []


def test_the_function_that_runs_as_the_owner_is_not_deceived(filled: tuple[PostgresServer, str]) -> None:
    """Neither by a search path, nor by temporary objects with the names that it uses, nor by a text for a date."""
    server, url = filled
    name = new_role(server, "")
    with psycopg.connect(server.url(), autocommit=True) as admin:
        _run(admin, f"GRANT audit_writer TO {name}")
    with psycopg.connect(url, autocommit=True) as admin:  # such as `public`, on a server that came from before PostgreSQL 15
        _run(admin, f"CREATE SCHEMA lent AUTHORIZATION {name}")
        _run(admin, "GRANT USAGE ON SCHEMA lent TO PUBLIC")
    with psycopg.connect(url.replace("postgres@", f"{name}@"), autocommit=True) as connection:
        _run(connection, "CREATE TEMP TABLE audit_log (LIKE audit.event)")
        _run(connection, "CREATE TEMP TABLE pg_inherits (inhrelid oid, inhparent oid)")
        for function, kind in (("date_trunc(text, timestamp)", "timestamp"), ("to_regclass(text)", "regclass")):
            body = f"'SELECT NULL::{kind}'"
            _run(connection, f"CREATE FUNCTION lent.{function} RETURNS {kind} LANGUAGE sql AS {body}")
        _run(
            connection,
            "SET search_path = lent, pg_temp, audit, public, pg_catalog; SET timezone = 'Pacific/Kiritimati'; SET DateStyle = 'German'",
        )
        assert _run(connection, "SELECT audit.ensure_month('2019-05-17')") == [(True,)]
        for value in ("'2019-05-17''; DROP TABLE audit.event; --'", "'infinity'", "'0001-01-01'", "NULL", "'2999-01-01'"):
            with pytest.raises((errors.InvalidParameterValue, errors.InvalidDatetimeFormat)):
                _run(connection, f"SELECT audit.ensure_month({value})")
    with psycopg.connect(url) as connection:
        _run(connection, "DROP SCHEMA lent CASCADE")
        question = (
            "SELECT pg_get_userbyid(relowner), relnamespace::regnamespace::text, pg_get_expr(relpartbound, oid) FROM"
            " (SELECT set_config('TimeZone', 'UTC', false)) AS zone, pg_class WHERE relname = 'audit_log_2019_05'"
        )
        assert _run(connection, question) == [
            ("audit_owner", "audit", "FOR VALUES FROM ('2019-05-01 00:00:00+00') TO ('2019-06-01 00:00:00+00')")
        ]
        guarded = "SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = 'audit.audit_log_2019_05'::regclass AND tgname = 'append_only'"
        assert _run(connection, guarded) == [("A",)]


def _run(connection: "psycopg.Connection[Any]", statement: str) -> list[tuple[Any, ...]]:
    cursor = connection.execute(cast("LiteralString", statement))
    return cursor.fetchall() if cursor.description else []


def _columns(connection: "psycopg.Connection[Any]", table: str) -> list[str]:
    question = f"SELECT attname FROM pg_attribute WHERE attrelid = 'audit.{table}'::regclass AND attnum > 0 ORDER BY attnum"
    return [name for (name,) in _run(connection, question)]


def _is_refused(connection: "psycopg.Connection[Any]", statement: str, *, nobody_may: bool = False) -> bool:
    """Whether it lacks the right; what was done is undone."""
    # The one statement that no transaction may hold.
    undone = nullcontext() if statement.startswith("ALTER SYSTEM") else connection.transaction(force_rollback=True)
    try:
        with undone:
            if statement.endswith("STDOUT"):
                with connection.cursor().copy(cast("LiteralString", statement)) as rows:
                    list(rows)
            else:
                _run(connection, statement)
    except _IN_VAIN as error:
        return nobody_may or isinstance(error, errors.InsufficientPrivilege)
    except psycopg.Error:
        return False  # the right was there: a constraint, or the like, said no
    return False
