"""The samples, and the command that writes and publishes them."""

import json
import uuid
from collections import Counter
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.publish import command
from consumer.core.actions import ACTIONS, RESULTS, TARGETS
from consumer.core.mapping import audit_record
from consumer.core.samples import sample_events
from consumer.schemas import schema_folder
from tests.bed.events import ENCODER, decoder, event

NOW = 1_795_478_400_000_000  # 2026-11-24
EXAMPLES = schema_folder() / "v1/examples.jsonl"


def _samples(count: int = 500, seed: int = 7) -> list[dict[str, Any]]:
    return list(sample_events(count, seed=seed, now=NOW))


def _micros(sample: dict[str, Any]) -> int:
    return int(ENCODER.datum(sample)["occurred_at"])


def test_same_seed_same_samples() -> None:
    """And another seed, others."""
    assert _samples() == _samples()
    assert _samples(seed=8) != _samples()


def test_every_type_in_its_turn() -> None:
    """Ten samples are enough to see all of the document."""
    assert {sample["change"]["type"] for sample in _samples(10)} == {action.change_type for action in ACTIONS}
    assert set(Counter(sample["change"]["type"] for sample in _samples(500)).values()) == {50}


def test_samples_are_as_varied_as_real_events() -> None:
    """Both targets, all results with a code where it failed, several tenants, absent actors and addresses, both families."""
    samples = _samples()
    assert {sample["change"]["target"]["type"] for sample in samples if "target" in sample["change"]} == set(TARGETS)
    assert {sample["result"] for sample in samples} == set(RESULTS)
    assert all((sample["result"] == "SUCCESS") != ("error_code" in sample) for sample in samples)
    assert len({sample["tenant"] for sample in samples}) > 1
    assert {sample["actor"] is None for sample in samples} == {True, False}
    addresses = [sample["source_ip"] for sample in samples]
    assert {address and ip_address(address).version for address in addresses} == {None, 4, 6}


def test_ids_are_uuid7_of_the_event_s_time() -> None:
    """Unique, and in the order of time, which indexes like."""
    samples = _samples()
    assert len({sample["event_id"] for sample in samples}) == len(samples)
    for sample in samples:
        value = uuid.UUID(sample["event_id"])
        assert (value.version, value.variant) == (7, uuid.RFC_4122)
        assert value.int >> 80 == _micros(sample) // 1000


def test_samples_lie_before_now() -> None:
    """An event of the future would be out of range."""
    assert all(NOW - 10_000_000 < _micros(sample) < NOW for sample in _samples())


def test_samples_become_audit_records() -> None:
    """The way of a message without Kafka and PostgreSQL."""
    for sample in _samples(50):
        value = ENCODER.encode(sample)
        assert audit_record(decoder().decode(value), value).event_id == sample["event_id"]


def _publish(*arguments: str, content: str | bytes | None = None) -> Result:
    return CliRunner().invoke(command, arguments, input=content, standalone_mode=False)


def _line(**fields: Any) -> str:
    return json.dumps(event(**fields)) + "\n"


def test_output_of_samples_can_be_published_again(tmp_path: Path) -> None:
    """One valid event a line on stdout; the outcome beside it on stderr."""
    made = _publish("--sample", "20", "--seed", "1", "--output", "-")
    assert made.exception is None
    assert made.stderr == "wrote 20 events\n"
    again = _publish("-", "--output", str(tmp_path / "out.jsonl"), "--json", content=made.stdout)
    assert json.loads(again.stderr) == {"written": 20}
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == made.stdout


def test_examples_are_valid_input() -> None:
    """What the schemas' folder shows is what the command reads."""
    found = _publish(str(EXAMPLES), "--output", "-")
    assert found.exception is None
    assert found.stdout == EXAMPLES.read_text(encoding="utf-8")


BAD_LINES = {
    "field": (_line(change={"type": "ApiTokenDeleted", "token_id": 7}), "change.token_id: expected a string"),
    "no object": ("[]\n", "the event: expected an object"),
    "no JSON": ("{\n", "not JSON"),
    "no UTF-8": (b'"\xff"\n', "not JSON"),
    "too deep": ("[" * 100_000 + "\n", "not JSON"),
    "a key twice": ('{"tenant": "a", "tenant": "b"}\n', "a key stands twice in one object"),
    "no end of line": ("{", "not JSON"),
}


@pytest.mark.parametrize(("line", "message"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_numbered_as_an_editor_does(line: str | bytes, message: str) -> None:
    """Empty lines count but are passed over; what stands before the bad line is kept, what stands after it is not read."""
    bad = line if isinstance(line, bytes) else line.encode()
    found = _publish("-", "--output", "-", content=f"{_line()}\n{_line()}".encode() + bad)
    assert isinstance(found.exception, CommandError)
    assert str(found.exception) == f"line 4: {message}; 2 events before it were written"
    assert found.exception.exit_code == ExitCode.INPUT
    assert len(found.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either FILE or --sample"),
        ((str(EXAMPLES), "--sample", "3"), "either FILE or --sample"),
        ((str(EXAMPLES), "--seed", "3"), "--seed goes with --sample"),
    ],
)
def test_contradictions_are_usage_errors(arguments: tuple[str, ...], message: str) -> None:
    """Exactly one source of events."""
    found = _publish(*arguments)
    assert isinstance(found.exception, click.UsageError)
    assert message in found.exception.message


def test_rate_spreads_the_events() -> None:
    """Ten events at 50 a second take nine fiftieths."""
    begin = datetime.now().astimezone()
    assert _publish("--sample", "10", "--rate", "50", "--output", "-").exception is None
    assert (datetime.now().astimezone() - begin).total_seconds() >= 0.18
