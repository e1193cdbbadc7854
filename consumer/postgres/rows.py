"""Audit records as rows of binary COPY (PostgreSQL documentation, "COPY", "Binary Format")."""

import struct
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_pton

from consumer.core.events import MAX_INDEXED_BYTES, AuditRecord

LOG_COLUMNS = (
    "event_id, occurred_at, kafka_offset, content_hash, kafka_topic, kafka_partition, level, service, module, action, result, subject_type,"
    " tenant, login_name, error_code, source_ip, source_bytes, complement"
)
"""In the order in which a row has least parts: what has a fixed length stands together, what a whole slice shares, and the few words."""
LEDGER_COLUMNS = "event_id, occurred_at, content_hash"

COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"

_POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970
_NULL = b"\xff\xff\xff\xff"
_LEDGER_ROW = struct.Struct(">hi16siqi32s").pack
_LOG_START = struct.Struct(">hi16siqiqi32s").pack
_PARTITION = struct.Struct(">ii").pack
_LENGTH = struct.Struct(">i").pack
_COMPLEMENT = struct.Struct(">ib").pack
_JSONB_VERSION = 1


def text_field(value: str) -> bytes:
    """A text column."""
    data = value.encode()
    return _LENGTH(len(data)) + data


_remembered = lru_cache(maxsize=4096)(text_field)
_MEMORABLE = 256
"""Characters of the longest text that is remembered: thousands of long ones would take gigabytes."""


def _frequent(value: str) -> bytes:
    """A text column whose value often comes again."""
    return _remembered(value) if len(value) <= _MEMORABLE else text_field(value)


@lru_cache(maxsize=64)
def _words(*texts: str) -> bytes:
    """Text columns side by side, of which there are few different ones."""
    return b"".join(map(text_field, texts))


def inet_field(address: str) -> bytes:
    """An inet column of an address in its canonical form: length; family (2 or 3), bits, no network, length, address."""
    if ":" in address:
        return b"\x00\x00\x00\x14\x03\x80\x00\x10" + inet_pton(AF_INET6, address)
    return b"\x00\x00\x00\x08\x02\x20\x00\x04" + inet_pton(AF_INET, address)


def source_fields(topic: str, partition: int) -> bytes:
    """The columns kafka_topic and kafka_partition, the same for a whole slice."""
    return text_field(topic) + _PARTITION(4, partition)


def ledger_row(event_id: bytes, record: AuditRecord) -> bytes:
    """A row of audit.event."""
    return _LEDGER_ROW(3, 16, event_id, 8, record.occurred_at - _POSTGRES_EPOCH, 32, record.content_hash)


def log_row(event_id: bytes, record: AuditRecord, source: bytes, offset: int) -> bytes:
    """A row of audit.audit_log, in the order of LOG_COLUMNS; `source` is made by source_fields."""
    (
        _, occurred_at, tenant, level, service, login_name, module, action, result, error_code,
        complement_text, subject_type, source_ip, content_hash, source_bytes,
    ) = record  # fmt: skip
    complement = complement_text.encode()
    return b"".join(
        (
            _LOG_START(18, 16, event_id, 8, occurred_at - _POSTGRES_EPOCH, 8, offset, 32, content_hash),
            source,
            _words(level, service, module, action, result, subject_type),
            _frequent(tenant),
            _frequent(login_name),
            _NULL if error_code is None else _frequent(error_code),
            _NULL if source_ip is None else inet_field(source_ip),
            _NULL if source_bytes is None else _LENGTH(len(source_bytes)) + source_bytes,
            _COMPLEMENT(len(complement) + 1, _JSONB_VERSION),
            complement,
        )
    )


def is_suspect(record: AuditRecord) -> bool:
    """Whether an index may refuse the row, which would take its COPY along: so it is better written alone."""
    return len(record.tenant) + len(record.login_name) > MAX_INDEXED_BYTES // 4 and (
        len(record.tenant.encode()) > MAX_INDEXED_BYTES or len(record.login_name.encode()) > MAX_INDEXED_BYTES
    )
