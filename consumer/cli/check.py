"""`integration-audit check`: what is wrong, and the remedy."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import click

from consumer.cli.exit_codes import ExitCode
from consumer.cli.output import print_table
from consumer.cli.wiring import database_connector, make_decoder, open_registry
from consumer.core.errors import TransientError
from consumer.kafka.failures import GRANT, expiry_of
from consumer.kafka.group_right import GroupRight
from consumer.kafka.topics import Topics
from consumer.postgres import reading
from consumer.postgres.connection import Connection
from consumer.postgres.migrate import HEAD_REVISION
from consumer.postgres.positions import UngrantedError, read_state
from consumer.settings import Settings, load_settings

_OLDEST_SERVER = 150_000


class Finding(NamedTuple):
    """One thing that was looked at; `remedy` is empty where all is well."""

    what: str
    found: str
    remedy: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.option(
    "--operator", is_flag=True, help="Look for an operator's rights (the commands of quarantine, and position set) instead of a worker's."
)
def command(*, as_json: bool, operator: bool) -> None:
    """Say what is wrong with settings, connections, privileges and the schema's version, and the remedy. Changes nothing."""
    settings = load_settings(os.environ)
    settings.require_kafka()
    settings.require_database()
    make_decoder(settings)
    findings = [Finding("settings", "valid"), *_database(settings, operator=operator), *_kafka(settings), *_registry(settings)]
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        print_table(("What", "Found", "Remedy"), findings)
    if any(finding.remedy for finding in findings):
        raise click.exceptions.Exit(ExitCode.DIFFERENCES)


def _database(settings: Settings, *, operator: bool) -> list[Finding]:
    connect = database_connector(settings)
    try:
        state = read_state(connect)
    except UngrantedError as error:
        return [Finding("privileges", str(error), f"GRANT {_group(operator=operator)} TO {error.role}")]
    except TransientError as error:
        return [Finding("database", str(error), "check AUDIT_DATABASE_URL, the password and the server")]
    findings = [
        Finding(
            "server",
            f"PostgreSQL {state.server_version // 10_000}",
            "" if state.server_version >= _OLDEST_SERVER else "use PostgreSQL 15 or newer",
        ),
        Finding("mode", "read-only" if state.read_only else "writable", "connect to the primary" if state.read_only else ""),
    ]
    if state.revision != HEAD_REVISION:
        newer = state.revision is not None and state.revision > HEAD_REVISION
        remedy = "install the newer integration-audit" if newer else "run `integration-audit migrate`"
        return [*findings, Finding("schema", f"{state.revision or 'none'}, needed {HEAD_REVISION}", remedy)]
    findings.append(Finding("schema", HEAD_REVISION))
    if state.superuser:
        findings.append(Finding("role", f"{state.role} is a superuser (works, but is more than the worker needs)"))
    what, needed = ("operator's privileges", reading.OPERATOR_NEEDS) if operator else ("privileges", reading.WRITER_NEEDS)
    _, missing = reading.rows_of(connect, reading.MISSING, {"needed": list(needed)})
    lacking = ", ".join(row[0] for row in missing)
    remedy = _grant(connect, state.role, _group(operator=operator)) if lacking else ""
    return [*findings, Finding(what, f"missing: {lacking}" if lacking else "complete", remedy)]


def _group(*, operator: bool) -> str:
    return "audit_operator" if operator else "audit_writer"


def _grant(connect: Callable[[], Connection], role: str, group: str) -> str:
    _, ((member,),) = reading.rows_of(connect, "SELECT pg_has_role(%(group)s, 'MEMBER')", {"group": group})
    if member:
        return f"{group} itself lacks it: as audit_owner, grant it again as the migrations do (consumer/postgres/migrations/versions)"
    return f"GRANT {group} TO {role}"


def _kafka(settings: Settings) -> list[Finding]:
    client = settings.kafka_client_config()
    findings = []
    if expired := expiry_of(client):
        findings.append(Finding("certificate", expired, "get a new one"))
    topics = Topics(client, settings.kafka_topics)
    try:
        partitions = topics.partitions()
    except TransientError as error:
        return [*findings, _refusal(str(error))]
    counts = Counter(partition.topic for partition in partitions)
    findings += [Finding(f"topic {name}", f"{counts[name]} partitions") for name in settings.kafka_topics]
    group = GroupRight({**client, "group.id": settings.kafka_group_id}, settings.kafka_topics[0], time.monotonic)
    group.ask()
    return [*findings, *(_refusal(refused) for refused in (topics.refused, group.refused) if refused)]


def _refusal(reason: str) -> Finding:
    """The brokers' answer; where a right is missing, with the command that grants it."""
    found, _, command = reason.partition(GRANT)
    if command:
        return Finding("ACL", found, command)
    return Finding("Kafka", found, "create the topic, or check AUDIT_KAFKA_TOPIC, AUDIT_KAFKA_BOOTSTRAP_SERVERS and the topic's ACLs")


def _registry(settings: Settings) -> list[Finding]:
    if settings.schema_registry_url is None:
        return []
    registry = open_registry(settings)
    try:
        registry.check()
    except TransientError as error:
        return [Finding("schema registry", str(error), "check AUDIT_SCHEMA_REGISTRY_URL, the credentials and the certificates")]
    finally:
        registry.close()
    return [Finding("schema registry", "answers")]
