"""Schemas from a real registry: every framing, references, authentication, TLS, and the commands that ask it."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema

from consumer.cli.exit_codes import ExitCode
from consumer.core.errors import ConfigurationError, HostileSchemaError, TransientError
from consumer.kafka.registry import BackgroundRegistry, SchemaRegistry
from consumer.schemas import event_schema
from consumer.settings import load_settings
from tests.bed.certificates import Certificates
from tests.bed.events import encoded, event, events, message_value
from tests.bed.health import Health
from tests.bed.kafka import KafkaBroker, free_port
from tests.bed.registry import Apicurio, Gate, confluent
from tests.bed.worker import Workplace, wait_until

SCHEMA = event_schema()


@pytest.fixture
def health() -> Health:
    """Where a worker's health is served."""
    return Health()


@pytest.fixture
def place(kafka_broker: KafkaBroker, database: str, topic: str, gate: Gate) -> Workplace:
    """A workplace with a registry."""
    return Workplace(kafka_broker, database, topic, AUDIT_SCHEMA_REGISTRY_URL=gate.url)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that has just begun, on a loaded machine, may take longer for its first answers than a worker waits."""
    monkeypatch.setattr("consumer.kafka.registry.TIMEOUT", 60.0)


def reader(url: str, **settings: str) -> SchemaRegistry:
    """The registry's client, as the settings make it."""
    environment = {"AUDIT_SCHEMA_REGISTRY_URL": url, **{f"AUDIT_SCHEMA_REGISTRY_{name}": text for name, text in settings.items()}}
    return SchemaRegistry(lambda: load_settings(environment).schema_registry_config())


def name(number: int) -> bytes:
    """An id as it stands in a message."""
    return number.to_bytes(4, "big")


def taken_apart() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The event's schema with each named type in a schema of its own, by full name; what is used comes before its user."""
    found: dict[str, dict[str, Any]] = {}

    def take(node: Any) -> Any:
        match node:
            case list():
                return [take(branch) for branch in node]
            case {"type": "record" | "enum", "name": short}:
                fields = [{**field, "type": take(field["type"])} for field in node.get("fields", ())]
                full = f"{SCHEMA['namespace']}.{short}"
                found[full] = {**node, "namespace": SCHEMA["namespace"], **({"fields": fields} if fields else {})}
                return full
            case {"type": "array", "items": items}:
                return {**node, "items": take(items)}
            case str():
                full = f"{SCHEMA['namespace']}.{node}"
                return full if full in found else node
        return node

    take(SCHEMA)
    root = found.popitem()[1]
    return root, found


def register_in_pieces(registry: Apicurio, root: dict[str, Any], parts: Mapping[str, dict[str, Any]], prefix: str) -> int:
    """Each piece under a subject of its own, with references to those that it uses."""

    def references(user: dict[str, Any]) -> list[tuple[str, str, int]]:
        return [(full, f"{prefix}-{full}", 1) for full in parts if f'"{full}"' in json.dumps(user)]

    for full, part in parts.items():
        registry.register(part, *references(part), subject=f"{prefix}-{full}")
    return registry.register(root, *references(root), subject=prefix)


def test_messages_in_confluent_framing_end_in_the_log(place: Workplace, registry: Apicurio, gate: Gate) -> None:
    """Beside others, and the registry is asked once."""
    number = registry.register(SCHEMA)
    expected = events(300)
    values = encoded(expected)
    place.publish([*[confluent(number, value) for value in values[:200]], *values[200:]])
    place.drain()
    place.assert_complete(expected)
    assert gate.asked == [f"/schemas/ids/{number}"]


def test_garbage_is_quarantined_beside_good_ones(place: Workplace, registry: Apicurio) -> None:
    """Ids that nobody knows or gives, schemas that are no event's, and broken data of a known one."""
    number = registry.register(SCHEMA)
    other = registry.register({"type": "record", "name": "Other", "fields": [{"name": "a", "type": "string"}]})
    hostile = registry.register({**SCHEMA, "name": "Loop", "fields": [{"name": "a", "type": ["null", "Loop"]}]})
    no_avro = registry.register('{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}', kind="JSON")
    nul = {"name": "more", "type": {"type": "bytes", "logicalType": "decimal", "precision": "\0"}, "default": ""}
    quoted = registry.register({**SCHEMA, "fields": [*SCHEMA["fields"], nul]})  # by the error of whoever refuses it
    sample = message_value()
    bad = [
        (confluent(999_999, sample), "unknown schema"),
        (confluent(2**31, sample), "unknown schema"),
        (confluent(other, sample), "unknown schema"),
        (confluent(hostile, sample), "unknown schema"),
        (confluent(no_avro, sample), "unknown schema"),
        (confluent(quoted, sample), "unknown schema"),
        (confluent(number, sample[:-1]), "undecodable"),
        (confluent(number, sample + b"\x00"), "undecodable"),
        (b"\x00\x00", "undecodable"),
    ]
    expected = events(100)
    values = [confluent(number, value) for value in encoded(expected)]
    for at, (value, _) in enumerate(bad):
        values.insert(at * 9, value)
    place.publish(values, partition=0)
    place.drain()
    found = place.query("SELECT value, reason, error FROM audit.quarantine ORDER BY kafka_offset")
    assert [(bytes(value), reason) for value, reason, _ in found] == bad
    assert [error for *_, error in found[2:5]] == [
        f"the schema id {other} is refused: the schema's record is not integration.audit.v1.IntegrationChangeEvent",
        f"the schema id {hostile} is refused: a type that contains itself",
        f"the schema id {no_avro} is refused: it is no Avro schema",
    ]
    assert "\\u0000" in found[5][2]
    place.assert_complete(expected, quarantined=len(bad))


def test_reconcile_reads_them_too(place: Workplace, registry: Apicurio, gate: Gate) -> None:
    """Without the registry it would know none of the rows' messages; while it is down, nothing is said of them."""
    number = registry.register(SCHEMA)
    place.publish([confluent(number, value) for value in encoded(events(20))] + [confluent(999_999, message_value())])
    place.drain()
    done = place.command("reconcile")
    assert done.returncode == 0, done.stdout + done.stderr
    unset = place.command("reconcile", AUDIT_SCHEMA_REGISTRY_URL="")
    assert unset.returncode == 9, unset.stdout + unset.stderr
    assert unset.stdout.count("unreadable") == 20
    gate.authorization = "another"
    assert place.command("reconcile").returncode == ExitCode.REGISTRY


def test_references_are_resolved(place: Workplace, registry: Apicurio) -> None:
    """A schema in pieces, as some registries' users keep it: some pieces refer to others."""
    root, parts = taken_apart()
    assert len(parts) > 12
    whole = register_in_pieces(registry, root, parts, "pieces")
    expected = events(20)
    place.publish([confluent(whole, value) for value in encoded(expected)])
    place.drain()
    place.assert_complete(expected)


def test_a_guid_names_a_schema_too() -> None:
    """Through the client's own registry in memory: the real one of the bed keeps no GUIDs."""
    registry = SchemaRegistry(lambda: {"url": "mock://"})
    client: Any = registry._open()
    client.register_schema("subject", Schema(json.dumps(SCHEMA), "AVRO"))
    guid = client.lookup_schema("subject", Schema(json.dumps(SCHEMA), "AVRO")).guid
    found = registry.fetch(bytes.fromhex(guid.replace("-", "")))
    assert found == SCHEMA


def test_an_unknown_guid_is_unknown_where_there_are_none(registry: Apicurio) -> None:
    """The registry of the bed says no in nobody's words; it answers other questions, so this is its answer."""
    assert reader(registry.url).fetch(bytes(range(16))) is None
    wrong = registry.url.replace("/apis/ccompat/v7", "/nowhere")
    with pytest.raises(ConfigurationError, match="check the path"):
        reader(wrong).fetch(bytes(range(16)))


BASIC = "Basic " + base64.b64encode(b"audit:pass:word").decode()


@pytest.mark.parametrize(
    ("wanted", "settings"),
    [(BASIC, {"USERNAME": "audit", "PASSWORD": "pass:word"}), ("Bearer t0ken", {"TOKEN": "t0ken"})],
    ids=["basic", "bearer"],
)
def test_authentication(registry: Apicurio, gate: Gate, wanted: str, settings: Mapping[str, str]) -> None:
    """With the right secret; a wrong one is a configuration to mend, and not in the text."""
    number = registry.register(SCHEMA)
    gate.authorization = wanted
    assert reader(gate.url, **settings).fetch(name(number)) == SCHEMA
    wrong = {**settings, ("TOKEN" if "TOKEN" in settings else "PASSWORD"): "hunter2"}
    with pytest.raises(ConfigurationError, match=r"refuses us \(HTTP 401\)") as caught:
        reader(gate.url, **wrong).fetch(name(number))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError):
        reader(gate.url).fetch(name(number))


def test_a_token_that_rotates_is_read_again(place: Workplace, registry: Apicurio, gate: Gate, health: Health, tmp_path: Path) -> None:
    """Without a restart, once the registry refuses the old one."""
    token = tmp_path / "token"
    token.write_text("old\n")
    gate.authorization = "Bearer old"
    first, second = registry.register(SCHEMA), registry.register({**SCHEMA, "doc": "rotated"})
    expected = events(20)
    values = encoded(expected)
    with place.worker(AUDIT_SCHEMA_REGISTRY_TOKEN_FILE=str(token), **health.settings):
        place.publish([confluent(first, value) for value in values[:10]], partition=0)
        wait_until(lambda: place.written() == 10, "the first token works")
        gate.authorization = "Bearer new"
        place.publish([confluent(second, value) for value in values[10:]], partition=0)
        wait_until(lambda: "refuses us" in health.reasons, "not ready, with the reason")
        token.write_text("new\n")
        wait_until(lambda: place.written() == 20, "the new token works")
    place.assert_complete(expected)


def test_tls(registry: Apicurio, tmp_path: Path) -> None:
    """With the authority's file; without it, or with another's, nothing is read."""
    certificates = Certificates(tmp_path)
    number = registry.register(SCHEMA)
    with Gate(registry, tls=certificates.server(ask_for_client=False)) as gate:
        assert reader(gate.url, CA_FILE=str(certificates.authority)).fetch(name(number)) == SCHEMA
        with pytest.raises(TransientError, match="CERTIFICATE_VERIFY_FAILED"):
            reader(gate.url).fetch(name(number))


def test_mutual_tls(registry: Apicurio, tmp_path: Path) -> None:
    """With a certificate of ours; without one, nothing is read."""
    certificates = Certificates(tmp_path)
    number = registry.register(SCHEMA)
    certificate, key = certificates.issue("worker")
    authority = {"CA_FILE": str(certificates.authority)}
    with Gate(registry, tls=certificates.server(ask_for_client=True)) as gate:
        ours = {"CERTIFICATE_FILE": str(certificate), "KEY_FILE": str(key)}
        assert reader(gate.url, **authority, **ours).fetch(name(number)) == SCHEMA
        with pytest.raises(TransientError, match="Schema registry"):
            reader(gate.url, **authority).fetch(name(number))


def test_a_second_replica_answers(registry: Apicurio, gate: Gate) -> None:
    """Several addresses by comma; the first one is down."""
    number = registry.register(SCHEMA)
    assert reader(f"http://127.0.0.1:{free_port()},{gate.url}").fetch(name(number)) == SCHEMA


def test_the_client_refuses_unusable_settings(tmp_path: Path) -> None:
    """At once, in our words."""
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ConfigurationError, match="refuses its settings"):
        reader("https://localhost", CA_FILE=str(tmp_path / "empty.pem"))


def test_too_many_references_are_refused(registry: Apicurio, monkeypatch: pytest.MonkeyPatch) -> None:
    """One schema can't make us ask for ever."""
    monkeypatch.setattr("consumer.kafka.registry.MOST_REFERENCES", 3)
    whole = register_in_pieces(registry, *taken_apart(), "many")
    with pytest.raises(HostileSchemaError, match="more than 3"):
        reader(registry.url).fetch(name(whole))


def test_one_call_at_a_time(registry: Apicurio) -> None:
    """Several ids in one; what follows a failure is left open."""
    background = BackgroundRegistry(reader(registry.url))
    number = registry.register(SCHEMA)
    background.start_fetch([name(number), name(999_999)])
    with pytest.raises(RuntimeError):
        background.start_fetch([name(number)])
    assert background.wait(10)
    answers = background.result()
    assert (list(answers.found), answers.unknown, answers.failure) == ([name(number)], [name(999_999)], None)
    assert not background.busy


def test_check_and_show_ask_the_registry(place: Workplace, registry: Apicurio, gate: Gate) -> None:
    """Whether it answers, and the remedy; a quarantined message is shown field by field with the registry's schema."""
    number = registry.register(SCHEMA)
    place.publish([confluent(number, message_value(source_ip="not an address"))], partition=0)
    place.drain()
    checked = place.command("check", "--json")
    assert {"what": "schema registry", "found": "answers", "remedy": ""} in json.loads(checked.stdout), checked.stderr
    shown = place.command("quarantine", "show", str(place.value("SELECT id FROM audit.quarantine")))
    assert f"Confluent, schema id {number} (known)" in shown.stdout
    assert "source_ip is not an IP address" in shown.stdout
    gate.fault = 503
    checked = place.command("check", "--json")
    (finding,) = (each for each in json.loads(checked.stdout) if each["what"] == "schema registry")
    assert checked.returncode == 9
    assert (finding["found"], bool(finding["remedy"])) == ("Schema registry: HTTP 503", True)
    shown = place.command("quarantine", "show", str(place.value("SELECT id FROM audit.quarantine")))
    assert "registry     could not be asked: Schema registry: HTTP 503" in shown.stdout
    assert shown.returncode == 0


def test_without_a_registry_all_is_as_before(place: Workplace) -> None:
    """The framing is recognised, and the message waits in quarantine."""
    del place.environment["AUDIT_SCHEMA_REGISTRY_URL"]
    place.publish([confluent(1, message_value())], partition=0)
    place.drain()
    assert place.query("SELECT reason, error FROM audit.quarantine") == [
        ("unknown schema", "Confluent framing with schema id 1, and no schema registry is read")
    ]


def test_a_header_names_the_schema(place: Workplace, registry: Apicurio) -> None:
    """The value is then the bare datum."""
    number = registry.register(SCHEMA)
    sent = event()
    place.publish([encoded([sent])[0][10:]], headers=[("__value_schema_id", b"\x00" + name(number))])
    place.drain()
    place.assert_complete([sent])


def test_validate_asks_the_registry(place: Workplace, registry: Apicurio, gate: Gate) -> None:
    """As the worker does, by header too; without an answer nothing is said of a message, and the code is its own."""
    number = registry.register(SCHEMA)
    value = message_value()
    place.publish([confluent(number, value), confluent(number, value) + b"\x00"], partition=0)
    place.publish([value[10:]], partition=1, headers=[("__value_schema_id", b"\x00" + name(number))])
    told = place.command("validate", place.topic, "--json")
    assert told.returncode == 9, told.stderr
    *verdicts, _ = map(json.loads, told.stdout.splitlines())
    assert [(each["outcome"], each["reason"], each["byte"]) for each in verdicts] == [
        ("written", None, None), ("quarantined", "undecodable", 5 + len(value[10:])), ("duplicate", None, None),
    ]  # fmt: skip
    gate.fault = 503
    told = place.command("validate", place.topic, "--json")
    assert (told.returncode, told.stdout) == (11, "")
    assert "HTTP 503" in told.stderr
