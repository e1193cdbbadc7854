"""What several commands take: lines of text, who sits there, times in a zone, and the filters of the log."""

import getpass
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from consumer.core.actions import ACTIONS, RESULTS
from consumer.postgres.log import Filters
from consumer.setting_values import parse_duration


class _Line(click.ParamType):  # type: ignore[type-arg] # generic only in newer versions of click
    """A text that is not blank and that the database can hold."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if not text or not text.isprintable():
            self.fail("must be one line of text", param, ctx)
        return text


class _LocalTime(click.ParamType):  # type: ignore[type-arg] # generic only in newer versions of click
    """A time; without an offset it is one of the zone that `zoned` puts in."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-11-23 or 2026-11-23T09:00:00Z", param, ctx)


class _Zone(click.ParamType):  # type: ignore[type-arg] # generic only in newer versions of click
    """A time zone by its IANA name."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tzinfo:
        if isinstance(value, tzinfo):
            return value
        if value == "UTC":
            return UTC
        try:
            return ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(f"{value!r} is no time zone such as UTC or Asia/Tokyo", param, ctx)


class _Span(click.ParamType):  # type: ignore[type-arg] # generic only in newer versions of click
    """A duration with its unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


LINE = _Line()
LOCAL_TIME, ZONE, _SPAN = _LocalTime(), _Zone(), _Span()


def user_name() -> str:
    """The user of the operating system; a container's number may have no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def options(*several: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The options as one decorator, in this order."""

    def add(function: Any) -> Any:
        for option in reversed(several):
            function = option(function)
        return function

    return add


def _choice(values: Any) -> click.Choice:  # type: ignore[type-arg] # generic only in newer versions of click
    return click.Choice(list(dict.fromkeys(values)), case_sensitive=False)


by = click.option("--by", type=LINE, default=user_name, show_default="the user of the operating system", help="Who does it.")

log_filters = options(
    click.option("--since", type=LOCAL_TIME, help="Done at this time or later."),
    click.option("--until", type=LOCAL_TIME, help="Done before this time."),
    click.option("--last", type=_SPAN, help="Done within so long before now, such as 2h or 7 days."),
    click.option(
        "--time-zone",
        type=ZONE,
        default="UTC",
        show_default=True,
        metavar="ZONE",
        help="Of the times that are shown, and of those given.",
    ),
    click.option("--tenant", multiple=True, type=LINE, help="Whose log."),
    click.option("--level", multiple=True, type=_choice(each.level for each in ACTIONS)),
    click.option("--user", "login_name", multiple=True, type=LINE, help="Login name of who did it; `nobody` is a value too."),
    click.option("--service", multiple=True, type=LINE),
    click.option("--module", multiple=True, type=_choice(each.module for each in ACTIONS)),
    click.option("--action", multiple=True, type=_choice(each.name for each in ACTIONS), metavar="ACTION", help="See `actions`."),
    click.option("--result", multiple=True, type=_choice(RESULTS.values())),
    click.option("--error-code", multiple=True, type=LINE),
    click.option("--word", "words", multiple=True, type=LINE, help="In a text of the Complement; of several words each."),
)
"""Each may be given several times: any of its values fits, but of --word."""


def filters_of(given: dict[str, Any], zone: tzinfo) -> Filters:
    """The filters as they were given on the command line.

    Raises:
        click.UsageError: they contradict each other, or a time is none, or two, of the zone.
    """
    last = given.pop("last")
    since, until = (in_zone(zone, given.pop(name)) for name in ("since", "until"))
    if last is not None:
        if since is not None:
            raise click.UsageError("give --since or --last, not both")
        try:
            since = datetime.fromtimestamp(time.time(), UTC) - last
        except OverflowError:
            since = None
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must be before --until")
    return Filters(since, until, **given)


def in_zone(zone: tzinfo, moment: datetime | None) -> datetime | None:
    """The time, in the zone where it says none itself.

    Raises:
        click.UsageError: the zone's clocks show it twice, or pass over it: an hour of the log would be in or out by guess.
    """
    if moment is None or moment.tzinfo is not None:
        return moment
    first, second = (moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    before, after = first.utcoffset(), second.utcoffset()
    if before is not None and after is not None and before != after:
        what = f"{moment.isoformat()} is {'twice' if before > after else 'never'} in {zone}, where clocks change"
        raise click.UsageError(f"{what}: give an offset, {first.isoformat()} or {second.isoformat()}")
    return first
