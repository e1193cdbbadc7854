"""Learning a registry's schemas, over a registry in memory and a clock that stands still until somebody waits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from consumer.core.decoding import MOST_NAMED, Decoder
from consumer.core.errors import ConfigurationError, Reason, Rejected, TransientError
from consumer.core.events import Message
from consumer.core.framing import SCHEMA_HEADER, HeadedMessage
from consumer.core.learning import AT_ONCE, LAGS, MINUTE, MOST_UNKNOWN, PATIENT, Learning
from consumer.core.pause import Backoff
from consumer.schemas import event_schema
from tests.bed.events import FakeMessage, message_value
from tests.bed.memory_registry import MemoryRegistry

SCHEMA = event_schema()
GUID = bytes(range(16))


class Rig:
    """A learning decoder."""

    def __init__(self) -> None:
        self.registry = MemoryRegistry()
        self.decoder = Decoder(SCHEMA, (), 1_048_576, with_registry=True)
        self.now = 1000.0
        self.said: list[str] = []
        self.learning = Learning(
            self.decoder, self.registry, monotonic=lambda: self.now, backoff=Backoff(lambda: 0.5), report=self._report
        )  # fmt: skip

    def _report(self, name: str, **fields: Any) -> None:
        self.said.append(f"{name} {fields.get('schema', '')}".strip())

    def learn(self, messages: Iterable[Message], most: float = 1e9) -> float:
        """Until everything is known; the seconds that it took."""
        began, rest = self.now, list(messages)
        while True:
            readable, rest = self.learning.split(rest)
            assert all(self.decoder.missing(each.value(), each.headers()) is None for each in readable)
            if not rest:
                return self.now - began
            self.now += self.learning.go_on(0.25)
            assert self.now - began < most, self.learning.trouble

    def reason(self, message: Message) -> Reason | None:
        """Why it can't be decoded."""
        try:
            self.decoder.decode(message.value() or b"", message.headers())
        except Rejected as rejected:
            return rejected.reason
        return None


def framed(number: int, offset: int = 0) -> FakeMessage:
    """An event that names its schema by an id."""
    return FakeMessage(b"\x00" + number.to_bytes(4, "big") + message_value()[10:], offset)


def name(number: int) -> bytes:
    """The id as it stands in a message."""
    return number.to_bytes(4, "big")


def in_header(content: bytes, value: bytes | None = None) -> FakeMessage:
    """An event that names its schema in a header."""
    return FakeMessage(message_value()[10:] if value is None else value, 0, headers=[("other", b"x"), (SCHEMA_HEADER, content)])


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (framed(7), name(7)),
        (FakeMessage(b"\x01" + GUID + message_value()[10:], 0), GUID),
        (in_header(b"\x01" + GUID), GUID),
        (in_header(b"\x00" + name(7)), name(7)),
        (in_header(b"\x00" + name(7), b""), name(7)),
    ],
    ids=["id", "GUID", "GUID in a header", "id in a header", "empty"],
)
def test_every_way_of_naming_a_schema(message: FakeMessage, asked: bytes) -> None:
    """Asked for once, then decoded."""
    rig = Rig()
    rig.registry.schemas[asked] = SCHEMA
    rig.learn([message, message])
    rig.learn([message])
    assert rig.registry.asked == [asked]
    assert rig.reason(message) is (None if message.value() else Reason.UNDECODABLE)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (FakeMessage(message_value(), 0), None),
        (FakeMessage(b"\x00\x00\x00", 0), Reason.UNDECODABLE),
        (FakeMessage(b"\x01" + GUID[1:], 0), Reason.UNDECODABLE),
        (FakeMessage(b"garbage", 0), Reason.UNDECODABLE),
        (FakeMessage(b"", 0), Reason.UNDECODABLE),
        (in_header(b"\x01" + GUID[1:]), Reason.UNDECODABLE),
        (in_header(b"\x01" + GUID + b"x"), Reason.UNDECODABLE),
        (in_header(b""), Reason.UNDECODABLE),
        (framed(2**31), Reason.UNKNOWN_SCHEMA),
        (framed(2**32 - 1), Reason.UNKNOWN_SCHEMA),
    ],
)
def test_the_registry_is_not_asked_in_vain(message: FakeMessage, reason: Reason | None) -> None:
    """For what names no schema, or none that a registry could hold."""
    rig = Rig()
    rig.learn([message, FakeMessage(None, 1)])
    assert rig.registry.asked == []
    assert rig.reason(message) is reason


def test_what_comes_before_goes_on() -> None:
    """The messages up to the first one whose schema is missing, in their order."""
    rig = Rig()
    messages = [FakeMessage(message_value(), 0), FakeMessage(message_value(), 1), framed(7, 2), FakeMessage(message_value(), 3)]
    readable, rest = rig.learning.split(messages)
    assert [each.offset() for each in readable] == [0, 1]
    assert [each.offset() for each in rest] == [2, 3]


@pytest.mark.parametrize("failure", [TransientError("Schema registry: down"), ConfigurationError("Schema registry: it refuses us")])
def test_an_outage_refuses_nothing(failure: TransientError) -> None:
    """However long it takes; said once, with the reason, and over by itself."""
    rig = Rig()
    rig.registry.schemas[name(7)] = SCHEMA
    rig.registry.failure = failure
    message = framed(7)
    for _ in range(200):
        assert rig.learning.split([message])[1]
        rig.now += rig.learning.go_on(0.25)
    assert rig.learning.trouble == str(failure)
    assert rig.said == ["held"]
    rig.registry.failure = None
    rig.learn([message], most=10)
    assert rig.learning.trouble is None
    assert rig.reason(message) is None


def test_silence_is_said() -> None:
    """After a second."""
    rig = Rig()
    rig.registry.silent = True
    rig.learning.split([framed(7)])
    rig.learning.go_on(0.25)
    assert rig.learning.trouble is None
    rig.now += 1.1
    rig.learning.go_on(0.25)
    assert rig.learning.trouble == "Schema registry: no answer yet"


def test_replicas_may_lag() -> None:
    """The first no is not believed."""
    rig = Rig()
    message = framed(7)
    rig.learning.split([message])
    rig.learning.go_on(0.25)
    rig.registry.schemas[name(7)] = SCHEMA
    rig.learn([message], most=LAGS[0] + 0.5)
    assert rig.reason(message) is None


def test_a_no_that_lasts_is_believed_for_a_minute() -> None:
    """Then it is asked for again, without the patience of the first time."""
    rig = Rig()
    message = framed(7)
    assert sum(LAGS) <= rig.learn([message]) < sum(LAGS) + 0.1
    assert rig.registry.asked == [name(7)] * (len(LAGS) + 1)
    assert rig.reason(message) is Reason.UNKNOWN_SCHEMA
    rig.now += MINUTE / 2
    assert rig.learn([message]) == 0
    rig.now += MINUTE
    assert rig.learn([message]) == 0
    assert rig.registry.asked == [name(7)] * (len(LAGS) + 2)
    rig.registry.schemas[name(7)] = SCHEMA
    rig.now += MINUTE * 1.1
    rig.learn([message])
    assert rig.reason(message) is None


def test_a_trickle_of_garbage_does_not_stop_the_others() -> None:
    """One unknown id a second: patience is spent a few times a minute only."""
    rig = Rig()
    took = 0.0
    for number in range(1, 60):
        took += rig.learn([framed(number)])
        rig.now += 1
    assert took <= 2 * PATIENT * sum(LAGS)  # it lasts into a second minute


def test_a_flood_of_garbage_asks_within_bounds() -> None:
    """Every id is really asked for before its message is refused, but no more than so many a minute; and that is said."""
    rig = Rig()
    messages = [framed(number) for number in range(1, MOST_UNKNOWN * 2 + 100)]
    took = rig.learn(messages)
    assert set(rig.registry.asked) == {name(number) for number in range(1, MOST_UNKNOWN * 2 + 100)}
    assert 2 * MINUTE <= took < 3 * MINUTE
    assert len(rig.registry.asked) < len(messages) + AT_ONCE * (len(LAGS) + 1) * PATIENT * 3
    assert rig.said.count("held") == 2


def test_more_schemas_than_are_kept_are_asked_for_again() -> None:
    """Memory is bounded, and nothing is lost."""
    rig = Rig()
    messages = [framed(number) for number in range(1, MOST_NAMED + 3)]
    rig.registry.schemas = dict.fromkeys((name(number) for number in range(1, MOST_NAMED + 3)), SCHEMA)
    rig.learn(messages)
    assert len(rig.decoder.named_schemas()) == MOST_NAMED
    assert rig.decoder.missing(messages[0].value(), None) == name(1)
    rig.learn(messages[:1])
    assert rig.reason(messages[0]) is None


HOSTILE: dict[str, Any] = {
    "contains itself": {**SCHEMA, "fields": [{"name": "a", "type": ["null", SCHEMA["namespace"] + "." + SCHEMA["name"]]}]},
    "array of null": {**SCHEMA, "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]},
    "another record": {**SCHEMA, "name": "Other"},
    "bad aliases": {**SCHEMA, "fields": [{**SCHEMA["fields"][0], "aliases": 5}, *SCHEMA["fields"][1:]]},
    "bad default": {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "new", "type": "int", "default": {"a": 1}}]},
    "bad namespace": {**SCHEMA, "namespace": 5},
    "bad name": {**SCHEMA, "fields": [{"name": "0 bad", "type": "string"}]},
}


@pytest.mark.parametrize("schema", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_schema_stops_nobody(schema: Mapping[str, Any]) -> None:
    """Refused or taken: no exception, and the message has its place."""
    rig = Rig()
    rig.registry.schemas[name(7)] = schema
    rig.learn([framed(7)], most=1)
    assert rig.reason(framed(7)) is not Reason.INVALID_EVENT
    assert rig.said[0] in ("schema refused schema id 7", "schema learned schema id 7")


def test_headers_that_can_not_be_read_are_read_once() -> None:
    """The message may wait, and is looked at again and again; its value still names a schema."""

    class Broken(FakeMessage):
        reads = 0

        def headers(self) -> Sequence[tuple[str, bytes | None]] | None:
            self.reads += 1
            raise SystemError

    rig = Rig()
    message = Broken(framed(7).value(), 0)
    rig.registry.failure = TransientError("down")
    rest: list[Message] = [message]
    for _ in range(5):
        _, rest = rig.learning.split(rest)
        rig.now += rig.learning.go_on(0.25)
    assert message.reads == 1
    assert isinstance(rest[0], HeadedMessage)
    with pytest.raises(SystemError):
        rest[0].headers()
