"""Values with units, as people write them."""

import re
from datetime import timedelta

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_SECONDS = {
    "ms": 0.001,
    "s": 1,
    "second": 1,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "day": 86_400,
    "d": 86_400,
    "week": 604_800,
    "w": 604_800,
    "year": 31_557_600,  # 365.25 days, so that 3 years never fall short of three calendar years by more than a day
    "y": 31_557_600,
}
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|kB|MB)?")
_BYTES = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "kB": 1000, "MB": 1000**2}


def parse_duration(text: str) -> timedelta:
    """`500ms`, `6s`, `2 min`, `45 days`, `3 years`; a bare number is refused, since nobody knows its unit.

    Raises:
        ValueError: not of this form.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    unit = found[2] if found else ""
    seconds = _SECONDS.get(unit) or _SECONDS.get(unit.removesuffix("s"))
    if found is None or seconds is None:
        raise ValueError("a duration needs a number and a unit, such as 500ms, 6s, 45 days or 3 years")
    try:
        return timedelta(seconds=float(found[1]) * seconds)
    except OverflowError:
        raise ValueError("the duration is too long") from None


def parse_size(text: str) -> int:
    """Bytes: `1048576`, `512 KiB`, `1 MiB`.

    Raises:
        ValueError: not of this form.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError("a size is a number of bytes, or one with KiB or MiB")
    return int(found[1]) * _BYTES[found[2]]
