"""Retention: which months stay, go or are held, and how the ones that go are removed."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import NamedTuple

from consumer.core.errors import TransientError
from consumer.core.retention import first_kept
from consumer.postgres import retention as sql
from consumer.postgres.connection import Connection
from consumer.postgres.quarantine import Connect
from consumer.setting_values import parse_duration, show_duration

_FINALIZE_TRIES = 300
"""How often the end of an interrupted detaching is tried, some seconds each."""


class Planned(NamedTuple):
    """A month, and what retention makes of it."""

    month: date
    rows: int  # as the statistics have it
    bytes: int
    state: str  # attached; detaching or detached: an earlier removal did not come to its end
    verdict: str  # stays, goes or held
    holds: list[int]


class Removed(NamedTuple):
    """What became of a month that was to go."""

    month: date
    outcome: str  # removed, held, or kept: brought back, since it is to stay now
    rows: int | None  # of the log, counted


class ShorterRetentionError(Exception):
    """Months would go that whoever told the log of its retention last wants to keep. Nothing was changed."""

    def __init__(self, told: timedelta) -> None:
        super().__init__(told)
        self.told = told


def last_told(connect: Connect) -> timedelta | None:
    """The retention that the log was told last, by a worker's start or by `apply`; None: none yet.

    Raises:
        TransientError: the database could not be asked.
    """
    with sql.session(connect) as connection:
        return _last_told(connection)


def _last_told(connection: Connection) -> timedelta | None:
    text = sql.last_retention(connection)
    return None if text is None else parse_duration(text)


def plan(connect: Connect, retention: timedelta) -> list[Planned]:
    """Every month, oldest first; needs only to read. The rows of those that go are counted, of the others estimated.

    Raises:
        TransientError: the database could not be asked.
    """
    with sql.session(connect) as connection:
        return [
            each._replace(rows=sql.rows_in(connection, each.month)) if (each.verdict, each.state) == ("goes", "attached") else each
            for each in _plan(connection, retention)
        ]


def _plan(connection: Connection, retention: timedelta) -> list[Planned]:
    first = first_kept(sql.now(connection), retention)
    active = sql.holds(connection)
    found = []
    for each in sql.months(connection):
        # Of what is out of the log already its removal looks once more, as the owner, who may read it.
        held = sql.holding(connection, each.month, active) if each.state == "attached" else []
        verdict = "stays" if each.month >= first else "held" if held else "goes"
        found.append(Planned(each.month, each.rows, each.bytes, each.state, verdict, held))
    return found


def kept_by(connect: Connect, hold: int) -> list[date]:
    """The months of the log that this hold keeps, as they are now; none where it is released.

    Raises:
        TransientError: the database could not be asked.
    """
    with sql.session(connect) as connection:
        active = [each for each in sql.holds(connection) if each.id == hold]
        attached = [each.month for each in sql.months(connection) if each.state == "attached"]
        return [month for month in attached if sql.holding(connection, month, active)]


def apply(connect: Connect, retention: timedelta, who: str, progress: Callable[[str], None], *, shorten: bool = False) -> Iterator[Removed]:
    """Removes the months that go, one after the other, what an earlier run left first. May be killed at any moment and run again.

    Raises:
        ShorterRetentionError: the log was last told a longer one, and this is not said to `shorten` it.
        TransientError: the database failed, a reader kept a month for too long, or another removal is running.
        ConfigurationError: the role may not become audit_owner.
    """
    with sql.session(connect) as connection:
        remover = sql.Remover(connection, who)
        if not remover.begin():
            raise TransientError("another removal is running: wait for its end")
        told = _last_told(connection)
        if told is not None and retention < told and not shorten:
            raise ShorterRetentionError(told)
        remover.tell_retention(show_duration(retention))
        # Only one month can be half detached at a time, so that one comes first.
        for each in sorted(_plan(connection, retention), key=lambda month: (month.state == "attached", month.month)):
            if each.state != "attached" or each.verdict == "goes":
                yield _remove(remover, each, progress)
            elif each.verdict == "held":
                yield Removed(each.month, "held", None)


def _remove(remover: sql.Remover, each: Planned, progress: Callable[[str], None]) -> Removed:
    month = each.month
    entry = remover.declare(month)
    if each.state == "attached":
        remover.detach(month)
    elif each.state == "detaching":
        _finalize(remover, month)
    if each.verdict == "stays":  # the retention is longer than when its removal began
        remover.keep(month, entry)
        return Removed(month, "kept", None)
    done = 0

    def forgotten(events: int) -> None:
        nonlocal done
        done += events
        progress(f"{month:%Y-%m}: the ledger has forgotten {done} events")

    remover.forget(month, forgotten)
    rows = remover.drop(month, entry)
    if rows is None:  # a hold came in time
        remover.keep(month, entry)
        return Removed(month, "held", None)
    return Removed(month, "removed", rows)


def _finalize(remover: sql.Remover, month: date) -> None:
    for _ in range(_FINALIZE_TRIES):
        if remover.finalize(month):
            return
    raise TransientError(f"a reader has had the log open since before {month:%Y-%m} was detached: end it, and run this again")
