"""The Dockerfile, without building it: `make image-check` builds and runs it for real."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.variables import assert_accepted

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"


@pytest.fixture(name="steps")
def _steps() -> list[tuple[str, str]]:
    """Instruction and arguments, of both stages, in order."""
    text = re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text()).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


@pytest.fixture(name="final")
def _final(steps: list[tuple[str, str]]) -> dict[str, str]:
    """The instructions of the last stage; of a repeated one the last."""
    start = max(number for number, (word, _) in enumerate(steps) if word == "FROM")
    return dict(steps[start:])


def test_hadolint_finds_nothing() -> None:
    """Without an exception."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([str(hadolint), str(DOCKERFILE)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE.read_text()


def test_the_base_can_be_pinned(steps: list[tuple[str, str]]) -> None:
    """By one argument for both stages, which may hold a digest."""
    assert steps[0] == ("ARG", "PYTHON_IMAGE=python:3.13-slim")
    assert [rest.split()[0] for word, rest in steps if word == "FROM"] == ["${PYTHON_IMAGE}"] * 2


def test_the_worker_is_no_root_and_hears_signals(final: dict[str, str]) -> None:
    """A numeric user, an exec form, no shell between."""
    assert re.fullmatch(r"[1-9][0-9]+:[1-9][0-9]+", final["USER"])
    assert json.loads(final["ENTRYPOINT"]) == ["integration-audit"]
    assert json.loads(final["CMD"]) == ["run"]
    assert final["STOPSIGNAL"] == "SIGTERM"


def test_the_health_check_asks_the_port_of_the_image(final: dict[str, str], tmp_path: Path) -> None:
    """With nothing but Python; it fails where nobody answers."""
    variables = dict(part.split("=", 1) for part in final["ENV"].split() if part.startswith("AUDIT_"))
    assert_accepted(variables, tmp_path, [])
    assert final["EXPOSE"] == variables["AUDIT_METRICS_PORT"]
    program, flag, code = json.loads(final["HEALTHCHECK"].split("CMD", 1)[1])
    assert (program, flag) == ("python3", "-c")
    assert "/health/live" in code
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "AUDIT_METRICS_PORT": "1"}, capture_output=True, timeout=60, check=False
    )
    assert done.returncode != 0


def test_the_image_gets_what_it_copies() -> None:
    """The ignore file lets through what the Dockerfile copies from the checkout, and nothing else."""
    copied = [line.split()[1:-1] for line in DOCKERFILE.read_text().splitlines() if line.startswith("COPY ") and "--from" not in line]
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source for sources in copied for source in sources} == let_through
    assert all((ROOT / source).exists() for source in let_through)
