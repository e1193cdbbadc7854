"""Avro's primitive values, read strictly: one encoding for each value, and no byte left unexplained."""

import struct
from collections.abc import Callable
from typing import Any

Read = Callable[[bytes, int], tuple[Any, int]]
"""Reads one value at a place: (bytes, place) → (value, next place)."""

MAX_ITEM_VALUES = 10_000
"""Values in the items of all arrays and maps of one message; more is no integration change, and would cost more than its share of time."""

MAX_ALTERED = 65_536
"""Bytes of the longest message whose unstorable characters are made visible: what that takes grows with each, to a second for a MiB."""


_CONTINUED = 0x8080_8080_8080_8080
"""The bit of a varint's byte that says another one follows, in each of eight bytes."""
_SEVEN_CONTINUED = 0x0080_8080_8080_8080


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
    # Eight bytes are what a time of our days takes: their 56 bits are brought together in three steps instead of eight.
    value = int.from_bytes(data[place : place + 8], "little")
    if value & _CONTINUED == _SEVEN_CONTINUED and value >> 56:
        value &= 0x7F7F_7F7F_7F7F_7F7F
        value = value & 0x007F_007F_007F_007F | (value & 0x7F00_7F00_7F00_7F00) >> 1
        value = value & 0x0000_3FFF_0000_3FFF | (value & 0x3FFF_0000_3FFF_0000) >> 2
        value = value & 0x0FFF_FFFF | (value & 0x0FFF_FFFF_0000_0000) >> 4
        place += 8
    else:
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
    """Avro string. Bytes that are no UTF-8 become surrogates, which the mapping makes visible: the event keeps its place in the log.

    Not in a message of more than MAX_ALTERED bytes.
    """
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
        if len(data) > MAX_ALTERED:
            raise MalformedDatumError(place, f"a text that is no UTF-8, in a message of more than {MAX_ALTERED} bytes,") from None
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


def read_block(data: bytes, place: int, most: int) -> tuple[int, int, int | None]:
    """The beginning of a block of at most `most` items.

    Returns:
        The count of its items, where the first one begins, and where the last one must end: a negative count is followed by that.
    """
    count, after = read_long(data, place)
    size = None
    if count < 0:
        count = -count
        size, after = _read_length(data, after)
    if count > most:
        raise MalformedDatumError(place, "too many items")
    return count, after, None if size is None else after + size


def check_block(place: int, end: int | None) -> None:
    """After the last item of a block: its size in bytes must have been right, or there is a second way to say the same."""
    if end is not None and place != end:
        raise MalformedDatumError(place, "a block whose size in bytes is not that of its items")
