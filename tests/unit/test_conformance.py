"""`validate` on files: each outcome, the field that decides it, what is unwise, and no value of an event."""

import json
import uuid
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from consumer.cli.validate import _shares, command
from consumer.core.conformance import Conformance, Outcome, Place, Verdict
from consumer.core.errors import Reason
from consumer.core.events import Partition
from consumer.kafka.topics import PartitionRange
from consumer.schemas import event_schema, schema_folder
from tests.bed.events import decoder, event, message_value

NOW = datetime.now(UTC)
UUID7 = "01890a5d-ac96-774b-bcce-b302099a8057"
SECRET = "hunter2-and-more"  # noqa: S105 - a marker


def at(**ahead: float) -> str:
    """A time, as the contract writes it."""
    return (NOW + timedelta(**ahead)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def good(**fields: Any) -> dict[str, Any]:
    """An event that nobody can object to."""
    return event(**{"event_id": UUID7, "occurred_at": at(hours=-1), **fields})


def validate(*arguments: str, data: bytes = b"", **environ: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(command, list(arguments), input=data, env=environ)


def told(*lines: object, code: int = 0) -> list[dict[str, Any]]:
    """The verdicts on lines of JSON, and the summary."""
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    done = validate("-", "--json", data=text.encode())
    assert done.exit_code == code, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def judged(value: bytes | None, key: bytes | None = b"acme", *, keyed: bool = True) -> Verdict:
    """The verdict of a fresh judge who knows our schema only."""
    micros = int(NOW.timestamp() * 1_000_000)
    judge = Conformance(decoder(), dict, now=micros, kept=(0, micros + 10**11))
    return judge.judge(Place(line=1), value, None, key, keyed=keyed)


def test_an_example_of_each_change() -> None:
    """The schema's own examples would be written."""
    done = validate(str(schema_folder() / "v1" / "examples.jsonl"))
    assert done.exit_code == 0
    records = [line.split("\t") for line in done.stdout.splitlines()]
    assert {record[1] for record in records[1:]} == {"written"}
    assert len({record[2] for record in records[1:]}) == 10
    assert {len(record) for record in records} == {6}


def test_a_duplicate_and_a_conflict_point_to_the_earlier_one() -> None:
    """By its line; the first one counts."""
    first, again, conflict, last = told(good(), "", good(), good(actor="suzuki"), code=9)
    assert (first["outcome"], first["action"], first["warnings"]) == ("written", "update slack setting", [])
    assert (again["outcome"], again["place"], again["earlier"]) == ("duplicate", {"line": 3}, {"line": 1})
    assert (conflict["outcome"], conflict["reason"], conflict["earlier"]) == ("quarantined", "conflict", {"line": 1})
    assert (conflict["field"], conflict["byte"]) == ("event_id", 10)
    summary = {"messages": 3, "written": 1, "duplicate": 1, "quarantined": 1, "tombstone": 0, "no event": 0, "warnings": 0}
    assert last == {"summary": summary}


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"source_ip": SECRET}, "invalid event", "source_ip"),
        ({"occurred_at": "1999-01-01T00:00:00Z"}, "out of range", "occurred_at"),
        ({"occurred_at": at(days=3)}, "out of range", "occurred_at"),
    ],
)
def test_what_would_be_quarantined(fields: dict[str, Any], reason: str, field: str) -> None:
    """With the reason, the field and its place."""
    verdict, _ = told(good(**fields), code=9)
    assert (verdict["outcome"], verdict["reason"], verdict["field"]) == ("quarantined", reason, field)
    assert verdict["byte"] > 10
    assert SECRET not in json.dumps(verdict)


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        ("{", None, "not JSON"),
        ("7", None, "expected an object"),
        (good(event_id=SECRET), "event_id", "expected a UUID"),
        (good(change={"type": "OAuthClientAdded", "client_name": SECRET, "client_id": 7}), "client_id", "expected a string"),
        ({"tenant": SECRET}, "event_id", "is missing"),
    ],
)
def test_a_line_that_is_no_event(line: object, field: str | None, words: str) -> None:
    """It is told, and the next one is judged all the same."""
    verdict, after, _ = told(line, good(), code=9)
    assert verdict["outcome"] == "no event"
    assert (verdict["field"] or "").rpartition(".")[2] == (field or "")
    assert words in verdict["error"]
    assert field is None or field not in verdict["error"]
    assert SECRET not in json.dumps(verdict)
    assert after["outcome"] == "written"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"event_id": str(uuid.uuid4())}, "event_id"),
        ({"occurred_at": at(hours=3)}, "occurred_at"),
        ({"actor": None}, "actor"),
        ({"actor": "é" * 1_400}, "actor"),
        ({"tenant": "x" * 2_700}, "tenant"),
        ({"tenant": ""}, "tenant"),
        ({"result": "FAILED"}, "error_code"),
        ({"actor": "a\x00b"}, ""),
    ],
)
def test_what_is_legal_but_unwise(fields: dict[str, Any], field: str) -> None:
    """A warning that names the field; the event would be written, and the code is 0."""
    verdict, last = told(good(**fields))
    assert verdict["outcome"] == "written"
    assert [each["field"] for each in verdict["warnings"]] == [field]
    assert last["summary"]["warnings"] == 1


@pytest.mark.parametrize(("key", "keyed", "warned"), [(b"acme", True, []), (b"x", True, ["key"]), (None, True, ["key"]), (None, False, [])])
def test_the_key_is_the_tenant(key: bytes | None, keyed: bool, warned: list[str]) -> None:
    """Where the input tells keys at all."""
    value = message_value(event_id=UUID7, occurred_at=at(hours=-1))
    assert [each.field for each in judged(value, key, keyed=keyed).advice] == warned


def test_a_tombstone_removes_nothing() -> None:
    """It is no failure, but nobody should hope for more."""
    verdict = judged(None)
    assert (verdict.outcome, verdict.accepted, [each.field for each in verdict.advice]) == (Outcome.TOMBSTONE, True, ["value"])


def test_messages_in_base64_and_as_they_are(tmp_path: Path) -> None:
    """One a line, and one a file; where the bytes stop to make sense is told."""
    value = message_value(event_id=UUID7)
    lines = b"\n".join([b64encode(value), b64encode(value[:-1]), b"*", b64encode(b"\xc3\x01" + bytes(8))])
    done = validate("-", "--format", "base64", "--json", data=lines)
    assert done.exit_code == 9
    *verdicts, _ = map(json.loads, done.stdout.splitlines())
    assert [each["outcome"] for each in verdicts] == ["written", "quarantined", "no event", "quarantined"]
    assert [each["reason"] for each in verdicts] == [None, "undecodable", None, "unknown schema"]
    assert [each["byte"] for each in verdicts] == [None, len(value) - 1, None, 2]
    (tmp_path / "message").write_bytes(value + b"\n")
    done = validate(str(tmp_path / "message"), "--format", "binary", "--json")
    verdict = json.loads(done.stdout.splitlines()[0])
    assert (done.exit_code, verdict["reason"], verdict["byte"]) == (9, "undecodable", len(value))


def test_a_long_value_is_not_looked_into() -> None:
    """As the worker has its bound, so has this."""
    value = b64encode(b"\x07" * 21)
    done = validate("-", "--format", "base64", "--json", data=value, AUDIT_MAX_MESSAGE_BYTES="20")
    assert done.exit_code == 9
    verdict = json.loads(done.stdout.splitlines()[0])
    assert (verdict["reason"], verdict["field"], verdict["byte"]) == ("oversized", None, None)


def test_a_limit() -> None:
    """So many messages, and no more."""
    done = validate("-", "--limit", "2", "--json", data=b"x\n" * 5)
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize("name", ["nowhere/events", "nowhere.jsonl"])
def test_a_file_that_is_not_there(name: str) -> None:
    """A path, and a name that can only be a file's, are not looked for in Kafka."""
    done = validate(name)
    assert "can't be read" in str(done.exception)


def test_a_key_of_a_map_is_not_told() -> None:
    """A foreign schema may have maps; their keys are values of the event."""
    schema = event_schema()
    schema["fields"].append({"name": "labels", "type": {"type": "map", "values": "int"}, "default": {}})
    reader = decoder()
    mark = reader.learn(schema)
    bad = b"\xc3\x01" + mark + message_value(event_id=UUID7)[10:] + b"\x02" + bytes([len(SECRET) * 2]) + SECRET.encode()
    judge = Conformance(reader, lambda: {mark: schema}, now=0, kept=(0, 2**62))
    verdict = judge.judge(Place(line=1), bad, None, None, keyed=False)
    assert (verdict.reason, verdict.field) == (Reason.UNDECODABLE, "labels[…]")
    assert SECRET not in str(verdict)


@pytest.mark.parametrize(
    ("sizes", "limit", "shares"),
    [((1, 5, 5), 5, (1, 2, 2)), ((0, 0), 5, (0, 0)), ((9, 9), 1, (1, 0)), ((2, 9), 100, (2, 9)), ((9, 1), 8, (7, 1))],
)
def test_how_a_limit_is_shared(sizes: tuple[int, ...], limit: int, shares: tuple[int, ...]) -> None:
    """As many of each partition, and what one has not, another may have."""
    ranges = {Partition("topic", number): PartitionRange("id", 7, 7 + size) for number, size in enumerate(sizes)}
    assert tuple(_shares(ranges, limit).values()) == shares
