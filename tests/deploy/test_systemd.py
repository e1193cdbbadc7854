"""The systemd unit: its syntax and hardening by systemd's own tool, its variables by the worker's."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.cli.wiring import STALLED
from consumer.setting_values import parse_duration
from consumer.settings import load_settings
from tests.bed.needs import missing
from tests.deploy.commands import assert_command, lines, of_program
from tests.deploy.variables import assert_accepted

FOLDER = Path(__file__).parents[2] / "deploy/systemd"
UNIT = FOLDER / "integration-audit.service"
RETENTION = FOLDER / "integration-audit-retention.service"
TIMER = RETENTION.with_suffix(".timer")
DOCUMENT = FOLDER.parents[1] / "docs/deploying.md"
EXPOSURE = 1.1
"""Of 10: what `systemd-analyze security` may find at most. The network, which the worker is for, is the most of it."""


@pytest.fixture(name="directives")
def _directives() -> dict[str, list[str]]:
    """Of the worker's unit."""
    return directives_of(UNIT)


def directives_of(unit: Path) -> dict[str, list[str]]:
    """Name → values."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(name="unit", params=[UNIT, RETENTION], ids=lambda file: file.stem)
def _unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Each unit with a program that is there; systemd-analyze looks for it."""
    if not shutil.which("systemd-analyze"):
        missing("systemd-analyze (Debian's package systemd)")
    file: Path = request.param
    unit = tmp_path / file.name
    unit.write_text(file.read_text().replace("/opt/integration-audit/bin/integration-audit", sys.executable))
    return unit


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Systemd's own tool."""
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_understands_every_line(unit: Path) -> None:
    """It says so on stderr only: an unknown key is no failure to it."""
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("[Service]", "[Service]\nRestartSometimes=yes"))
    assert "RestartSometimes" in analyze("verify", str(unit)).stderr


def test_the_hardening_holds(unit: Path) -> None:
    """By systemd's own score, offline."""
    done = analyze("security", "--offline=true", "--no-pager", str(unit))
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= EXPOSURE, done.stdout


@pytest.mark.parametrize("file", [UNIT, RETENTION], ids=lambda file: file.stem)
def test_variables_are_settings(file: Path, tmp_path: Path) -> None:
    """Those of the unit and of the example; each file is one of the credentials."""
    directives = directives_of(file)
    variables = dict(text.split("=", 1) for text in directives["Environment"])
    variables |= dict(line.split("=", 1) for line in (FOLDER / "environment.example").read_text().splitlines() if line.startswith("AUDIT_"))
    ours = {name: text.replace("%d", "/credentials") for name, text in variables.items() if name.startswith("AUDIT_")}
    credentials = [Path("/credentials") / text.split(":")[0] for text in directives["LoadCredential"]]
    assert_accepted(ours, tmp_path, credentials)
    assert parse_duration(directives.get("TimeoutStopSec", ["1h"])[0]) > parse_duration(ours["AUDIT_SHUTDOWN_GRACE"])


def test_the_timer_removes_what_the_workers_retention_says() -> None:
    """By a command that the program takes, with the worker's settings and a login of its own; nothing starts it unasked."""
    worker, retention, timer = (directives_of(file) for file in (UNIT, RETENTION, TIMER))
    (start,) = retention["ExecStart"]
    assert of_program(start)[:3] == ["retention", "apply", "--yes"]
    assert_command(of_program(start))
    assert retention["EnvironmentFile"] == worker["EnvironmentFile"]
    assert not set(retention["LoadCredential"]) & set(worker["LoadCredential"])
    assert "WantedBy" not in retention
    assert timer["WantedBy"] == ["timers.target"]
    assert TIMER.stem == RETENTION.stem
    assert "AUDIT_RETENTION=" in (FOLDER / "environment.example").read_text()


def test_systemd_understands_the_timer(tmp_path: Path) -> None:
    """It starts at a time that systemd can read."""
    if not shutil.which("systemd-analyze"):
        missing("systemd-analyze (Debian's package systemd)")
    done = analyze("calendar", *directives_of(TIMER)["OnCalendar"])
    assert done.returncode == 0, done.stderr
    shutil.copy(TIMER, tmp_path)
    (tmp_path / RETENTION.name).write_text(RETENTION.read_text().replace("/opt/integration-audit/bin/integration-audit", sys.executable))
    done = analyze("verify", str(tmp_path / TIMER.name))
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_get_the_workers_settings(tmp_path: Path) -> None:
    """By the line that the document shows: the unit's environment file is a settings file too."""
    shown = [line for line in lines(DOCUMENT) if line.startswith("AUDIT_CONFIG_FILE=")]
    assert {tuple(of_program(line)) for line in shown} >= {("check",), ("position", "show")}
    (tmp_path / "url").write_text("postgresql://audit@db/audit\n")
    stand_ins = {
        "/etc/integration-audit/environment": FOLDER / "environment.example",
        "/etc/integration-audit/database-url": tmp_path / "url",
    }
    for line in shown:
        variables = dict(word.split("=", 1) for word in line.split() if word.startswith("AUDIT_"))
        settings = load_settings({name: str(stand_ins[path]) for name, path in variables.items()})
        assert settings.kafka_bootstrap_servers == "kafka:9092"
        settings.require_database()


def test_the_watchdog_is_more_patient_than_the_liveness_probe(directives: dict[str, list[str]]) -> None:
    """The loop may take its longest turn; whoever calls it dead earlier restarts for nothing."""
    assert directives["Type"] == ["notify"]
    assert parse_duration(directives["WatchdogSec"][0]).total_seconds() > STALLED
    assert directives["NotifyAccess"] == ["main"]
