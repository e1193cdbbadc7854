"""Bytes for people: offset, hex, text; with a place marked."""

from collections.abc import Iterator

_WIDTH = 16
_AROUND = 16
"""Lines before and after the marked place that are shown of a long value."""
_WHOLE = 4096
"""A value up to so many bytes is shown whole."""


def hexdump(data: bytes, mark: tuple[int, int] | None = None) -> Iterator[str]:
    """Lines of sixteen bytes; `>` stands before each marked byte, and at the end of the data where the mark is empty and lies there."""
    first, last = 0, len(data) // _WIDTH
    if len(data) > _WHOLE:
        middle = (mark[0] if mark is not None else 0) // _WIDTH
        first, last = max(0, middle - _AROUND), min(last, middle + _AROUND)
    if first:
        yield f"… {first * _WIDTH} bytes before"
    for line in range(first, last + 1):
        start = line * _WIDTH
        text = _line(data, start, mark)
        if text is not None:
            yield text
    rest = len(data) - (last + 1) * _WIDTH
    if rest > 0:
        yield f"… {rest} bytes after"


def _line(data: bytes, start: int, mark: tuple[int, int] | None) -> str | None:
    cells = []
    for place in range(start, start + _WIDTH):
        marked = mark is not None and (mark[0] <= place < mark[1] or mark == (place, place) == (len(data), len(data)))
        cells.append((">" if marked else " ") + (f"{data[place]:02x}" if place < len(data) else "  "))
    if start >= len(data) and not any(cell.startswith(">") for cell in cells):
        return None
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data[start : start + _WIDTH])
    return f"{start:08x} {''.join(cells)}  |{text}|"
