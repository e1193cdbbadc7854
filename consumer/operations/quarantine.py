"""What an operator does with the quarantine: try messages again, or set them aside for good."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from consumer.core.decoding import Decoder
from consumer.core.errors import ConfigurationError, Reason, Rejected, TransientError
from consumer.core.events import AuditRecord, Message
from consumer.core.framing import Headers
from consumer.core.pause import Backoff
from consumer.core.slicing import record_of
from consumer.postgres.quarantine import Selection
from consumer.postgres.settlement import DONE, Fate, Judged, Rehearsal, Settlement

_TRIES = 4
"""How often a page is tried while PostgreSQL fails."""

_RETRIED = frozenset((*DONE, "already retried"))
_DISCARDED = frozenset(("discarded", "already discarded"))

_T = TypeVar("_T")


class Tally(NamedTuple):
    """What one message of a run came to."""

    id: int
    topic: str | None
    partition: int | None
    offset: int | None
    outcome: str
    error: str | None
    settled: bool  # as was asked for, now or before


def judge(decoder: Decoder, value: bytes | None, kept: tuple[int, int], headers: Headers | None = None) -> AuditRecord | Rejected:
    """What decoding and mapping, the worker's own, make of a message's value today."""
    if value is None:
        return Rejected(Reason.UNDECODABLE, "the value was not kept")
    try:
        return record_of(decoder, value, kept, headers)
    except Rejected as rejected:
        return rejected


class Quarantine:
    """Retries and discards, each in bounded transactions; a run that dies leaves every message either done or as it was.

    Args:
        settlement: the way into the database.
        sleep: waits so many seconds, between tries.
        learn: sees to it that the schemas of these messages are known, as far as anybody knows them; called before they are judged.
    """

    def __init__(
        self,
        settlement: Settlement,
        backoff: Backoff,
        sleep: Callable[[float], None],
        learn: Callable[[Sequence[Message]], None] = lambda _: None,
    ) -> None:
        self._settlement = settlement
        self._backoff = backoff
        self._sleep = sleep
        self._learn = learn

    def retry(self, selection: Selection, decoder: Decoder, kept: tuple[int, int], who: str, *, dry_run: bool) -> Iterator[Tally]:
        """Tries messages again, oldest first; a dry run does the same and rolls it back.

        Raises:
            TransientError: PostgreSQL fails; what was told before is done.
        """
        rehearsal = Rehearsal() if dry_run else None
        named = set(selection.ids)
        for page in self._settlement.pages(selection, whole=True):
            named -= {message.id for message in page}
            self._learn(page)
            judged: list[Judged] = [(message, judge(decoder, message.value(), kept, message.headers())) for message in page]
            yield from _told(self._persistently(partial(self._settlement.retry, judged, who, rehearsal)), _RETRIED)
        yield from _missing(named)

    def discard(self, selection: Selection, who: str, note: str, *, dry_run: bool) -> Iterator[Tally]:
        """Sets messages aside for good, oldest first.

        Raises:
            TransientError: PostgreSQL fails; what was told before is done.
        """
        named = set(selection.ids)
        for page in self._settlement.pages(selection, whole=False):
            named -= {message.id for message in page}
            yield from _told(self._persistently(partial(self._settlement.discard, page, who, note, dry_run=dry_run)), _DISCARDED)
        yield from _missing(named)

    def _persistently(self, call: Callable[[], _T]) -> _T:
        """Again after a failure: a page whose outcome is unknown is found settled, or is still open."""
        for _ in range(_TRIES - 1):
            try:
                return call()
            except ConfigurationError:
                raise
            except TransientError:
                self._sleep(self._backoff.next())
        return call()


def _told(fates: Sequence[Fate], settled: frozenset[str]) -> Iterator[Tally]:
    for fate in fates:
        message = fate.message
        yield Tally(message.id, message.topic(), message.partition(), message.offset(), fate.outcome, fate.error, fate.outcome in settled)


def _missing(ids: set[int]) -> Iterator[Tally]:
    """Of messages that were named and that the selection does not hold."""
    for each in sorted(ids):
        yield Tally(each, None, None, None, "not found", None, settled=False)
