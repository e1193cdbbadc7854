"""Months and the kept range, in microseconds since 1970 (UTC)."""

from datetime import UTC, date, datetime, timedelta

DAY = 86_400_000_000
"""Microseconds of a day."""

_EPOCH = date(1970, 1, 1)


def month_of(micros: int) -> date:
    """First day of the month that holds the time, in UTC."""
    return (_EPOCH + timedelta(days=micros // DAY)).replace(day=1)


def month_after(month: date, months: int = 1) -> date:
    """First day of the month `months` later (or earlier, where negative)."""
    index = month.year * 12 + month.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


def start_of(month: date) -> int:
    """The month's first microsecond."""
    return int(datetime(month.year, month.month, 1, tzinfo=UTC).timestamp()) * 1_000_000


def kept_range(now: int, retention: timedelta) -> tuple[int, int]:
    """First and last time that the log takes: whole months back to the retention, one day ahead for clocks that run fast."""
    oldest = now - retention // timedelta(microseconds=1)
    return start_of(month_of(oldest)), now + DAY
