"""The canonical JSON of an audit record: the bytes that are hashed, the same from an event and from a stored row.

Fixed key order, no white space, UTF-8, times in microseconds since 1970 (UTC). Source position and time of writing are not part of it,
so that a redelivery has the same hash, whatever way it came.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address
from json.encoder import encode_basestring as _quote

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_LONGEST_ADDRESS = 45
"""Characters: six groups of IPv6 and an IPv4 address. What is kept in the cache is bounded by it, too."""

is_uuid = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
"""Whether a text is a UUID in its 36-character form, the only one that is taken; lower case is the canonical one."""

quote = _quote
"""A string as JSON, everything beyond the mandatory escapes left as it is."""


def canonical_json(  # noqa: PLR0917 - one parameter for each item of the record, in the canonical order
    event_id: str,
    occurred_at: int,
    tenant: str,
    level: str,
    service: str,
    login_name: str,
    module: str,
    action: str,
    result: str,
    error_code: str | None,
    complement: str,
    subject_type: str,
    source_ip: str | None,
) -> str:
    """The text whose UTF-8 bytes are hashed. `complement` is canonical JSON text already; the fixed words need no escapes."""
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


def timestamp_text(micros: int) -> str:
    """RFC 3339 with `Z`; no fraction when it is zero, else six digits.

    Raises:
        OverflowError: the time is outside the years 1 to 9999.
    """
    return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


@lru_cache(maxsize=16_384)
def address_text(address: str) -> str:
    """An IP address in the one form that is hashed: IPv4 dotted, IPv6 written out in full.

    Written out, since the short forms differ between languages and Python versions.

    Raises:
        ValueError: not an address; an IPv6 zone (`%eth0`) is none that PostgreSQL's inet can hold.
    """
    if len(address) > _LONGEST_ADDRESS or "%" in address:
        raise ValueError("no address, or one with a zone")
    if ":" not in address:
        return str(IPv4Address(address))
    digits = f"{int(IPv6Address(address)):032x}"  # `exploded` would parse it twice more
    return ":".join([digits[at : at + 4] for at in range(0, 32, 4)])
