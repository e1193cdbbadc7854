"""What a reader does with the log: see its newest rows, and follow it live."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING

from consumer.core.errors import ConfigurationError, TransientError
from consumer.core.following import Horizon
from consumer.core.pause import Backoff
from consumer.core.reading_out import StoredRecord
from consumer.postgres.log import PAGE, Filters, LogReader

if TYPE_CHECKING:
    from datetime import datetime

_MOMENT = 0.1
"""Seconds between looks for the end of a transaction."""

_PATIENCE = 50
"""Looks before it is said what is waited for."""


def newest(reader: LogReader, filters: Filters, limit: int | None) -> Iterator[StoredRecord]:
    """Rows, newest first, page by page: no transaction stays open while somebody reads, and memory holds one page.

    Raises:
        TransientError: the database could not be asked.
    """
    after: StoredRecord | None = None
    left = limit
    while left is None or left > 0:
        wanted = PAGE if left is None else min(PAGE, left)
        page = reader.newest(filters, after, wanted)
        yield from page
        if len(page) < wanted:
            return
        after = page[-1]
        left = None if left is None else left - len(page)


class Follower:
    """The log live: each row that fits once, none missed, in whatever order transactions commit, over restarts of the database too.

    Within one poll rows come by `occurred_at`, oldest first; a row that was recorded late comes when it appears.

    Args:
        wait: waits so many seconds.
        say: tells the reader what it waits for.
    """

    def __init__(
        self, reader: LogReader, filters: Filters, *, wait: Callable[[float], None], say: Callable[[str], None], backoff: Backoff
    ) -> None:
        self._reader = reader
        self._filters = filters
        self._wait = wait
        self._say = say
        self._backoff = backoff
        self._horizon = Horizon()
        self._since: datetime | None = None  # what was recorded before has been had
        self._had: dict[str, datetime] = {}  # event ids that a poll may meet again, with when they were recorded
        self._failed = False

    def begin(self, limit: int) -> list[StoredRecord]:
        """The newest rows, oldest of them first; what appears after them is `poll`'s.

        Raises:
            TransientError: the database could not be asked.
        """
        self._horizon.look(*self._reader.look())
        for turn in count():
            # Of whoever was writing when we came nobody knows since when. A batch takes moments.
            self._horizon.look(*self._reader.look())
            if self._horizon.known:
                break
            if turn == _PATIENCE:
                self._say("waiting for a transaction that has been writing into the log since before")
            self._wait(_MOMENT)
        self._since = self._horizon.start
        rows, self._had = self._reader.began(self._filters, self._since, limit)
        return rows[::-1]

    def poll(self) -> Iterator[StoredRecord]:
        """What has appeared since. After a failure it waits and ends: the next poll goes on where this one stopped.

        Raises:
            ConfigurationError: the database refuses.
        """
        assert self._since is not None  # noqa: S101 - begin was called
        try:
            self._horizon.look(*self._reader.look())
            for row in self._reader.recorded(self._filters, self._since):
                if row.event_id not in self._had:
                    self._had[row.event_id] = row.recorded_at
                    yield row
        except ConfigurationError:
            raise
        except TransientError as error:
            if not self._failed:
                self._say(f"{error}; trying again")
            self._failed = True
            self._wait(self._backoff.next())
            return
        if self._failed:
            self._say("the database answers again")
        self._failed = False
        self._backoff.reset()
        self._since = self._horizon.start
        self._had = {event: recorded for event, recorded in self._had.items() if recorded >= self._since}
