"""The log as an auditor reads it: real PostgreSQL, the command as a process, a role with audit_reader and nothing else."""

import csv
import io
import json
import os
import pty
import random
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from datetime import timedelta

import psutil
import psycopg
import pytest

from consumer.core import following
from consumer.core.pause import Backoff
from consumer.core.reading_out import HEADINGS
from consumer.operations import log as operation
from consumer.operations.log import Follower, newest
from consumer.postgres.connection import connect
from consumer.postgres.log import Filters, LogReader, newest_query
from tests.bed.events import message_value
from tests.bed.log import NOW, Library, command_without_database, moment
from tests.bed.postgres import PostgresServer
from tests.bed.worker import wait_until

pytestmark = pytest.mark.postgres

CLIENT = {"type": "OAuthClientAdded", "client_name": "=Reporting\x1b[31m\t100%", "client_id": "c-1"}
GRANT = {
    "type": "IntegrationAuthorized", "target": {"type": "ExternalService", "name": "Box", "id": "s-1"},
    "scopes": ["k:file:write", "k:app_record:read"],
}  # fmt: skip


@pytest.fixture
def library(any_database: str) -> Library:
    """On either major."""
    return Library(any_database)


@pytest.fixture
def library18(database: str) -> Library:
    """On the newest major."""
    return Library(database)


@pytest.fixture(scope="module", params=["oldest_postgres", "postgres"])
def stocked(request: pytest.FixtureRequest) -> Library:
    """Five events of different kinds, an hour apart, `a` the oldest; only read, so one for all."""
    library = Library(request.getfixturevalue(request.param).new_database())
    library.write(
        [
            message_value(CLIENT, occurred_at=moment(timedelta(hours=5)), tenant="a"),
            message_value(GRANT, occurred_at=moment(timedelta(hours=4)), tenant="b", actor="suzuki"),
            message_value(occurred_at=moment(timedelta(hours=3)), tenant="c", actor=None),
            message_value(GRANT, occurred_at=moment(timedelta(hours=2)), tenant="d", result="FAILED", error_code="CB_NO02"),
            message_value(CLIENT, occurred_at=moment(timedelta(hours=1)), tenant="e", result="VALIDATION_ERROR", actor="suzuki"),
        ]
    )
    return library


def reader(library: Library) -> "closing[LogReader]":
    """The way into the log, as a reader."""
    url = library.as_role("audit_reader")
    return closing(LogReader(lambda: connect(url)))


@pytest.mark.parametrize(
    ("arguments", "tenants"),
    [
        ((), "edcba"),
        (("--limit", "2"), "ed"),
        (("--level", "information"), "db"),
        (("--user", "sato"), "da"),
        (("--user", "sato", "--user", "nobody"), "dca"),
        (("--service", "Common", "--module", "Integrations"), "db"),
        (("--action", "authorize integration", "--action", "update slack setting"), "dcb"),
        (("--result", "validation error"), "e"),
        (("--error-code", "CB_NO02"), "d"),
        (("--tenant", "a", "--tenant", "b", "--tenant", "nobody's"), "ba"),
        (("--word", "bOx"), "db"),
        (("--word", "app_record", "--word", "write", "--user", "suzuki"), "b"),
        (("--word", "client_name"), ""),  # a key is no word of the Complement
        (("--word", "100%"), "ea"),
        (("--word", "10_%"), ""),
        (("--since", moment(timedelta(hours=3)), "--until", moment(timedelta(hours=1))), "dc"),
        (("--last", "150 min"), "ed"),
        (("--since", f"{NOW - timedelta(hours=3) + timedelta(hours=9):%Y-%m-%dT%H:%M:%S.%f}", "--time-zone", "Asia/Tokyo"), "edc"),
    ],
)
def test_filters(stocked: Library, arguments: tuple[str, ...], tenants: str) -> None:
    """Each filter, combined by and; of one the values by or; newest first."""
    done = stocked.command("log", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    assert "".join(json.loads(line)["tenant"] for line in done.stdout.splitlines()) == tenants


def test_json_holds_every_column(stocked: Library) -> None:
    """And the Complement in the documented order."""
    (line,) = stocked.command("log", "--json", "--tenant", "b", "--time-zone", "Asia/Tokyo").stdout.splitlines()
    found = json.loads(line)
    ((event_id, content_hash),) = stocked.query("SELECT event_id::text, content_hash FROM audit.audit_log WHERE tenant = 'b'")
    local = NOW - timedelta(hours=4) + timedelta(hours=9)
    assert found.pop("recorded_at").endswith("+09:00")
    assert found == {
        "event_id": event_id, "occurred_at": f"{local:%Y-%m-%dT%H:%M:%S.%f}+09:00", "tenant": "b", "level": "Information",
        "service": "Common", "login_name": "suzuki", "module": "Integrations", "action": "authorize integration", "result": "SUCCESS",
        "error_code": None, "complement": {"name": "Box", "id": "s-1", "scopes": ["k:file:write", "k:app_record:read"]},
        "subject_type": "external service", "source_ip": "192.0.2.7", "kafka_topic": "integration-changes", "kafka_partition": 0,
        "kafka_offset": 1, "content_hash": content_hash.hex(),
    }  # fmt: skip
    assert '"complement": {"name": "Box", "id": "s-1", "scopes": [' in line


def test_into_a_pipe_one_record_a_line(stocked: Library) -> None:
    """Tab separated, without what would break a line or steer a terminal."""
    lines = stocked.command("log").stdout.splitlines()
    assert lines[0].split("\t") == list(HEADINGS)
    assert [len(line.split("\t")) for line in lines] == [12] * 6
    assert lines[5].split("\t")[9] == "=Reporting [31m 100% (id: c-1)"


def test_csv_is_safe_for_spreadsheets(stocked: Library) -> None:
    """What an event says comes back whole, behind an apostrophe where it would be a formula."""
    rows = list(csv.DictReader(io.StringIO(stocked.command("log", "--csv", "--tenant", "a").stdout, newline="")))
    assert [row["Complement"] for row in rows] == ["'=Reporting\x1b[31m\t100% (id: c-1)"]


@pytest.mark.parametrize("style", [(), ("--json",), ("--csv",)])
def test_no_event_steers_a_terminal(stocked: Library, style: tuple[str, ...]) -> None:
    """In any form, where stdout is one."""
    end, terminal = pty.openpty()
    environment = stocked.environment() | {"TERM": "xterm", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "consumer", "log", "--tenant", "a", *style],
        env=environment, stdout=terminal, stdin=subprocess.DEVNULL, timeout=60, check=True,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    with suppress(OSError), os.fdopen(end, "rb", buffering=0) as screen:
        while piece := screen.read(65536):
            shown += piece
    assert done.returncode == 0
    assert b"Reporting" in shown
    assert b"\x1b[31m" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--last", "2h", "--since", "2026-11-23"), "not both"),
        (("--since", "2026-11-23", "--until", "2026-11-23"), "--since must be before --until"),
        (("--time-zone", "Mars"), "no time zone"),
        (("--until", "2026-10-25T02:30", "--time-zone", "Europe/Berlin"), "is twice"),
        (("--follow", "--until", "2026-11-23"), "contradict"),
        (("--follow", "--all"), "--all goes with"),
        (("--json", "--csv"), "not both"),
        (("--word", "\n"), "one line of text"),
        (("--action", "drop table"), "not one of"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    """Code 2 and the reason, before any database is asked."""
    done = command_without_database("log", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_it_says_when_there_is_more(stocked: Library) -> None:
    """And only then."""
    assert "there are more" in stocked.command("log", "--limit", "4").stderr
    assert stocked.command("log", "--limit", "5").stderr == ""


def test_pages_neither_repeat_nor_miss(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where many events have one time, and where a topic made anew gives places a second time."""
    times = [moment(timedelta(hours=1)), moment(timedelta(hours=2))]
    library.write([message_value(occurred_at=times[number % 2], tenant=str(number)) for number in range(23)])
    with psycopg.connect(library.url) as connection:
        columns = "occurred_at, tenant, level, service, login_name, module, action, result, complement, subject_type, kafka_topic"
        columns += ", kafka_partition, kafka_offset, content_hash"
        connection.execute(f"INSERT INTO audit.audit_log (event_id, {columns}) SELECT gen_random_uuid(), {columns} FROM audit.audit_log")  # type: ignore[call-overload]
    monkeypatch.setattr(operation, "PAGE", 5)
    with reader(library) as log:
        found = [record.event_id for record in newest(log, Filters(), None)]
        offsets = [record.kafka_offset for record in newest(log, Filters(), 31)]
    assert len(found) == len(set(found)) == 46
    assert offsets == sorted([*range(0, 23, 2)] * 2) + sorted([*range(1, 23, 2)] * 2)[:7]


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (Filters(), "pkey"),
        (Filters(tenant=("a",)), "tenant_occurred_at_idx"),
        (Filters(login_name=("nix",)), "login_name_occurred_at_idx"),
        (Filters(action=("delete oauth client",)), "action_occurred_at_idx"),
    ],
)
def test_the_indexes_give_the_order(library: Library, filters: Filters, index: str) -> None:
    """The newest rows come out of the index that is there for the filter; nothing is read and sorted whole."""
    for tenant in ("a", "b", "c"):
        library.events(1500, tenant=tenant, actor=tenant)
    with psycopg.connect(library.url, autocommit=True) as owner:
        owner.execute("ANALYZE audit.audit_log")
    query, parameters = newest_query(filters, None, 10)
    with library.connect() as connection:
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {query}", parameters).fetchall())
    month = f"audit_log_{NOW - timedelta(hours=1):%Y_%m}"
    assert f"using {month}_{index}" in plan
    assert f"Seq Scan on {month}" not in plan
    assert "Presorted Key: audit_log" in plan or not filters.tenant  # of nearly no rows the whole may be sorted


def test_memory_stays_where_it_was(library18: Library) -> None:
    """Tens of thousands of rows leave the process as big as ten of them do."""
    library18.events(20_000)

    def most(*arguments: str) -> tuple[int, int]:
        process = subprocess.Popen(
            [sys.executable, "-m", "consumer", "log", *arguments], env=library18.environment(), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        lines = peak = 0
        for lines, _ in enumerate(process.stdout, start=1):
            if lines % 1000 == 2:
                peak = max(peak, psutil.Process(process.pid).memory_info().rss)
        assert process.wait(60) == 0
        return lines, peak

    few, small = most("--limit", "1002")
    many, big = most("--all")
    assert (few, many) == (1003, 20_001)
    assert big - small < 8 * 1024 * 1024


# ---------------------------------------------------------------- live


class Ear:
    """Follows the log in this process, poll by poll."""

    def __init__(self, log: LogReader, filters: Filters | None = None) -> None:
        self.said: list[str] = []
        self.follower = Follower(log, filters or Filters(), wait=time.sleep, say=self.said.append, backoff=Backoff(random.random))

    def begin(self, limit: int = 100) -> list[str]:
        """The tenants of what was there."""
        return [record.tenant for record in self.follower.begin(limit)]

    def poll(self) -> list[str]:
        """The tenants of what has appeared since."""
        return [record.tenant for record in self.follower.poll()]


ROW = """
INSERT INTO audit.audit_log (event_id, occurred_at, tenant, level, service, login_name, module, action, result, complement, subject_type,
                             kafka_topic, kafka_partition, kafka_offset, content_hash)
VALUES (gen_random_uuid(), now() - interval '1 day', %s, 'Notice', 'Common', 'sato', 'System administration', 'update slack setting',
        'SUCCESS', '{"status": "Enable"}', 'Slack', 't', 0, 0, '')"""


def test_what_commits_late_is_neither_missed_nor_shown_twice(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row recorded first whose transaction commits last, with others committed and polled in between."""
    monkeypatch.setattr(following, "OVERLAP", timedelta(0))  # which would hide a cursor that forgets the slow transaction
    with reader(library) as log, psycopg.connect(library.url) as slow, psycopg.connect(library.url, autocommit=True) as fast:
        fast.execute(ROW, ("before",))
        ear = Ear(log)
        assert ear.begin() == ["before"]
        slow.execute(ROW, ("late",))
        for number in range(3):
            fast.execute(ROW, (f"quick {number}",))
            assert ear.poll() == [f"quick {number}"]
        slow.commit()
        assert ear.poll() == ["late"]
        assert ear.poll() == []


def test_who_was_writing_when_it_began_is_waited_for(library18: Library) -> None:
    """So that nobody's row is lost between what was there and what comes."""
    with reader(library18) as log, psycopg.connect(library18.url) as slow:
        slow.execute(ROW, ("late",))
        ear = Ear(log)
        found: list[list[str]] = []
        thread = threading.Thread(target=lambda: found.append(ear.begin()))
        thread.start()
        with psycopg.connect(library18.url, autocommit=True) as fast:
            fast.execute(ROW, ("quick",))
        thread.join(0.5)
        assert not found
        slow.commit()
        thread.join(30)
        assert sorted(found[0]) == ["late", "quick"]
        assert ear.poll() == []


def test_many_writers_in_any_order(library18: Library) -> None:
    """Eight transactions at a time, each open for its own time, some rolled back, some with savepoints: every row once."""
    committed: list[str] = []
    lock = threading.Lock()

    def write(seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311 - drawn from a seed, to be drawn again
        with psycopg.connect(library18.url, autocommit=True) as connection:
            for number in range(12):
                tenants = [f"{seed}-{number}-{row}" for row in range(dice.randint(1, 4))]
                with suppress(psycopg.Rollback), connection.transaction():
                    for tenant in tenants:
                        with connection.transaction():
                            connection.execute(ROW, (tenant,))
                        time.sleep(dice.random() * 0.02)
                    if dice.random() < 0.2:
                        raise psycopg.Rollback
                    with lock:
                        committed.extend(tenants)

    with reader(library18) as log:
        ear = Ear(log)
        found = ear.begin()
        threads = [threading.Thread(target=write, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            found += ear.poll()
        found += ear.poll()
    rows = [tenant for (tenant,) in library18.query("SELECT tenant FROM audit.audit_log")]
    assert sorted(found) == sorted(rows) == sorted(committed)
    assert len(found) > 100


def test_filters_hold_while_following(library18: Library) -> None:
    """And the newest rows come first as asked, the oldest of them on top."""
    with reader(library18) as log:
        for hours, tenant in ((9, "a"), (8, "b"), (7, "c"), (6, "d")):
            library18.events(1, tenant=tenant, actor="suzuki" if tenant == "c" else "sato", ago=timedelta(hours=hours))
        ear = Ear(log, Filters(login_name=("sato",)))
        assert ear.begin(2) == ["b", "d"]
        library18.events(1, tenant="e")
        library18.events(1, tenant="f", actor="suzuki")
        assert ear.poll() == ["e"]


def test_it_follows_over_a_restart_of_the_database(library18: Library, postgres: PostgresServer) -> None:
    """As a process: what was written before, around and after a crash of the server, each once."""
    with subprocess.Popen(
        [sys.executable, "-m", "consumer", "log", "--follow", "--json"],
        env=library18.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        lines: list[str] = []
        ear = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
        try:
            sent = library18.events(3)
            ear.start()
            wait_until(lambda: process.stdout and len(lines) == 3, "the first rows")
            sent += library18.events(5)
            postgres.restart("immediate")
            library18.store.close()
            sent += library18.events(4)
            wait_until(lambda: len(lines) >= len(sent), "all rows")
            sent += library18.events(1)
            wait_until(lambda: len(lines) >= len(sent), "the last row")
        finally:
            process.terminate()
            said = process.stderr.read() if process.stderr else ""
        ear.join(30)
    assert sorted(json.loads(line)["event_id"] for line in lines) == sorted(sent)
    assert "trying again" in said
    assert "the database answers again" in said
    assert "Traceback" not in said
