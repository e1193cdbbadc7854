"""The canonical JSON of an audit record: the bytes that are hashed, the same from an event and from a stored row.

Fixed key order, no white space, UTF-8, times in microseconds since 1970 (UTC). Source position and time of writing are not part of it,
so that a redelivery has the same hash, whatever way it came.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from json.encoder import encode_basestring as _quote
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

is_uuid = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
"""Whether a text is a UUID in its 36-character form, the only one that is taken; lower case is the canonical one."""

ESCAPED_NUL = "\\u0000"
"""How NUL shows in JSON."""

quote = _quote
"""A string as JSON, everything beyond the mandatory escapes left as it is."""


def canonical_json(items: Sequence[Any]) -> str:
    """The text whose UTF-8 bytes are hashed, of the first thirteen items of an AuditRecord; its Complement is canonical already."""
    (
        event_id, occurred_at, tenant, level, service, login_name, module, action, result, error_code, complement, subject_type, source_ip,
    ) = items  # fmt: skip
    # Only what an event brings needs escapes; an id and an address have a form without any, the other words are the document's.
    return (
        f'{{"event_id":"{event_id}","occurred_at":{occurred_at},"tenant":{quote(tenant)},"level":"{level}",'
        f'"service":"{service}","login_name":{quote(login_name)},"module":"{module}","action":"{action}",'
        f'"result":"{result}","error_code":{"null" if error_code is None else quote(error_code)},'
        f'"complement":{complement},"subject_type":"{subject_type}",'
        f'"source_ip":{"null" if source_ip is None else quote(source_ip)}}}'
    )


def content_hash(canonical: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return sha256(canonical).digest()


def storable_text(text: str) -> str:
    """The text with NUL and surrogates, which PostgreSQL can't store, made visible as their escapes."""
    # By the codec: a substitution by a function takes a second for a message full of them.
    return text.replace("\x00", ESCAPED_NUL).encode(errors="backslashreplace").decode()


def timestamp_text(micros: int) -> str:
    """RFC 3339 with `Z`; no fraction when it is zero, else six digits.

    Raises:
        OverflowError: the time is outside the years 1 to 9999.
    """
    return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def address_text(address: str) -> str:
    """An IP address in the one form that is hashed: IPv4 dotted, IPv6 written out in full.

    Written out, since the short forms differ between languages and Python versions.

    Raises:
        ValueError: not an address; an IPv6 zone (`%eth0`) is none that PostgreSQL's inet can hold.
    """
    try:
        if ":" in address:
            return inet_pton(AF_INET6, address).hex(":", 2)
        inet_pton(AF_INET, address)
    except OSError:
        raise ValueError("no address, or one with a zone") from None
    return address
