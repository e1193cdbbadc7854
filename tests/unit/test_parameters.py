"""Times as they are given on the command line."""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import click
import pytest

from consumer.cli.parameters import filters_of, in_zone

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "zone", "message"),
    [
        ("2026-10-25T02:30", BERLIN, "is twice in Europe/Berlin.*2026-10-25T02:30:00.02:00 or 2026-10-25T02:30:00.01:00"),
        ("2026-10-25T02:00", BERLIN, "is twice"),
        ("2026-03-29T02:30", BERLIN, "is never in Europe/Berlin"),
        ("2026-04-05T01:45", ZoneInfo("Australia/Lord_Howe"), "is twice"),  # half an hour
        ("2018-11-04", ZoneInfo("America/Sao_Paulo"), "is never"),  # clocks changed at midnight
    ],
)
def test_a_time_that_clocks_show_twice_or_never_is_refused(text: str, zone: tzinfo, message: str) -> None:
    """By guess an hour of the log would be in or out."""
    with pytest.raises(click.UsageError, match=message):
        in_zone(zone, datetime.fromisoformat(text))
    with pytest.raises(click.UsageError, match=message):
        filters_of({"since": None, "until": datetime.fromisoformat(text), "last": None}, zone)


@pytest.mark.parametrize(
    ("text", "zone", "utc"),
    [
        ("2026-10-25T01:59:59.999999", BERLIN, "2026-10-24T23:59:59.999999Z"),
        ("2026-10-25T03:00", BERLIN, "2026-10-25T02:00:00Z"),
        ("2026-03-29T03:00", BERLIN, "2026-03-29T01:00:00Z"),
        ("2026-10-25T02:30+01:00", BERLIN, "2026-10-25T01:30:00Z"),
        ("2026-10-25T02:30", UTC, "2026-10-25T02:30:00Z"),
        ("2026-11-23", ZoneInfo("Asia/Tokyo"), "2026-11-22T15:00:00Z"),
    ],
)
def test_any_other_time_is_the_zones(text: str, zone: tzinfo, utc: str) -> None:
    """Also the moments beside a change; and an offset is taken at its word."""
    assert in_zone(zone, datetime.fromisoformat(text)) == datetime.fromisoformat(utc)


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])  # noqa: DTZ901 - what a user may type
def test_the_first_and_the_last_time_there_are(moment: datetime) -> None:
    """No failure of the calendar."""
    assert in_zone(BERLIN, moment) is not None
