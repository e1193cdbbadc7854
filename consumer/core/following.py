"""Which rows may still appear: the cursor of whoever follows the log live.

Rows are stamped (`recorded_at`) when they are inserted and appear when their transaction commits, in another order. A reader that
remembers the newest stamp it saw would miss what a slower transaction brings later. This one remembers who was writing when it looked.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

OVERLAP = timedelta(seconds=5)
"""How far the database's clock may be set back without a row being missed."""


class Horizon:
    """Before `start` no row appears any more.

    The guarantee is kept here. A look is the database's time, and after it the transactions that hold the lock of a writer on the log.
    A row that appears after a snapshot taken later than the look comes from one of those, or from one that took its lock, and so stamped
    its rows, after the look. Of the former, one that an earlier look did not show took its lock after that one.
    """

    def __init__(self) -> None:
        self._looked: datetime | None = None
        self._writers: dict[str, datetime | None] = {}  # since when at the earliest each writes; None: since before we looked

    def look(self, now: datetime, writers: Collection[str]) -> None:
        """Takes a look into account: the time first, the writers' transactions read after it."""
        self._writers = {each: self._writers.get(each, self._looked) for each in writers}
        self._looked = now if self._looked is None else max(now, self._looked)

    @property
    def known(self) -> bool:
        """Whether of every writer it is known since when it writes; until then `start` can't be told."""
        return self._looked is not None and None not in self._writers.values()

    @property
    def start(self) -> datetime:
        """No row with an earlier `recorded_at` appears any more. Never goes back."""
        assert self._looked is not None  # noqa: S101 - asked only when known
        return min([self._looked, *(since for since in self._writers.values() if since is not None)]) - OVERLAP
