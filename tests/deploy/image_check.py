"""`python -m tests.deploy.image_check` (make image-check): builds the image, and runs it for real as it is meant to be run.

Against a real Kafka and PostgreSQL, with a read-only root, no capability and no way to gain one: migrate, publish, run, health, SIGTERM,
drain. Exit code 1 with the reason when anything is wrong.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.bed.health import Health
from tests.bed.kafka import KafkaBroker, unique_topic
from tests.bed.postgres import PostgresServer, running_postgres
from tests.bed.worker import Workplace, wait_until
from tests.deploy.podman import Podman

ROOT = Path(__file__).parents[2]
IMAGE = "integration-audit:check"
LOCKED_DOWN = ("--network", "host", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt", "no-new-privileges")
_EVENTS = 500


def build(podman: Podman) -> None:
    """The Dockerfile is clean, and builds as it stands."""
    subprocess.run([str(Path(sys.executable).with_name("hadolint")), str(ROOT / "deploy/Dockerfile")], check=True, timeout=60)
    print("hadolint: clean")
    print("base:", podman.provide_base())
    _build(podman, IMAGE)


def _build(podman: Podman, name: str, *arguments: str) -> None:
    mirror = ("--secret", "id=pip,src=/etc/pip.conf") if Path("/etc/pip.conf").is_file() else ()
    # The format of Docker: the one of OCI knows no health check.
    how = ("--network", "host", "--format", "docker", "--pull=never", *mirror, *arguments)
    podman.run("build", *how, "-f", "deploy/Dockerfile", "-t", name, str(ROOT))


def build_with_extras(podman: Podman) -> None:
    """The other locked image: with traces and Parquet, which the worker's own lacks."""
    _build(podman, f"{IMAGE}-extras", "--build-arg", "REQUIREMENTS=run-extras")
    extras = "import pyarrow.parquet, opentelemetry.exporter.otlp.proto.http"
    podman.run("run", "--rm", *LOCKED_DOWN, "--entrypoint", "python3", f"{IMAGE}-extras", "-c", extras)
    assert podman.run("run", "--rm", *LOCKED_DOWN, "--entrypoint", "python3", IMAGE, "-c", "import pyarrow", check=False).returncode
    (image,) = json.loads(podman.run("image", "inspect", f"{IMAGE}-extras").stdout)
    print(f"image with extras: {image['Size'] / 1e6:.0f} MB; traces and Parquet are there")


def inspect(podman: Podman) -> None:
    """What the image says of itself, and what is in it."""
    (image,) = json.loads(podman.run("image", "inspect", IMAGE).stdout)
    config = image["Config"]
    assert config["User"] == "65532:65532", config["User"]
    assert config["Entrypoint"] == ["integration-audit"], config["Entrypoint"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert config["Labels"]["org.opencontainers.image.version"] == version, config["Labels"]
    bill = json.loads(inside(podman, "cat", config["Labels"]["integration-audit.sbom"]))
    found = {part["name"].lower().replace("_", "-"): part["version"] for part in bill["components"]}
    assert found.pop("integration-audit") == version
    assert found.items() == locked().items(), f"the SBOM differs from requirements/run.txt: {found.items() ^ locked().items()}"
    for name in ("pip", "hatchling"):
        missing = podman.run("run", "--rm", *LOCKED_DOWN, "--entrypoint", "python3", IMAGE, "-c", f"import {name}", check=False)
        assert "ModuleNotFoundError" in missing.stderr, f"{name} is in the image"
    print(f"image: {image['Size'] / 1e6:.0f} MB, of which ours {own_size(podman):.0f} MB; the SBOM lists {len(found)} libraries, as locked")


def locked() -> dict[str, str]:
    """The libraries of requirements/run.txt that this platform takes."""
    pins = [line.rstrip(" \\") for line in (ROOT / "requirements/run.txt").read_text().splitlines() if "==" in line]
    return dict(pin.split(" ;")[0].split("==") for pin in pins if not re.search("sys_platform == '(?!linux)", pin))  # type: ignore[misc]


def inside(podman: Podman, *command: str) -> str:
    """The output of a program of the image."""
    return podman.run("run", "--rm", *LOCKED_DOWN, "--entrypoint", command[0], IMAGE, *command[1:]).stdout


def own_size(podman: Podman) -> float:
    """Megabytes above the base."""
    return int(inside(podman, "du", "-sk", "/opt/integration-audit").split()[0]) / 1000


class Stage:
    """Kafka, PostgreSQL, and containers between them. The owner of the database migrates; the worker's role only writes."""

    def __init__(self, podman: Podman, kafka: KafkaBroker, postgres: PostgresServer, folder: Path) -> None:
        self.podman, self.health, self._folder = podman, Health(), folder
        name = f"audit_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE image_owner LOGIN CREATEROLE")
            connection.execute(f"CREATE DATABASE {name} OWNER image_owner")
        self.place = Workplace(kafka, postgres.url(name), unique_topic(kafka))
        self._secret("owner", postgres.url(name, "image_owner"))
        self._secret("worker", postgres.url(name, "image_worker"))

    def _secret(self, name: str, text: str) -> None:
        file = self._folder / name
        file.write_text(text)
        file.chmod(0o444)  # for the number that the container runs as

    def arguments(self, role: str) -> list[str]:
        """Everything that `run` gets before the worker's own arguments."""
        ours = {name: text for name, text in self.place.environment.items() if name.startswith("AUDIT_") and name != "AUDIT_DATABASE_URL"}
        ours |= {"AUDIT_DATABASE_URL_FILE": "/run/secrets/url", "AUDIT_SHUTDOWN_GRACE": "20s", **self.health.settings}
        variables = [part for name, text in ours.items() for part in ("--env", f"{name}={text}")]
        return [*LOCKED_DOWN, *variables, "--volume", f"{self._folder / role}:/run/secrets/url:ro", IMAGE]

    def command(self, role: str, *arguments: str) -> str:
        """A command to its end; what it prints."""
        return self.podman.run("run", "--rm", *self.arguments(role), *arguments).stdout.strip()

    @contextmanager
    def worker(self) -> Iterator[str]:
        """A worker in the background; its name."""
        name = f"worker-{uuid.uuid4().hex[:12]}"
        self.podman.run("run", "--detach", "--name", name, *self.arguments("worker"))
        try:
            yield name
        finally:
            if sys.exc_info()[0] is not None:
                print(self.podman.run("logs", name).stderr[-3000:])
            self.podman.run("rm", "--force", "--time", "0", name)

    def state(self, name: str) -> dict[str, Any]:
        """What podman knows of a container."""
        (container,) = json.loads(self.podman.run("container", "inspect", name).stdout)
        state: dict[str, Any] = container["State"]
        return state


def perform(stage: Stage) -> None:
    """The life of an installation."""
    print("migrate:", stage.command("owner", "migrate"))
    with psycopg.connect(stage.place.database, autocommit=True) as connection:
        connection.execute("CREATE ROLE image_worker LOGIN")
        connection.execute("GRANT audit_writer TO image_worker")
    print("check:", stage.command("worker", "check").replace("\n", " | "))
    print("publish:", stage.command("worker", "publish", "--sample", str(_EVENTS)))
    with stage.worker() as name:
        wait_until(lambda: stage.health.ready and stage.place.written() == _EVENTS, "the worker writes what was published")
        assert stage.health.live == 200
        assert stage.podman.run("healthcheck", "run", name, check=False).returncode == 0, "the image's health check fails"
        resident = psutil.Process(stage.state(name)["Pid"]).memory_info().rss
        stage.podman.run("stop", "--time", "25", name)
        state = stage.state(name)
        assert state["ExitCode"] == 0, f"SIGTERM: {state}"
        print(f"run: wrote {_EVENTS}, live and ready, health check passes; SIGTERM: exit 0; {resident / 1e6:.0f} MB")
    stage.command("worker", "publish", "--sample", str(_EVENTS))
    stage.command("worker", "run", "--drain")
    assert stage.place.written() == 2 * _EVENTS
    print("drain: all written, exit 0")


def main() -> None:
    """Builds, looks, runs."""
    podman = Podman()
    build(podman)
    inspect(podman)
    build_with_extras(podman)
    with tempfile.TemporaryDirectory() as folder, running_postgres(18) as postgres:
        Path(folder).chmod(0o755)
        kafka = KafkaBroker(Path(folder))
        kafka.start()
        try:
            perform(Stage(podman, kafka, postgres, Path(folder)))
        finally:
            kafka.stop()
    print("image-check: all is well")


if __name__ == "__main__":
    main()
