"""How a message names its writer's schema: by the first bytes of its value or, where a registry is read, by a header too."""

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from consumer.core.errors import Reason, Rejected
from consumer.core.events import Message, headers_of

SINGLE_OBJECT = b"\xc3\x01"
SINGLE_OBJECT_HEADER = 10
"""Bytes of marker and fingerprint."""
CONFLUENT = 0
CONFLUENT_HEADER = 5
"""Bytes of the marker and a schema's id."""
CONFLUENT_GUID = 1
CONFLUENT_GUID_HEADER = 17
"""Bytes of the marker and a schema's GUID."""
SCHEMA_HEADER = "__value_schema_id"
"""The message header in which Confluent's newer serializers name the schema; the value is then the bare datum."""

Headers = Sequence[tuple[str, bytes | None]]

_LONGEST_ID = 2**31
"""A registry's ids are positive 32-bit integers: nobody need be asked about others."""


class SchemaName(NamedTuple):
    """The id (four bytes) or GUID (sixteen bytes) of a schema, and where the datum begins in the value."""

    name: bytes
    start: int


def registry_name(value: bytes, headers: Headers | None) -> SchemaName | None:
    """The schema that a registry must be asked for; None where the message names none so. The header counts first, as at Confluent's.

    Raises:
        Rejected: `undecodable`, the header is neither.
    """
    for name, content in headers or ():
        if name == SCHEMA_HEADER:
            found = _name(content or b"")
            if found is None or len(content or b"") != found.start:
                raise Rejected(Reason.UNDECODABLE, f"the header {SCHEMA_HEADER} is neither a schema's id nor its GUID")
            return SchemaName(found.name, 0)
    return None if value[:2] == SINGLE_OBJECT else _name(value)


def _name(data: bytes) -> SchemaName | None:
    if data[:1] == bytes((CONFLUENT,)) and len(data) >= CONFLUENT_HEADER:
        return SchemaName(data[1:CONFLUENT_HEADER], CONFLUENT_HEADER)
    if data[:1] == bytes((CONFLUENT_GUID,)) and len(data) >= CONFLUENT_GUID_HEADER:
        return SchemaName(data[1:CONFLUENT_GUID_HEADER], CONFLUENT_GUID_HEADER)
    return None


def may_exist(name: bytes) -> bool:
    """Whether a registry could have given this id or GUID to a schema."""
    return len(name) != CONFLUENT_HEADER - 1 or int.from_bytes(name, "big") < _LONGEST_ID


def shown(name: bytes) -> str:
    """The name as people know it."""
    return f"schema id {int.from_bytes(name, 'big')}" if len(name) == CONFLUENT_HEADER - 1 else f"schema GUID {uuid.UUID(bytes=name)}"


class HeadedMessage:
    """A message whose headers were read, once and for all: the client's own may not be read twice, and this message may have to wait."""

    __slots__ = ("_message", "_unreadable", "schema_headers")

    def __init__(self, message: Message) -> None:
        self._message = message
        self.schema_headers, self._unreadable = headers_of(message)

    def topic(self) -> str | None:
        """As Message."""
        return self._message.topic()

    def partition(self) -> int | None:
        """As Message."""
        return self._message.partition()

    def offset(self) -> int | None:
        """As Message."""
        return self._message.offset()

    def key(self) -> bytes | None:
        """As Message."""
        return self._message.key()

    def value(self) -> bytes | None:
        """As Message."""
        return self._message.value()

    def headers(self) -> Headers | None:
        """As Message, any number of times."""
        if self._unreadable:
            raise SystemError("the client could not represent the headers")
        return self.schema_headers

    def timestamp(self) -> tuple[int, int]:
        """As Message."""
        return self._message.timestamp()
