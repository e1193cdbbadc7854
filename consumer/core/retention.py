"""Which months of the log go, and why others stay. Pure."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from consumer.core.clock import kept_range, month_after, month_of

SPARE = timedelta(days=1)
"""How long a month stays after the worker takes no event for it: for clocks that differ, and a batch that was long on its way."""

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Hold(NamedTuple):
    """A legal hold; None: of all tenants, without a beginning, without an end."""

    id: int
    tenant: str | None
    since: datetime | None
    until: datetime | None

    def touches(self, month: date) -> bool:
        """Whether its period has a moment of the month (UTC)."""
        return (self.until is None or first_moment(month) < self.until) and (
            self.since is None or self.since < first_moment(month_after(month))
        )


def first_kept(now: datetime, retention: timedelta) -> date:
    """The first month that stays; the ones before it go."""
    micros = (now - SPARE - _EPOCH) // _MICROSECOND
    return month_of(kept_range(micros, retention)[0])


def first_moment(month: date) -> datetime:
    """The month's beginning, UTC."""
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def touching(holds: Sequence[Hold], month: date) -> list[Hold]:
    """The holds whose period has a moment of the month."""
    return [hold for hold in holds if hold.touches(month)]
