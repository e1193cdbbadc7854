"""No value of a message and no secret in anything that is said: logs of every level, metrics, health, stderr, the quarantine's own errors.

Markers stand in every field of the events, in keys, headers and every secret. Beside this, `tests.bed.worker` hears all that the workers
of the suite say.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from consumer.cli.wiring import database_connector
from consumer.core.actions import ACTIONS
from consumer.core.errors import Reason, TransientError
from consumer.postgres.positions import read_state
from consumer.settings import SettingsError, load_settings
from tests.bed.events import ENCODER
from tests.bed.evolution import FOLDER, writer_schema, written_with
from tests.bed.health import Health
from tests.bed.kafka import KafkaBroker, free_port
from tests.bed.postgres import PostgresServer
from tests.bed.registry import Gate
from tests.bed.worker import Workplace, wait_until

SECRET = "Zq9secret"  # noqa: S105 - a marker
VALUE = "Zq9value"
ADDRESS, ELEVENTH = "2001:db8:77aa:1::9", "newer-with-eleventh-change"
EVENT_ID = "0198feed-beef-7abc-8def-"
"""How the events' ids begin."""
NEVER = (SECRET, VALUE, "77aa", EVENT_ID, "Zq9")
DEBUG = {"AUDIT_LOG_LEVEL": "debug"}


class Ear:
    """Hears everything that is said, and where."""

    def __init__(self) -> None:
        self.heard: dict[str, str] = {}

    def hear(self, where: str, text: str) -> None:
        """More of it."""
        self.heard[f"{len(self.heard)} {where}"] = text

    def assert_discreet(self) -> None:
        """None of the markers, anywhere; and there was something to hear."""
        assert all(self.heard.values()), [where for where, text in self.heard.items() if not text]
        for where, text in self.heard.items():
            for marker in NEVER:
                at = text.find(marker)
                assert at < 0, f"{where}: …{text[max(0, at - 200) : at + 60]}…"


@pytest.fixture
def ear() -> Iterator[Ear]:
    """Looks through everything at the end of the test."""
    found = Ear()
    yield found
    found.assert_discreet()


def marked(change: dict[str, Any], number: int, **fields: Any) -> dict[str, Any]:
    """An event that has a marker in every field."""
    return {
        "event_id": f"{EVENT_ID}{number:012x}", "occurred_at": "2026-11-20T09:00:00.000001Z", "tenant": f"{VALUE}tenant",
        "actor": f"{VALUE}actor", "source_ip": ADDRESS, "result": "FAILED", "error_code": f"{VALUE}code", "change": change, **fields,
    }  # fmt: skip


def _change(kind: str) -> dict[str, Any]:
    target = {"type": "OAuthClient", "name": f"{VALUE}name", "id": f"{VALUE}id"}
    of_kind: dict[str, Any] = {
        "OAuthClient": {"client_name": f"{VALUE}cn", "client_id": f"{VALUE}ci"},
        "SlackSetting": {"enabled": True},
        "ApiTokenGenerated": {
            "token_id": f"{VALUE}t", "scope": [f"{VALUE}s"], "validity": {"start": "2026-11-20T09:00:00Z", "end": None},
        },
        "ApiTokenDeleted": {"token_id": f"{VALUE}t"},
        "IntegrationAuthorized": {"target": target, "scopes": [f"{VALUE}s"] * 2},
    }  # fmt: skip
    fields = next((fields for prefix, fields in of_kind.items() if kind.startswith(prefix)), {"target": target})
    return {"type": kind, **fields}


def _messages() -> list[bytes]:
    """Each action, each reason, and what is altered."""
    good = [ENCODER.encode(marked(_change(action.change_type), number)) for number, action in enumerate(ACTIONS)]
    change = _change("IntegrationAuthorized")
    plain = ENCODER.encode(marked(change, 100))
    eleventh = written_with(ELEVENTH, _eleventh(marked(_change("SlackSettingUpdated"), 101)))
    broken = [
        plain[:-3], plain + b"Zq9value", b"Zq9value", plain[:2] + b"12345678" + plain[10:], b"\x00\x00\x00\x00\x09" + plain[10:], eleventh,
        ENCODER.encode(marked(change, 102, source_ip=f"{VALUE}ip")), plain.replace(EVENT_ID.encode(), b"Zq9value-beef-7abc-8def-"),
        ENCODER.encode(marked(change, 103, occurred_at="1999-01-01T00:00:00Z")), ENCODER.encode(marked(change, 0, tenant=f"{VALUE}other")),
        ENCODER.encode(marked(change, 104, tenant=VALUE + "".join(uuid.uuid4().hex for _ in range(200)))),
        ENCODER.encode(marked(change, 105, tenant="Zq9value" * 10_000)), ENCODER.encode(marked(change, 106, tenant="refused", actor=VALUE)),
    ]  # fmt: skip
    visible = ENCODER.encode(marked(change, 107, actor=f"{VALUE}@@")).replace(b"@@", b"\x00\xff")
    return [*good, visible, *broken]


def _eleventh(event: dict[str, Any]) -> dict[str, Any]:
    (field,) = (each for each in writer_schema(ELEVENTH)["fields"] if each["name"] == "change")
    kind = field["type"][-1]
    texts = {each["name"]: f"{VALUE}{each['name']}" for each in kind["fields"]}
    return {**ENCODER.datum(event), "change": (f"integration.audit.v1.{kind['name']}", texts)}


@pytest.fixture
def place(kafka_broker: KafkaBroker, database: str, topic: str, tmp_path: Path) -> Workplace:
    """A workplace with secrets, and with an eleventh change to be read."""
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    (schemas / "later.avsc").write_bytes((FOLDER / f"{ELEVENTH}.avsc").read_bytes())
    return Workplace(
        kafka_broker, database, topic, **DEBUG,
        AUDIT_DATABASE_PASSWORD=SECRET, AUDIT_SCHEMA_DIR=str(schemas), AUDIT_MAX_MESSAGE_BYTES="64 KiB",
    )  # fmt: skip


def _publish(place: Workplace) -> int:
    producer = Producer(place.kafka.client)
    values = _messages()
    for value in values:
        producer.produce(
            place.topic, value, f"{VALUE}key", partition=0, headers=[(f"{VALUE}header", b"Zq9value"), ("__value_schema_id", b"Zq9value")]
        )
    assert producer.flush(30) == 0
    return len(values)


@pytest.mark.kafka
@pytest.mark.postgres
def test_nothing_of_a_message_is_said(place: Workplace, ear: Ear, tmp_path: Path) -> None:
    """Through every reason, by the worker and by every command; only `quarantine show` and the database hold the values."""
    with psycopg.connect(place.database) as connection:
        connection.execute("ALTER TABLE audit.audit_log ADD CONSTRAINT house_rule CHECK (tenant <> 'refused')")
    health, log = Health(), tmp_path / "log"
    with place.worker(log=log, **health.settings):
        count = _publish(place)
        wait_until(lambda: sum(place.books().values()) == count, "all is accounted for")
        wait_until(lambda: health.ready, "ready")
        for path in ("/metrics", "/health/live", "/health/ready"):
            ear.hear(path, health.text(path))
    ear.hear("worker", log.read_text())
    assert set(place.query("SELECT DISTINCT reason FROM audit.quarantine")) == {(reason.value,) for reason in Reason}
    ear.hear("errors in quarantine", "\n".join(error for (error,) in place.query("SELECT error FROM audit.quarantine")))
    quiet = [
        ("quarantine", "list"), ("quarantine", "list", "--json"), ("quarantine", "list", "--counts"),
        ("quarantine", "retry", "--all"), ("quarantine", "retry", "--all", "--yes"),
        ("quarantine", "discard", "--id", "1", "--note", "n", "--by", "b", "--yes"),
        ("reconcile",), ("check",), ("check", "--json"), ("check", "--operator"), ("migrate",), ("actions",),
    ]  # fmt: skip
    for command in quiet:
        done = place.command(*command)
        ear.hear(" ".join(command), f"{done.stdout}{done.stderr}.")
    number = place.value("SELECT min(id) FROM audit.quarantine")
    shown = place.command("quarantine", "show", str(number))
    assert VALUE in shown.stdout, "the marker is one that is found where it is"
    ear.hear("quarantine show, stderr", f"{shown.stderr}.")
    assert VALUE in str(place.query("SELECT tenant, login_name, complement FROM audit.audit_log"))


@pytest.mark.kafka
def test_nothing_of_a_file_is_said(place: Workplace, ear: Ear, tmp_path: Path) -> None:
    """`publish` names the line and the field."""
    good = marked(_change("OAuthClientAdded"), 1)
    for fields in ({"occurred_at": VALUE}, {"event_id": VALUE}, {"result": VALUE}, {"change": {"type": VALUE}}, {"tenant": [VALUE]}):
        (tmp_path / "events").write_text(json.dumps(good | fields) + "\n")
        done = place.command("publish", str(tmp_path / "events"))
        assert done.returncode != 0
        ear.hear("publish", done.stderr)
    (tmp_path / "events").write_text(f'{{"{VALUE}')
    ear.hear("publish", place.command("publish", str(tmp_path / "events")).stderr)


@pytest.mark.postgres
def test_no_password_of_the_database_is_said(place: Workplace, ear: Ear, postgres: PostgresServer, tmp_path: Path) -> None:
    """A wrong one, a server that is away, and URLs that are none because of what stands in the password."""
    rules = postgres.folder / "data" / "pg_hba.conf"
    trusting = rules.read_text()
    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        try:
            rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{trusting}")
            admin.execute("SELECT pg_reload_conf()")
            wrong = {"AUDIT_DATABASE_URL": place.database.replace("postgres@", "guarded@")}
            assert wrong["AUDIT_DATABASE_URL"] != place.database
            _held(place, ear, tmp_path / "wrong", "password authentication failed", **wrong)
            _said_by_commands(place, ear, **wrong)
        finally:
            rules.write_text(trusting)
            admin.execute("SELECT pg_reload_conf()")
            admin.execute("DROP ROLE guarded")
    away = f"127.0.0.1:{free_port()}/x"
    _held(place, ear, tmp_path / "away", "refused", AUDIT_DATABASE_URL=f"postgresql://u:{SECRET}@{away}", AUDIT_DATABASE_PASSWORD="")


@pytest.mark.parametrize("url", [
    f"postgresql://u:{SECRET}/x@127.0.0.1:1/x", f"postgresql://u:a/{SECRET}@127.0.0.1:1/x", f"postgresql://u:a@{SECRET}@127.0.0.1:1/x",
    f"postgresql://u:%zz{SECRET}@127.0.0.1:1/x", f"postgresql://u:a#{SECRET}@127.0.0.1:1/x", f"postgresql://u:a?{SECRET}@127.0.0.1:1/x",
    f"postgresql://u:a:{SECRET}@127.0.0.1:1/x", f"postgresql://u:[{SECRET}@127.0.0.1:1/x",
    f"postgresql://127.0.0.1:1/x?password={SECRET}&{SECRET}=1", f"host=127.0.0.1 password='{SECRET}", f"port=1 password=a {SECRET}",
])  # fmt: skip
def test_a_url_that_is_none_does_not_show_its_password(url: str, ear: Ear) -> None:
    """Because of what stands in the password, which nobody escaped."""
    try:
        read_state(database_connector(load_settings({"AUDIT_DATABASE_URL": url})))
    except (SettingsError, TransientError) as error:  # whose texts are shown
        ear.hear(url.replace(SECRET, "*"), f"{error}.")
    except Exception as error:  # noqa: BLE001 - of any other, only the type is shown
        ear.hear(url.replace(SECRET, "*"), type(error).__name__)


def _held(place: Workplace, ear: Ear, log: Path, until: str, **settings: str) -> None:
    """A worker that can't reach its database: what it says, and what its health page does."""
    health = Health()
    with place.worker(log=log, **settings, **health.settings):
        wait_until(lambda: until in health.reasons, f"held: {until}")
        ear.hear("health", health.reasons + health.text("/metrics"))
    ear.hear("worker", log.read_text())


def _said_by_commands(place: Workplace, ear: Ear, **settings: str) -> None:
    for command in (("check",), ("migrate",), ("quarantine", "list"), ("reconcile",)):
        done = place.command(*command, **settings)
        assert done.returncode != 0, command
        ear.hear(" ".join(command), done.stdout + done.stderr)


def test_no_credential_of_kafka_or_the_registry_is_said(place: Workplace, ear: Ear, gate: Gate) -> None:
    """Refused, away, or no registry at all; and settings that contradict each other."""
    user = {"AUDIT_SCHEMA_REGISTRY_USERNAME": f"{SECRET}user", "AUDIT_SCHEMA_REGISTRY_PASSWORD": f"{SECRET}password"}
    token = {"AUDIT_SCHEMA_REGISTRY_TOKEN": f"{SECRET}token"}
    gate.authorization = "Bearer another"
    for secrets, url in ((user, gate.url), (token, gate.url), (user, f"http://127.0.0.1:{free_port()}")):
        done = place.command("check", AUDIT_SCHEMA_REGISTRY_URL=url, **secrets)
        assert "chema registry" in done.stdout + done.stderr
        ear.hear("check", done.stdout + done.stderr)
    sasl = {
        "AUDIT_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "AUDIT_KAFKA_SECURITY_SASL_MECHANISM": "SCRAM-SHA-512",
        "AUDIT_KAFKA_SECURITY_SASL_USERNAME": "u", "AUDIT_KAFKA_SECURITY_SASL_PASSWORD": SECRET,
    }  # fmt: skip
    ear.hear("check", (done := place.command("check", **sasl)).stdout + done.stderr)
    wrong = (
        {"AUDIT_SCHEMA_REGISTRY_URL": f"http://u:{SECRET}@h"}, {**user, "AUDIT_SCHEMA_REGISTRY_TOKEN": SECRET},
        {"AUDIT_KAFKA_SECURITY_OAUTH_CLIENT_SECRET": SECRET}, {"AUDIT_KAFKA_SECURITY_KEY_PASSWORD": SECRET, "AUDIT_RETENTION": "x"},
        {"AUDIT_DATABASE_URL": f"mysql://u:{SECRET}@h/d"}, {"AUDIT_DATABASE_URL": f"postgresql://u:{SECRET}@h/d", "AUDIT_LOG_LEVEL": "x"},
    )  # fmt: skip
    for settings in wrong:
        ear.hear(f"{list(settings)}", f"{place.command('check', **settings).stderr}.")
