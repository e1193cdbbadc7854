"""The command line as a user meets it: output, one-line errors, exit codes."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import structlog

from consumer.cli import main as entry
from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.last_words import LastWords
from consumer.cli.wiring import observation, worker_parts
from consumer.core.actions import ACTIONS
from consumer.settings import SettingsError, load_settings

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """The program as a process of its own."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("AUDIT_")}
    return subprocess.run(
        [sys.executable, "-m", "consumer", *arguments],
        cwd=ROOT,
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def ended(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The exit code after a command that raises this."""

    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(entry, "import_module", lambda _: SimpleNamespace(command=command))
    monkeypatch.setattr(sys, "argv", ["integration-audit", "run"])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_help_lists_every_command_and_imports_none() -> None:
    """Fast, since no library of a command is loaded."""
    done = run("--help")
    assert done.returncode == 0
    for name, text in entry.COMMANDS.items():
        assert name in done.stdout
        assert text.split(",")[0] in done.stdout
    code = "import sys, consumer.cli.main; print([m for m in ('confluent_kafka', 'psycopg', 'alembic', 'rich') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("name", entry.COMMANDS)
def test_each_command_exists(name: str) -> None:
    """The table and the modules agree, and its help is shown under its name."""
    done = run(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: python -m consumer {name} ")


def test_version() -> None:
    """Of the package."""
    assert run("--version").stdout.startswith("integration-audit, version 0.")


@pytest.mark.parametrize("arguments", [("migarte",), ("actions", "--nope"), ("actions", "more")])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """Code 2, and nothing on stdout."""
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert arguments[-1] in done.stderr


def test_settings_that_are_missing_or_wrong() -> None:
    """Code 2, the variable, no traceback, no secret."""
    done = run("run")
    assert done.returncode == 2
    (line,) = map(json.loads, done.stderr.splitlines())  # a worker's log is JSON from the first line on
    assert (line["event"], line["level"], line["exit_code"]) == ("failed", "error", 2)
    assert line["reason"].startswith("AUDIT_KAFKA_BOOTSTRAP_SERVERS is not set")
    assert not run("run", AUDIT_LOG_FORMAT="console").stderr.startswith("{")
    done = run("migrate", AUDIT_DATABASE_URL="mysql://u:hunter2@h/d")
    assert done.returncode == 2
    assert done.stderr.startswith("AUDIT_DATABASE_URL=mysql://u:********@h/d: needs a libpq URL")
    assert "hunter2" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_actions_into_a_pipe_are_one_record_a_line() -> None:
    """Tab separated, never wrapped, whatever width a terminal is said to have."""
    lines = run("actions", COLUMNS="20").stdout.splitlines()
    assert len(lines) == 11
    records = [line.split("\t") for line in lines]
    assert {len(record) for record in records} == {6}
    assert [record[2] for record in records[1:]] == [action.name for action in ACTIONS]
    authorize = next(record for record in records if record[2] == "authorize integration")
    assert authorize[:2] == ["Information", "Integrations"]
    assert authorize[4] == "name, id, scopes"


def test_actions_for_a_machine() -> None:
    """An array with all that the table holds."""
    records = json.loads(run("actions", "--json").stdout)
    assert [record["action"] for record in records] == [action.name for action in ACTIONS]
    token = next(record for record in records if record["action"] == "generate API token")
    assert token["complement"] == ["id", "scope", "validity_period"]
    assert token["level"] == "Notice"


@pytest.mark.parametrize("arguments", ["actions", "actions --json", "--help"])
def test_a_reader_that_has_seen_enough_is_no_failure(arguments: str) -> None:
    """No word on stderr, and no failure in a pipe that looks at every code."""
    script = f"({sys.executable} -m consumer {arguments}; echo $? >&2) | true"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == "0\n"


def test_a_broken_connection_is_not_taken_for_a_closed_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same error of a socket must not look like success."""
    assert ended(monkeypatch, BrokenPipeError(32, "Broken pipe")) == ExitCode.FAILURE


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CommandError("the database is away", ExitCode.DATABASE), 4, "the database is away"),
        (SettingsError("AUDIT_X: is no setting"), 2, "AUDIT_X: is no setting"),
        (click.UsageError("no such thing"), 2, "no such thing"),
        (click.exceptions.Exit(ExitCode.DIFFERENCES), 9, ""),
        (SystemExit(6), 6, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_a_command_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str
) -> None:
    """By the error's own code, with its text and no traceback."""
    assert ended(monkeypatch, error) == code
    err = capsys.readouterr().err
    assert text in err
    assert "Traceback" not in err


def test_an_unexpected_error_shows_its_type_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its text could hold an event's values."""
    monkeypatch.setenv("AUDIT_LOG_LEVEL", "info")
    assert ended(monkeypatch, LookupError("a value of an event")) == 1
    err = capsys.readouterr().err
    assert err == "unexpected LookupError; AUDIT_LOG_LEVEL=debug shows where\n"


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the same exit code."""
    monkeypatch.setenv("AUDIT_LOG_LEVEL", "debug")
    assert ended(monkeypatch, LookupError("a value of an event")) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "test_cli.py" in err
    assert "LookupError" in err
    assert "a value of an event" not in err


def test_exit_codes_are_told_apart() -> None:
    """Scripts rely on the numbers."""
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "FAILURE": 1,
        "USAGE": 2,
        "INPUT": 3,
        "DATABASE": 4,
        "KAFKA": 5,
        "SCHEMA_VERSION": 6,
        "FATAL_CLIENT": 7,
        "SHUTDOWN_TIMEOUT": 8,
        "DIFFERENCES": 9,
        "HELD": 10,
        "REGISTRY": 11,
        "INTERRUPTED": 130,
    }


def test_settings_that_the_kafka_client_refuses_are_said(tmp_path: Path) -> None:
    """A certificate file without a certificate: one line and the code for configuration, not an unexpected error."""
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    settings = load_settings(
        {
            "AUDIT_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "AUDIT_DATABASE_URL": "postgresql://127.0.0.1:1/none",
            "AUDIT_KAFKA_SECURITY_PROTOCOL": "SSL",
            "AUDIT_KAFKA_SECURITY_CA_FILE": str(broken),
        }
    )
    with (
        observation(settings) as observer,
        pytest.raises(CommandError, match="refuses its settings") as caught,
        worker_parts(settings, observer),
    ):
        pass
    assert caught.value.exit_code == ExitCode.USAGE


def test_an_unexpected_error_shows_its_place_and_not_its_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even for debugging: PostgreSQL's texts hold whole rows. Its cause neither."""
    monkeypatch.setenv("AUDIT_LOG_LEVEL", "debug")
    error = ZeroDivisionError("hunter2")
    error.__cause__ = KeyError("hunter2")
    assert ended(monkeypatch, error) == ExitCode.FAILURE
    said = capsys.readouterr().err
    assert "hunter2" not in said
    assert "ZeroDivisionError" in said
    assert "KeyError" in said
    assert "test_cli.py" in said


def test_in_a_log_the_last_words_are_a_line_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the process and of a thread; places only for debugging, and never an error's text."""
    words = LastWords()
    words.log()
    with structlog.testing.capture_logs() as lines:
        for level in ("info", "debug"):
            monkeypatch.setenv("AUDIT_LOG_LEVEL", level)
            with pytest.raises(SystemExit):
                words.end_unexpected(LookupError("hunter2"))
            words.thread_failed(threading.ExceptHookArgs((LookupError, LookupError("hunter2"), None, threading.current_thread())))
    assert [(line["event"], line["log_level"]) for line in lines] == [("failed", "error"), ("thread failed", "error")] * 2
    assert [line["where"] is not None for line in lines] == [False, False, True, True]
    assert "hunter2" not in str(lines)
