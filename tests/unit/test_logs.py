"""Logs: one JSON object a line on stderr, and no floods."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from consumer.observe.logs import RateLimited, configure_logging

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, own = root.level, list(root.handlers)
    for each in own:  # configure_logging would close them
        root.removeHandler(each)
    yield
    structlog.reset_defaults()
    root.handlers[:] = own
    root.setLevel(level)


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is in the values."""
    configure_logging("info", "json")
    structlog.get_logger().info("written", text="two\nlines \u65e5\u672c", odd=object)
    structlog.get_logger().warning("held", reason=None)
    out, err = capsys.readouterr()
    assert out == ""
    first, second = (json.loads(line) for line in err.splitlines())
    assert (first["event"], first["level"], first["text"]) == ("written", "info", "two\nlines \u65e5\u672c")
    assert (second["event"], second["level"], second["reason"]) == ("held", "warning", None)
    age = datetime.now(UTC) - datetime.fromisoformat(first["timestamp"])
    assert timedelta(0) <= age < timedelta(minutes=1)


def test_half_a_character_is_no_error() -> None:
    """On the real stderr: what an upstream system sent must not end the worker by way of its logs."""
    code = (
        "import structlog; from consumer.observe.logs import configure_logging; configure_logging('info', 'json');"
        "structlog.get_logger().info('bad', text='\\udc80')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stderr)["text"] == "\udc80"


def test_the_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Below it nothing is said."""
    configure_logging("warning", "json")
    log = structlog.get_logger()
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["c", "d"]


def test_what_libraries_log_has_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    """Their warnings only."""
    configure_logging("debug", "json")
    logging.getLogger("library").info("a statement with values")
    logging.getLogger("library").warning("old %s", "server")
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["event"], record["level"], record["logger"]) == ("old server", "warning", "library")
    assert "timestamp" in record


def test_the_console_gets_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    """And no colours where it is no terminal."""
    configure_logging("info", "console")
    structlog.get_logger().info("written", rows=3)
    (line,) = capsys.readouterr().err.splitlines()
    assert "written" in line
    assert "rows=3" in line
    assert "\x1b" not in line


def test_a_flood_is_let_through_once_in_the_interval() -> None:
    """The first at once; the next one says how many were suppressed; each name by itself."""
    now = [100.0]
    limit = RateLimited(5.0, lambda: now[0])
    assert limit.allow("error") == 0
    assert [limit.allow("error") for _ in range(3)] == [None, None, None]
    assert limit.allow("other") == 0
    now[0] = 104.9
    assert limit.allow("error") is None
    now[0] = 105.0
    assert limit.allow("error") == 4
    now[0] = 110.0
    assert limit.allow("error") == 0
