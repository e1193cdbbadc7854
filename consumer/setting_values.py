"""Values with units, as people write them and read them, and values that must not be shown."""

import re
from datetime import timedelta

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)")
_SECONDS = {
    ("ms",): 0.001,
    ("s", "second", "seconds"): 1,
    ("min", "mins", "minute", "minutes"): 60,
    ("h", "hour", "hours"): 3600,
    ("d", "day", "days"): 86_400,
    ("w", "week", "weeks"): 604_800,
    # 365.25 days, so that 3 years never fall short of three calendar years by more than a day
    ("y", "year", "years"): 31_557_600,
}
_UNITS = {unit: seconds for units, seconds in _SECONDS.items() for unit in units}
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_REGISTRY = re.compile(r"https?://[^/?#@\s]+(/[^?#\s]*)?", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]+)\s*(B|KiB|MiB|kB|MB)?")
_BYTES = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "kB": 1000, "MB": 1000**2}

MASK = "********"
_IN_URL = re.compile(r"(://[^:/@\s]*:).*@")
_IN_ADDRESS = re.compile(r"((?:^|,)\s*[^:/@\s,]*:)[^@/,]*@")
_IN_QUERY = re.compile(r"((?:password|token|secret|(?<!ssl)key)=)[^&]*", re.IGNORECASE)


def parse_duration(text: str) -> timedelta:
    """`500ms`, `6s`, `2 min`, `45 days`, `3 years`; a bare number is refused, since nobody knows its unit.

    Raises:
        ValueError: not of this form.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise ValueError("needs a number and a unit, such as 500ms, 6s, 10 min, 45 days or 3 years")
    try:
        return timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    except OverflowError:
        raise ValueError("is longer than can be counted") from None


def show_duration(value: timedelta) -> str:
    """The way `parse_duration` reads it back, in whole units."""
    for seconds, unit in ((86_400, " days"), (1, "s")):
        if value and value % timedelta(seconds=seconds) == timedelta(0):
            return f"{value // timedelta(seconds=seconds)}{unit}"
    return f"{value // timedelta(milliseconds=1)}ms"


def parse_size(text: str) -> int:
    """Bytes: `1048576`, `512 KiB`, `1 MiB`.

    Raises:
        ValueError: not of this form.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError("needs a number of bytes, or one with KiB or MiB, such as 512 KiB")
    return int(found[1]) * _BYTES[found[2]]


def parse_topics(text: str) -> tuple[str, ...]:
    """Names by comma, each once.

    Raises:
        ValueError: not of this form.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    wrong = [name for name in names if not _TOPIC.fullmatch(name)]
    if wrong or not names:  # the client would read a name that begins with ^ as a pattern
        raise ValueError("needs names of topics by comma, of letters, digits, dots, underscores and hyphens")
    return names


def parse_registry(text: str) -> str:
    """Addresses of one registry by comma, as its client reads them.

    Raises:
        ValueError: not of this form, or with a user, for whom there is a setting that masks the password.
    """
    addresses = [each.strip() for each in text.split(",")]
    if not all(_REGISTRY.fullmatch(each) for each in addresses):
        raise ValueError("needs http or https URLs by comma, without user or query, such as https://registry:8081")
    return ",".join(addresses)


def masked(text: str, *, secret: bool) -> str:
    """The value as it may be shown; of an address only its password is hidden, also where there should be none."""
    if secret and "://" not in text:
        return MASK
    for pattern, shown in ((_IN_URL, rf"\1{MASK}@"), (_IN_ADDRESS, rf"\1{MASK}@"), (_IN_QUERY, rf"\1{MASK}")):
        text = pattern.sub(shown, text)
    return text
