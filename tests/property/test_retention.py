"""Which months go, for any time and retention."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from consumer.core.clock import kept_range, month_after, month_of
from consumer.core.retention import SPARE, Hold, first_kept, first_moment, touching

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = st.datetimes(datetime(2015, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy wants them bare


def micros(moment: datetime) -> int:
    """As the worker counts."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


@given(_TIMES, st.integers(42, 3653), st.floats(0, 1))
def test_no_month_goes_that_a_worker_may_still_write_into(now: datetime, days: int, late: float) -> None:
    """Not even a worker whose clock is behind by up to the spare; and everything beyond the retention and two months goes."""
    retention = timedelta(days=days)
    first = first_kept(now, retention)
    assert first <= month_of(kept_range(micros(now - SPARE * late), retention)[0])
    assert first >= month_of(micros(now - retention - timedelta(days=32)))
    assert first <= month_of(micros(now - timedelta(weeks=6)))


@given(_TIMES, _TIMES, _TIMES)
def test_a_hold_touches_the_months_of_its_moments(since: datetime, until: datetime, moment: datetime) -> None:
    """Every moment of the period is in a month that is touched, and a month without any is not."""
    hold = Hold(1, None, since, until)
    month = month_of(micros(moment))
    begin, end = first_moment(month), first_moment(month_after(month))
    if since < until:
        assert bool(touching([hold], month)) == (max(begin, since) < min(end, until))
    assert touching([Hold(1, None, None, None)], month)
