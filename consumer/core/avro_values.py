"""Avro's primitive values, read strictly: one encoding for each value, and no byte left unexplained."""

import struct
from collections.abc import Callable
from typing import Any

Read = Callable[[bytes, int], tuple[Any, int]]
"""Reads one value at a place: (bytes, place) → (value, next place)."""

MAX_ITEMS = 100_000
"""Items of all arrays and maps are at least a byte each; more than this in one array is no integration change."""


class MalformedDatumError(ValueError):
    """The bytes are no datum of the schema. `place` is the byte where reading stopped."""

    def __init__(self, place: int, what: str) -> None:
        super().__init__(f"{what} at byte {place}")
        self.place = place


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    """A 64-bit varint, not yet un-zigzagged; the shortest form only."""
    start = place
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise MalformedDatumError(start, "an over-long varint")
    if (byte == 0 and place - start > 1) or value > 0xFFFF_FFFF_FFFF_FFFF:
        raise MalformedDatumError(start, "an over-long varint")
    return value, place


def read_long(data: bytes, place: int) -> tuple[int, int]:
    """Avro long."""
    value = data[place]
    if value < 0x80:
        return (value >> 1) ^ -(value & 1), place + 1
    value, place = _read_varint(data, place)
    return (value >> 1) ^ -(value & 1), place


def _read_int(data: bytes, place: int) -> tuple[int, int]:
    value, after = read_long(data, place)
    if not -0x8000_0000 <= value <= 0x7FFF_FFFF:
        raise MalformedDatumError(place, "an int beyond 32 bits")
    return value, after


def _read_length(data: bytes, place: int) -> tuple[int, int]:
    value, after = read_long(data, place)
    if value < 0:
        raise MalformedDatumError(place, "a negative length")
    return value, after


def read_string(data: bytes, place: int) -> tuple[str, int]:
    """Avro string. Bytes that are no UTF-8 become surrogates, which the mapping makes visible: the event keeps its place in the log."""
    length = data[place]
    if length < 0x80 and not length & 1:
        place += 1
        end = place + (length >> 1)
    else:
        length, place = _read_length(data, place)
        end = place + length
    raw = data[place:end]
    try:
        return raw.decode(), end
    except UnicodeDecodeError:
        if end > len(data):
            raise IndexError from None
    try:
        return raw.decode(errors="surrogatepass"), end
    except UnicodeDecodeError:
        return raw.decode(errors="surrogateescape"), end


def _read_bytes(data: bytes, place: int) -> tuple[bytes, int]:
    length, place = _read_length(data, place)
    return data[place : place + length], place + length


def _read_boolean(data: bytes, place: int) -> tuple[bool, int]:
    value = data[place]
    if value > 1:
        raise MalformedDatumError(place, "a boolean that is neither 0 nor 1")
    return value == 1, place + 1


def _read_float(data: bytes, place: int) -> tuple[float, int]:
    return struct.unpack_from("<f", data, place)[0], place + 4


def _read_double(data: bytes, place: int) -> tuple[float, int]:
    return struct.unpack_from("<d", data, place)[0], place + 8


def read_null(data: bytes, place: int) -> tuple[None, int]:  # noqa: ARG001 - one signature for all readers
    """Avro null: no bytes at all."""
    return None, place


PRIMITIVES: dict[str, Read] = {
    "string": read_string,
    "bytes": _read_bytes,
    "int": _read_int,
    "long": read_long,
    "float": _read_float,
    "double": _read_double,
    "boolean": _read_boolean,
}


def read_block(data: bytes, place: int, so_far: int) -> tuple[int, int]:
    """The count of a block's items; a negative one is followed by the block's size in bytes, which must be right in its sign."""
    count, after = read_long(data, place)
    if count < 0:
        count = -count
        _, after = _read_length(data, after)
    if so_far + count > MAX_ITEMS:
        raise MalformedDatumError(place, f"more than {MAX_ITEMS} items")
    return count, after
