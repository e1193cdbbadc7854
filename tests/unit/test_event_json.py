"""The JSON form of an event: what is taken, how it is encoded, and what an error says."""

from io import BytesIO
from typing import Any

import fastavro
import pytest

from consumer.core.decoding import strip_logical_types
from consumer.core.event_json import EventEncoder, EventJsonError
from consumer.schemas import event_schema
from tests.bed.events import event

ENCODER = EventEncoder(event_schema())
PLAIN = fastavro.parse_schema(strip_logical_types(event_schema()))
HEADER = bytes.fromhex("c301 25180180a6bea738")
TARGET = {"type": "ExternalService", "name": "Box", "id": "s-1"}
TOKEN = {"type": "ApiTokenGenerated", "token_id": "7", "scope": ["Read", "Write"], "validity": {"start": None}}
SECRET = "hunter2"  # noqa: S105 - must never be seen in an error


def _datum(**fields: Any) -> Any:
    return ENCODER.datum(event(**fields))


def test_single_object_encoding_to_the_byte() -> None:
    """Marker, fingerprint, and the shortest encoding that Avro has, written out by hand."""
    value = ENCODER.encode(
        {
            "event_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "occurred_at": "1970-01-01T00:00:00.000064Z",
            "tenant": "acme",
            "result": "FAILED",
            "error_code": "E1",
            "change": {"type": "IntegrationAuthorized", "target": TARGET, "scopes": ["r", "w"]},
        }
    )
    assert value == (
        HEADER
        + b"\x4801890a5d-ac96-774b-bcce-b302099a8057"
        + b"\x80\x01"  # 64 microseconds
        + b"\x08acme"
        + b"\x00\x00"  # no actor, no address
        + b"\x02"  # FAILED
        + b"\x02\x04E1"
        + b"\x12"  # the tenth change
        + b"\x00\x06Box\x06s-1"  # the first kind of target
        + b"\x04\x02r\x02w\x00"  # one block of two, and the end
    )


def test_the_datum_is_what_an_avro_library_reads_back() -> None:
    """Records of unions by their full name, times as microseconds, absent fields as their default."""
    given = _datum(change=TOKEN)
    assert given["change"] == (
        "integration.audit.v1.ApiTokenGenerated",
        {"token_id": "7", "scope": ["Read", "Write"], "validity": {"start": None, "end": None}},
    )
    stream = BytesIO(ENCODER.encode(event(change=TOKEN))[10:])
    found: Any = fastavro.schemaless_reader(stream, PLAIN, None, return_record_name=True)
    assert found["change"] == given["change"]
    assert found.keys() == given.keys()


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.5Z", 500_000),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01T09:00:00+09:00", 0),
        ("1969-12-31T18:30:00-05:30", 0),
        ("2026-11-23T09:00:00.000001Z", 1_795_424_400_000_001),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ("9999-12-31T23:59:59-01:00", 253_402_304_399_000_000),
    ],
)
def test_times(text: str, micros: int) -> None:
    """RFC 3339, to the microsecond, whatever the offset; also where a datetime in UTC would overflow."""
    assert _datum(occurred_at=text)["occurred_at"] == micros


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T09:00:00",  # whose time?
        "2026-11-23 09:00:00Z",
        "2026-11-23T09:00Z",
        "2026-11-23",
        "20261123T090000Z",
        "2026-W48-1T09:00:00Z",
        "2026-11-23T09:00:00,5Z",
        "2026-11-23T09:00:00.0000001Z",  # finer than the schema: nothing is dropped in silence
        "2026-11-23T09:00:00+0900",
        "2026-11-23T09:00:00+24:00",
        "2026-11-23T09:00:00Z ",
        "2026-11-23T09:00:00Z\n",
        "2026-02-30T09:00:00Z",
        "0000-01-01T00:00:00Z",
        "٢٠٢٦-11-23T09:00:00Z",
        "",
        1_795_424_400_000_001,
        True,
        None,
    ],
)
def test_no_times(text: object) -> None:
    """What Python's own parser takes beyond RFC 3339 is refused too."""
    with pytest.raises(EventJsonError, match=r"^occurred_at: expected a time"):
        _datum(occurred_at=text)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"event_id": SECRET}, "event_id: expected a UUID of 36 characters"),
    ({"event_id": "{01890a5d-ac96-774b-bcce-b302099a8057}"}, "event_id: expected a UUID of 36 characters"),
    ({"event_id": "01890a5dac96774bbcceb302099a8057"}, "event_id: expected a UUID of 36 characters"),
    ({"event_id": None}, "event_id: expected a UUID of 36 characters"),
    ({"tenant": None}, "tenant: expected a string"),
    ({"tenant": 7}, "tenant: expected a string"),
    ({"tenant": f"{SECRET}\ud800"}, "tenant: holds a lone surrogate"),
    ({"actor": [SECRET]}, "actor: expected a string"),
    ({"source_ip": 7}, "source_ip: expected a string"),
    ({"result": SECRET}, "result: expected one of SUCCESS, FAILED, VALIDATION_ERROR"),
    ({"result": "VALIDATION ERROR"}, "result: expected one of SUCCESS, FAILED, VALIDATION_ERROR"),
    ({"result": [SECRET]}, "result: expected one of SUCCESS, FAILED, VALIDATION_ERROR"),
    ({"error_code": False}, "error_code: expected a string"),
    ({"change": SECRET}, "change.type: expected one of OAuthClientAdded, "),
    ({"change": {"type": SECRET}}, "change.type: expected one of OAuthClientAdded, "),
    ({"change": {"type": [SECRET]}}, "change.type: expected one of OAuthClientAdded, "),
    ({"change": {"type": "ExternalService", "name": "a", "id": "b"}}, "change.type: expected one of OAuthClientAdded, "),
    ({"change": {"enabled": True}}, "change.type: expected one of OAuthClientAdded, "),
    ({"change": {"type": "SlackSettingUpdated", "enabled": 1}}, "change.enabled: expected true or false"),
    ({"change": {"type": "SlackSettingUpdated", "enabled": "true"}}, "change.enabled: expected true or false"),
    ({"change": {"type": "SlackSettingUpdated"}}, "change.enabled: is missing"),
    ({"change": {"type": "SlackSettingUpdated", "enabled": True, "note": SECRET}}, "change: unknown field 'note'"),
    ({"change": {"type": "IntegrationEnabled", "target": {**TARGET, "name": 7}}}, "change.target.name: expected a string"),
    ({"change": {"type": "IntegrationEnabled", "target": {**TARGET, "type": "Slack"}}}, "change.target.type: expected one of"),
    ({"change": {"type": "IntegrationEnabled", "target": None}}, "change.target.type: expected one of"),
    ({"change": {**TOKEN, "scope": SECRET}}, "change.scope: expected an array"),
    ({"change": {**TOKEN, "scope": ["Read", 7]}}, r"change.scope[1]: expected a string"),
    ({"change": {**TOKEN, "scope": None}}, "change.scope: expected an array"),
    ({"change": {**TOKEN, "validity": None}}, "change.validity: expected an object"),
    ({"change": {**TOKEN, "validity": {"end": SECRET}}}, "change.validity.end: expected a time"),
    ({"change": {**TOKEN, "validity": {"until": None}}}, "change.validity: unknown field 'until'"),
    ({"secret": SECRET}, "the event: unknown field 'secret'"),
    ({"x" * 100_000: SECRET}, "the event: unknown field 'xxxx"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=[message for _, message in WRONG])
def test_an_error_names_the_place_and_never_the_value(fields: dict[str, Any], message: str) -> None:
    """A value may be anything, a secret too; what is wrong with it can be said without it."""
    with pytest.raises(EventJsonError) as caught:
        ENCODER.encode(event(**fields))
    assert str(caught.value).startswith(message)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("field", ["event_id", "occurred_at", "tenant", "result", "change"])
def test_a_missing_field_is_named(field: str) -> None:
    """Only what has a default may be left out."""
    with pytest.raises(EventJsonError, match=rf"^{field}(\.type)?: (is missing|expected)"):
        ENCODER.encode({name: value for name, value in event().items() if name != field})


@pytest.mark.parametrize("content", [None, [], "event", 7])
def test_what_is_no_object_is_no_event(content: object) -> None:
    """Any JSON may stand on a line."""
    with pytest.raises(EventJsonError, match=r"^the event: expected an object"):
        ENCODER.encode(content)
