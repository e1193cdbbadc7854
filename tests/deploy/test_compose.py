"""The compose file: every reference leads somewhere, the worker's settings are settings, and its roles suffice on a real PostgreSQL."""

import re
import shlex
import shutil
import stat
import subprocess
import tomllib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from consumer.postgres.migrate import HEAD_REVISION
from consumer.setting_values import parse_duration
from tests.bed.kafka import KafkaBroker
from tests.bed.needs import missing
from tests.bed.postgres import PostgresServer
from tests.bed.worker import Workplace
from tests.deploy.commands import assert_command, lines
from tests.deploy.variables import assert_accepted

DEPLOY = Path(__file__).parents[2] / "deploy"
OURS = ("migrate", "worker", "cli", "sample")


@pytest.fixture(name="compose", scope="module")
def _compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return content


@pytest.fixture(name="services")
def _services(compose: dict[str, Any]) -> dict[str, Any]:
    services: dict[str, Any] = compose["services"]
    return services


def test_every_reference_leads_somewhere(compose: dict[str, Any], services: dict[str, Any]) -> None:
    """Services, conditions that can come true, secrets, volumes and files."""
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"], f"{name} waits for {other} for ever"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[other]["restart"] == "no", f"{other} never ends"
        assert set(service.get("secrets", [])) <= compose["secrets"].keys()
        for source in (volume.split(":")[0] for volume in service.get("volumes", [])):
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"], f"{name}: {source}"
    used = {secret for service in services.values() for secret in service.get("secrets", [])}
    assert used == compose["secrets"].keys()


def test_everybody_has_a_limit_and_long_runners_are_looked_at(services: dict[str, Any]) -> None:
    """Memory for all; a health check for whoever stays."""
    for name, service in services.items():
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        if service["restart"] != "no" and name != "worker":  # the image has its own
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_ours_are_locked_down(services: dict[str, Any]) -> None:
    """As `make image-check` runs the image."""
    for name in OURS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]


def test_variables_are_settings(services: dict[str, Any], tmp_path: Path) -> None:
    """With values that the worker takes; what they name lies among the service's secrets. No secret is a value."""
    for name in OURS:
        mounts = [Path("/run/secrets") / secret for secret in services[name].get("secrets", [])]
        assert_accepted(services[name]["environment"], tmp_path, mounts)
    text = (DEPLOY / "compose.yaml").read_text()
    assert not re.search(r"(?i)password: *[^/{\s]", text)


def test_the_worker_is_given_its_time(services: dict[str, Any]) -> None:
    """To finish its batch."""
    worker = services["worker"]
    assert worker["deploy"]["replicas"] == 2
    grace = parse_duration(worker["environment"]["AUDIT_SHUTDOWN_GRACE"])
    assert parse_duration(worker["stop_grace_period"]) > grace


def test_prometheus_scrapes_the_workers(services: dict[str, Any]) -> None:
    """Where they listen; and rules that are dropped beside its configuration are read."""
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    ((scrape,),) = (job["dns_sd_configs"] for job in config["scrape_configs"])
    assert scrape["names"] == ["worker"]
    assert str(scrape["port"]) == services["worker"]["environment"]["AUDIT_METRICS_PORT"]
    assert config["rule_files"] == ["alerts*.yml"]
    assert not [
        file.name for file in (DEPLOY / "prometheus").glob("*.yml") if file.name != "prometheus.yml" and not file.match("alerts*.yml")
    ]


def test_grafana_finds_what_is_dropped_into_its_folder(services: dict[str, Any]) -> None:
    """The provider reads where the folder is mounted, and the source has the name that dashboards use."""
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/files.yaml").read_text())["providers"]
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in services["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"].startswith("http://prometheus:")


def test_the_default_image_is_of_this_version(services: dict[str, Any]) -> None:
    """In compose as in the Dockerfile's label."""
    version = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["version"]
    assert services["worker"]["image"] == f"${{AUDIT_IMAGE:-integration-audit:{version}}}"
    assert f"ARG VERSION={version}\n" in (DEPLOY / "Dockerfile").read_text()


def test_secrets_are_made_once(tmp_path: Path, compose: dict[str, Any]) -> None:
    """One for each that compose names, random, in a closed folder, and not made anew."""
    shutil.copy(DEPLOY / "compose/secrets.sh", tmp_path)
    made = []
    for _ in range(2):
        subprocess.run(["sh", str(tmp_path / "secrets.sh")], check=True, timeout=30)
        made.append({file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()})
    assert made[0] == made[1]
    assert made[0].keys() == {Path(secret["file"]).name for secret in compose["secrets"].values()}
    assert all(re.fullmatch(r"[0-9a-f]{48}", text) for text in made[0].values())
    assert len(set(made[0].values())) == len(made[0])
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


@pytest.fixture(name="installed")
def _installed(postgres: PostgresServer, services: dict[str, Any], tmp_path: Path) -> Callable[[str], str]:
    """A database made by compose's roles.sql; gives the URL of a service, on this server, with what its file holds."""
    if not shutil.which("psql"):
        missing("psql")
    suffix = uuid.uuid4().hex[:8]
    script = (DEPLOY / "compose/roles.sql").read_text()
    assert script.count("`cat /run/secrets/") == 3
    for name in ("owner", "worker", "operator"):
        (tmp_path / f"{name}-password").write_text(f"of {name}'s own")
    # Roles belong to the cluster, which other tests use too.
    script = script.replace("/run/secrets/", f"{tmp_path}/").replace("DATABASE audit", f"DATABASE audit_{suffix}")
    script = re.sub(r"integration_audit_(owner|worker|operator)", rf"integration_audit_\1_{suffix}", script)
    for role in ("audit_writer", "audit_reader", "audit_operator"):
        if _known(postgres, role):
            script = script.replace(f"CREATE ROLE {role} NOLOGIN;", "")
    if _known(postgres, "audit_owner"):  # made by another test's superuser, and not by the owner's migration as on a new server
        roles = ("audit_owner", "audit_reader", "audit_operator", "audit_retention")
        script += "".join(
            f"GRANT {role} TO integration_audit_owner_{suffix} WITH ADMIN OPTION;\n" for role in roles if _known(postgres, role)
        )
    file = tmp_path / "roles.sql"
    file.write_text(script)
    subprocess.run(["psql", "--no-psqlrc", "-q", "-f", str(file), postgres.url()], check=True, timeout=60)

    def url(service: str) -> str:
        text: str = services[service]["environment"]["AUDIT_DATABASE_URL"]
        user = text.removeprefix("postgresql://").partition("@")[0]
        return postgres.url(f"audit_{suffix}", f"{user}_{suffix}")

    return url


def _known(postgres: PostgresServer, role: str) -> bool:
    with psycopg.connect(postgres.url()) as connection:
        return connection.execute("SELECT to_regrole(%s)", (role,)).fetchone() != (None,)


@pytest.mark.kafka
@pytest.mark.postgres
def test_the_roles_suffice(kafka_broker: KafkaBroker, topic: str, installed: Callable[[str], str]) -> None:
    """The owner migrates, the worker's role writes, and it can do no more: it neither changes the log nor makes a table."""
    place = Workplace(kafka_broker, installed("worker"), topic)
    migrated = place.command("migrate", AUDIT_DATABASE_URL=installed("migrate"))
    assert HEAD_REVISION in migrated.stdout, migrated.stderr
    assert place.command("publish", "--sample", "20").returncode == 0
    place.drain()
    assert place.written() == 20
    for statement in ("DELETE FROM audit.audit_log", "UPDATE audit.audit_log SET tenant = ''", "CREATE TABLE audit.x ()", "CREATE ROLE x"):
        with psycopg.connect(installed("worker")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


@pytest.mark.kafka
@pytest.mark.postgres
def test_people_read_the_log_without_the_workers_rights(
    kafka_broker: KafkaBroker, topic: str, installed: Callable[[str], str], tmp_path: Path
) -> None:
    """The role of `cli` reads, exports, follows the runbook, compares with Kafka; the owner's, of `migrate`, sees to the retention."""
    place = Workplace(kafka_broker, installed("worker"), topic)
    place.command("migrate", AUDIT_DATABASE_URL=installed("migrate"))
    place.command("publish", "--sample", "20")
    place.drain()
    for arguments in (
        ("log", "--last", "10 years"), ("export", "--output", str(tmp_path / "export")), ("quarantine", "list", "--counts"),
        ("position", "show"), ("reconcile",),
    ):  # fmt: skip
        done = place.command(*arguments, AUDIT_DATABASE_URL=installed("cli"))
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    assert len((tmp_path / "export/audit-log-001.csv").read_text().splitlines()) == 21
    with psycopg.connect(installed("cli")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM audit.audit_log")
    done = place.command("retention", "apply", "--yes", AUDIT_DATABASE_URL=installed("migrate"))
    assert done.returncode == 0, done.stderr


def _run_by_compose() -> list[tuple[str, list[str]]]:
    """Service and arguments of each `docker compose … run` that docs/deploying.md shows."""
    found = []
    for line in lines(DEPLOY.parent / "docs/deploying.md"):
        words = shlex.split(line, comments=True)
        if words[:2] == ["docker", "compose"] and "run" in words:
            rest = words[words.index("run") + 1 :]
            while rest[0].startswith("--"):
                del rest[: 1 if rest[0] == "--rm" else 2]
            found.append((rest[0], rest[1:]))
    return found


def test_what_the_document_runs_is_there(services: dict[str, Any]) -> None:
    """Services of ours, and commands that the program takes."""
    shown = _run_by_compose()
    assert {service for service, _ in shown} == {"worker", "cli", "migrate"}
    for service, arguments in shown:
        assert service in services
        assert_command(arguments)


def test_a_workers_health_can_be_asked_from_this_machine_only(services: dict[str, Any]) -> None:
    """Each worker at a free port: there are several."""
    assert services["worker"]["ports"] == [f"127.0.0.1::{services['worker']['environment']['AUDIT_METRICS_PORT']}"]
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", []))
