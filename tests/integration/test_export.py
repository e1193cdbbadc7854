"""Exports: real PostgreSQL, a role with audit_reader and nothing else; what is in the files, and what the history says."""

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

from consumer.core.errors import TransientError
from consumer.postgres import exporting
from tests.bed.events import message_value
from tests.bed.log import Library, moment
from tests.bed.worker import wait_until

pytestmark = pytest.mark.postgres

CLIENT = {"type": "OAuthClientAdded", "client_name": '@SUM(1), "営業"', "client_id": "c-1"}


@pytest.fixture
def library(any_database: str) -> Library:
    """On either major."""
    return Library(any_database)


@pytest.fixture
def library18(database: str) -> Library:
    """On the newest major."""
    return Library(database)


def history(library: Library) -> list[tuple[Any, ...]]:
    """Who did what."""
    return library.query("SELECT action, who, belongs_to, detail, database_role FROM audit.operation_history ORDER BY id")


def exported(library: Library, *arguments: str, code: int = 0, **settings: str) -> str:
    """Runs the command; what it said on stderr."""
    done = library.command("export", *arguments, **settings)
    assert done.returncode == code, done.stderr
    return done.stderr


def rows_in(path: Path) -> list[dict[str, str]]:
    """A CSV's rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_of_so_many_rows_oldest_first(library: Library, tmp_path: Path) -> None:
    """Every row once, headings in each file, and checksums that hold."""
    ids = library.events(25)
    exported(library, "--output", str(tmp_path / "new" / "out"), "--rows-per-file", "10", "--tenant", "acme", "--by", "suzuki")
    out = tmp_path / "new" / "out"
    names = ["audit-log-001.csv", "audit-log-002.csv", "audit-log-003.csv"]
    assert sorted(path.name for path in out.iterdir()) == [*names, "audit-log.sha256"]
    found = [rows_in(out / name) for name in names]
    assert [len(rows) for rows in found] == [10, 10, 5]
    assert [row["Event ID"] for rows in found for row in rows] == ids
    for line in (out / "audit-log.sha256").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert all(path.stat().st_mode & 0o077 == 0 for path in out.iterdir())


def test_the_history_tells_who_when_what_and_how_many(library: Library, tmp_path: Path) -> None:
    """The role as PostgreSQL knows it; the filters; how it ended."""
    library.events(3)
    exported(library, "--output", str(tmp_path), "--user", "sato", "--since", "2020-01-01", "--time-zone", "Asia/Tokyo", "--by", "suzuki")
    (began, ended) = history(library)
    reader = library.as_role("audit_reader").split("//")[1].split("@")[0]
    assert began[:3] == ("export began", "suzuki", None)
    assert began[3]["filters"] == {"since": "2020-01-01T00:00:00+09:00", "login_name": ["sato"]}
    assert (began[3]["format"], began[3]["time_zone"], began[3]["output"]) == ("csv", "Asia/Tokyo", str(tmp_path))
    assert ended[:3] == ("export completed", "suzuki", 1)
    manifest = hashlib.sha256((tmp_path / "audit-log.sha256").read_bytes()).hexdigest()
    assert ended[3] == {"rows": 3, "files": 1, "manifest": manifest}
    assert {began[4], ended[4]} == {reader}


def test_no_entry_no_export(library: Library, tmp_path: Path) -> None:
    """Who can't write the entry gets no row, whatever else is granted."""
    library.events(3)
    with psycopg.connect(library.url, autocommit=True) as owner:
        owner.execute("REVOKE EXECUTE ON FUNCTION audit.export_began(text, jsonb) FROM audit_reader")
    assert "permission denied" in exported(library, "--output", str(tmp_path), code=4)
    assert list(tmp_path.iterdir()) == []
    with psycopg.connect(library.url, autocommit=True) as owner:
        owner.execute("GRANT EXECUTE ON FUNCTION audit.export_began(text, jsonb) TO audit_reader")
        owner.execute("ALTER DATABASE " + library.url.rsplit("/", 1)[1] + " SET default_transaction_read_only = on")  # type: ignore[call-overload]
    assert "read-only" in exported(library, "--output", str(tmp_path), code=4)
    assert list(tmp_path.iterdir()) == []
    assert history(library) == []


def test_a_reader_tells_of_its_own_exports_and_of_nothing_else(library: Library) -> None:
    """No entry of another kind, none into another's export, none twice, none changed."""
    with library.connect() as reader, library.connect("audit_operator") as other:
        ((export,),) = reader.execute("SELECT audit.export_began('sato', '{}')").fetchall()
        with pytest.raises(errors.InsufficientPrivilege):
            other.execute("SELECT audit.export_ended(%s, true, '{}')", (export,))
        with psycopg.connect(library.url, autocommit=True) as owner, pytest.raises(errors.InvalidParameterValue):
            owner.execute("SELECT audit.export_ended(%s, true, '{}')", (export,))
        for statement in (
            "INSERT INTO audit.operation_history (who, action, detail) VALUES ('sato', 'export began', '{}')",
            "SELECT audit.add_hold('sato', 'why', 'acme', NULL, NULL)",
            "SELECT audit.release_hold(1, 'sato', 'why')",
            "DELETE FROM audit.operation_history",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                reader.execute(statement)
        reader.execute("SELECT audit.export_ended(%s, false, '{}')", (export,))
        with pytest.raises(errors.UniqueViolation):
            reader.execute("SELECT audit.export_ended(%s, true, '{}')", (export,))
    for role in ("postgres", "audit_owner"):
        with psycopg.connect(library.url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(f"SET ROLE {role}")  # type: ignore[call-overload]
            for statement in ("UPDATE {} SET who = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"):
                with pytest.raises(errors.InsufficientPrivilege, match="refused"):
                    connection.execute(statement.format("audit.operation_history"))  # type: ignore[call-overload]


def test_an_archive_for_each_month_of_the_zone(library: Library, tmp_path: Path) -> None:
    """An event in the last hour of a month in UTC is one of the next month in Tokyo."""
    for month in (3, 4):
        with psycopg.connect(library.url, autocommit=True) as owner:
            owner.execute("SELECT audit.ensure_month(%s)", (date(2025, month, 1),))
    times = ["2025-03-31T14:59:59.999999Z", "2025-03-31T15:00:00Z", "2025-03-31T16:00:00Z", "2025-04-01T00:00:00Z"]
    library.write([message_value(CLIENT, occurred_at=when) for when in times])
    exported(library, "--output", str(tmp_path), "--zip", "--time-zone", "Asia/Tokyo", "--rows-per-file", "2")
    assert {path.name for path in tmp_path.iterdir()} == {"audit-log-2025-03.zip", "audit-log-2025-04.zip", "audit-log.sha256"}
    with zipfile.ZipFile(tmp_path / "audit-log-2025-04.zip") as archive:
        assert archive.namelist() == ["audit-log-2025-04-001.csv", "audit-log-2025-04-002.csv"]
        rows = list(csv.DictReader(io.StringIO(archive.read("audit-log-2025-04-001.csv").decode(), newline="")))
    assert [row["Date and time"] for row in rows] == ["2025-04-01T00:00:00.000000+09:00", "2025-04-01T01:00:00.000000+09:00"]
    assert rows[0]["Complement"] == '\'@SUM(1), "営業" (id: c-1)'


def test_other_formats(library: Library, tmp_path: Path) -> None:
    """JSON Lines with every column, Parquet with types, a CSV that Excel knows for UTF-8."""
    library.write([message_value(CLIENT, occurred_at=moment(timedelta(hours=1)))])
    exported(library, "--output", str(tmp_path / "a.jsonl"), "--format", "jsonl")
    (found,) = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert found["complement"] == {"client_name": '@SUM(1), "営業"', "client_id": "c-1"}
    assert "営業" in (tmp_path / "a.jsonl").read_text()
    exported(library, "--output", str(tmp_path / "a.csv"), "--bom")
    assert (tmp_path / "a.csv").read_bytes().startswith(b"\xef\xbb\xbfDate and time,")
    parquet = pytest.importorskip("pyarrow.parquet")
    exported(library, "--output", str(tmp_path / "a.parquet"), "--format", "parquet", "--time-zone", "Asia/Tokyo", "--force")
    table = parquet.read_table(tmp_path / "a.parquet")
    ((when,),) = library.query("SELECT occurred_at FROM audit.audit_log")
    assert table.column("occurred_at").to_pylist() == [when]
    assert str(table.schema.field("occurred_at").type) == "timestamp[us, tz=Asia/Tokyo]"
    assert json.loads(table.column("complement")[0].as_py())["client_id"] == "c-1"
    assert table.column("kafka_offset").to_pylist() == [0]


def test_without_its_extra_parquet_says_so(library18: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is begun."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install '.[parquet]'" in exported(library18, "--output", str(tmp_path), "--format", "parquet", code=2)
    assert history(library18) == []


def test_nothing_is_overwritten_unasked(library18: Library, tmp_path: Path) -> None:
    """Neither a file nor the checksums; with --force both."""
    library18.events(2)
    (tmp_path / "audit-log-001.csv").write_text("mine")
    assert "is there already" in exported(library18, "--output", str(tmp_path), code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["audit-log-001.csv"]
    assert (tmp_path / "audit-log-001.csv").read_text() == "mine"
    assert [entry[0] for entry in history(library18)] == ["export began", "export failed"]
    exported(library18, "--output", str(tmp_path), "--force")
    assert len(rows_in(tmp_path / "audit-log-001.csv")) == 2
    assert "is there already" in exported(library18, "--output", str(tmp_path), code=2)


def test_force_takes_the_whole_former_export_away(library18: Library, tmp_path: Path) -> None:
    """A larger one, and one of another format: what is there afterwards is what the checksums name, and what no export made."""
    library18.events(25)
    exported(library18, "--output", str(tmp_path), "--rows-per-file", "3")
    assert len(list(tmp_path.iterdir())) == 10
    exported(library18, "--output", str(tmp_path), "--rows-per-file", "20", "--force")
    assert {path.name for path in tmp_path.iterdir()} == {"audit-log-001.csv", "audit-log-002.csv", "audit-log.sha256"}
    (tmp_path / "audit-log-notes.txt").write_text("mine")
    exported(library18, "--output", str(tmp_path), "--format", "jsonl", "--force")
    assert {path.name for path in tmp_path.iterdir()} == {"audit-log-001.jsonl", "audit-log-notes.txt", "audit-log.sha256"}
    exported(library18, "--output", str(tmp_path), "--zip", "--force")
    archive = f"audit-log-{datetime.fromisoformat(moment(timedelta(hours=1))):%Y-%m}.zip"
    assert {path.name for path in tmp_path.iterdir()} == {archive, "audit-log-notes.txt", "audit-log.sha256"}


def test_no_list_makes_force_remove_what_no_export_made(library18: Library, tmp_path: Path) -> None:
    """Whoever may write into the folder may write the checksums."""
    out = tmp_path / "out"
    out.mkdir()
    others = [tmp_path / "audit-log-001.csv", out / "audit-log-notes.txt", out / "payroll.csv", out / "audit-log-007.csv.bak"]
    for path in others:
        path.write_text("mine")
    names = [*(os.path.relpath(path, out) for path in others), str(others[0]), "../out/payroll.csv", "..", ".", ""]
    (out / "audit-log.sha256").write_bytes("\n".join(f"{'0' * 64}  {name}" for name in names).encode() + b"\n\xff\xfe no list\0\n")
    exported(library18, "--output", str(out), "--force")
    assert [path.read_text() for path in others] == ["mine"] * 4
    assert (out / "audit-log.sha256").read_text().endswith("  audit-log-001.csv\n")


def test_it_is_completed_when_the_checksums_are_in_their_place(library18: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk refuses them at the last moment, the history says that the export failed, and not that it is completed."""
    library18.events(3)
    sync = os.fsync

    def refuses(descriptor: int) -> None:
        if any(tmp_path.glob(".audit-log.sha256.*")):
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuses)
    assert "No space left" in exported(library18, "--output", str(tmp_path), code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["audit-log-001.csv"]
    assert [entry[0] for entry in history(library18)] == ["export began", "export failed"]


def test_where_its_end_can_not_be_told_it_says_so(library18: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are whole; the history has no word of an end, and above all no wrong one."""
    library18.events(3)

    def fails(*_: object, **__: object) -> None:
        raise TransientError("PostgreSQL: the connection is lost")

    monkeypatch.setattr(exporting, "ended", fails)
    assert "the files are whole, but the history could not be told so" in exported(library18, "--output", str(tmp_path), code=4)
    assert {path.name for path in tmp_path.iterdir()} == {"audit-log-001.csv", "audit-log.sha256"}
    assert [entry[0] for entry in history(library18)] == ["export began"]


def test_an_empty_export_is_one_too(library18: Library, tmp_path: Path) -> None:
    """Headings and no row; no archive of no month; both are told."""
    exported(library18, "--output", str(tmp_path / "plain"))
    assert rows_in(tmp_path / "plain" / "audit-log-001.csv") == []
    exported(library18, "--output", str(tmp_path / "zips"), "--zip")
    assert [path.name for path in (tmp_path / "zips").iterdir()] == ["audit-log.sha256"]
    assert [entry[0] for entry in history(library18)] == ["export began", "export completed"] * 2


def test_a_killed_export_tells_that_it_did_not_end(library18: Library, tmp_path: Path) -> None:
    """A killed export leaves whole files, no checksums, and an entry that says it began and not that it ended."""
    library18.events(8000)
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer", "export", "--output", str(tmp_path), "--rows-per-file", "200"],
        env=library18.environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until((tmp_path / "audit-log-003.csv").exists, "three files")
    process.send_signal(signal.SIGSTOP)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    files = sorted(tmp_path.glob("audit-log-*.csv"))
    assert 3 <= len(files) < 40
    assert all(len(rows_in(path)) == 200 for path in files)
    assert not (tmp_path / "audit-log.sha256").exists()
    assert [entry[0] for entry in history(library18)] == ["export began"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_export_tells_so_and_leaves_no_rest(library18: Library, tmp_path: Path, number: signal.Signals) -> None:
    """Stopped from outside, by hand, or by a terminal that is closed: no hidden file full of rows, and the history knows."""
    library18.events(8000)
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer", "export", "--output", str(tmp_path), "--rows-per-file", "50"],
        env=library18.environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 - the tests may run under nohup, which it would inherit
    )  # fmt: skip
    wait_until((tmp_path / "audit-log-003.csv").exists, "three files")
    process.send_signal(number)
    assert process.wait(30) == 130
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"audit-log-{each:03}.csv" for each in range(1, len(names) + 1)}
    (began, ended) = history(library18)
    assert (began[0], ended[0]) == ("export began", "export failed")
    assert ended[3]["error"] == "interrupted"


def test_a_reader_of_the_list_who_leaves_does_not_stop_the_export(library18: Library, tmp_path: Path) -> None:
    """The files are what was asked for."""
    library18.events(50)
    script = f"({sys.executable} -m consumer export --output {tmp_path} --rows-per-file 1 --json; echo $? > {tmp_path}/code) | head -1"
    subprocess.run(["bash", "-c", script], env=library18.environment(), capture_output=True, check=True, timeout=60)
    assert (tmp_path / "code").read_text() == "0\n"
    assert [entry[0] for entry in history(library18)] == ["export began", "export completed"]


def test_rows_that_come_meanwhile_are_not_in_it(library18: Library, tmp_path: Path) -> None:
    """All rows are of the moment at which the export began to read."""
    library18.events(4000)
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer", "export", "--output", str(tmp_path), "--rows-per-file", "500"],
        env=library18.environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    wait_until((tmp_path / "audit-log-001.csv").exists, "a file")
    process.send_signal(signal.SIGSTOP)
    library18.events(10, ago=timedelta(minutes=1))
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 0
    assert "4000 rows in 8 files" in (process.stderr.read() if process.stderr else "")
