"""The schema registry is out of order (18): 500, time-outs, slowness, 404, and answers that no registry gives."""

import signal
from typing import Any

import pytest

from consumer.schemas import event_schema
from tests.bed.events import encoded, events
from tests.bed.health import Health
from tests.bed.registry import Apicurio, Gate, confluent
from tests.bed.worker import Workplace, wait_until


@pytest.fixture
def place(place: Workplace, gate: Gate) -> Workplace:
    """The workplace with a registry behind a gate."""
    place.environment["AUDIT_SCHEMA_REGISTRY_URL"] = gate.url
    return place


def one_more(registry: Apicurio) -> int:
    """The id of a schema that nobody has asked for yet."""
    one_more.count += 1  # type: ignore[attr-defined]
    return registry.register({**event_schema(), "doc": f"variant {one_more.count}"})  # type: ignore[attr-defined]


one_more.count = 0  # type: ignore[attr-defined]

FAULTS: dict[str, tuple[Any, str]] = {
    "500": (500, "HTTP 500"),
    "503": (503, "HTTP 503"),
    "429": (429, "HTTP 429"),
    "401": (401, "refuses us (HTTP 401)"),
    "403": (403, "refuses us (HTTP 403)"),
    "404 of somebody else": (404, "check the path of AUDIT_SCHEMA_REGISTRY_URL"),
    "redirect": (302, "check the path of AUDIT_SCHEMA_REGISTRY_URL"),
    "no JSON": (b"<html>login</html>", "not a registry's"),
    "other JSON": (b'["no", "schema"]', "not a registry's"),
    "no schema": (b'{"id": 7}', "not a registry's"),
    "connection dropped": ("drop", "Protocol"),
}


def test_fault_18_pauses_and_quarantines_nothing(place: Workplace, registry: Apicurio, gate: Gate, health: Health) -> None:
    """Whatever is wrong: alive, not ready with the reason; then the same messages go on."""
    expected = events(len(FAULTS) * 20)
    values = iter(encoded(expected))
    written = 0
    with place.worker(**health.settings) as process:
        for fault, reason in FAULTS.values():
            number = one_more(registry)
            gate.fault = fault
            place.publish([next(values) for _ in range(10)], partition=0)
            place.publish([confluent(number, next(values)) for _ in range(10)], partition=0)
            wait_until(lambda reason=reason: reason in health.reasons, f"not ready for {reason}, but for {health.reasons}")  # type: ignore[misc]
            assert health.live == 200
            wait_until(lambda written=written: place.written() == written + 10, "what came before is written")  # type: ignore[misc]
            gate.heal()
            written += 20
            wait_until(lambda written=written: place.written() == written, f"the same messages are written after {reason}")  # type: ignore[misc]
            wait_until(lambda: health.ready, "ready again")
        assert process.poll() is None
    place.assert_complete(expected)


def test_fault_18_time_out(place: Workplace, registry: Apicurio, gate: Gate, health: Health) -> None:
    """A registry that takes the question and says nothing: alive, not ready, and a stop does not wait for it."""
    number = one_more(registry)
    gate.fault = "hang"
    expected = events(40)
    values = encoded(expected)
    place.publish([*values[:20], *[confluent(number, value) for value in values[20:]]], partition=0)
    with place.worker(**health.settings) as process:
        wait_until(lambda: "no answer yet" in health.reasons, "the silence is said")
        wait_until(lambda: "ReadTimeout" in health.reasons, "the time-out is said")
        assert health.live == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert place.written() == 20
    gate.heal()
    place.drain()
    place.assert_complete(expected)


def test_fault_18_lasting_404(place: Workplace, registry: Apicurio, gate: Gate) -> None:
    """After bounded tries `unknown schema`, and others go on; once the schema is there, `quarantine retry` brings them back."""
    number = one_more(registry) + 1  # the next one's
    expected = events(100)
    values = encoded(expected)
    values[40:60] = [confluent(number, value) for value in values[40:60]]
    place.publish(values, partition=0)
    place.drain()
    assert place.books()["written"] == 80
    assert place.query("SELECT DISTINCT reason, error FROM audit.quarantine") == [
        ("unknown schema", f"the schema registry does not know the schema id {number}")
    ]
    asked = gate.asked.count(f"/schemas/ids/{number}")
    assert 1 < asked < 10
    dry = place.command("quarantine", "retry", "--reason", "unknown schema")
    assert dry.returncode == 9, dry.stderr
    assert one_more(registry) == number
    gate.fault = 500
    broken = place.command("quarantine", "retry", "--reason", "unknown schema", "--yes")
    assert (broken.returncode, broken.stderr.count("Schema registry: HTTP 500")) == (11, 1), broken.stderr
    gate.heal()
    done = place.command("quarantine", "retry", "--reason", "unknown schema", "--yes")
    assert done.returncode == 0, done.stderr
    assert place.value("SELECT count(*) FROM audit.audit_log") == 100
    assert place.value("SELECT count(*) FROM audit.quarantine WHERE status = 'open'") == 0


def test_fault_18_404_of_a_replica_that_lags(place: Workplace, registry: Apicurio, gate: Gate, health: Health) -> None:
    """The schema is registered a moment after its first messages: nothing is quarantined."""
    number = one_more(registry) + 1
    expected = events(50)
    with place.worker(**health.settings):
        place.publish([confluent(number, value) for value in encoded(expected)], partition=0)
        wait_until(lambda: f"/schemas/ids/{number}" in gate.asked, "it was asked for")
        assert one_more(registry) == number
        wait_until(lambda: place.written() == 50, "all is written")
    place.assert_complete(expected)
