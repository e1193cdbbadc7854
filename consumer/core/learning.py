"""Learning the schemas that messages name by a registry's id or GUID: which to ask for, how often, and when the answer is final.

What is asked is known by then: a message is held until its schema is learned or refused, so decoding stays pure and never waits.

An outage is waited for. An id that the registry does not know is asked for again for some seconds, since replicas lag; then it is refused
for a minute. Garbage must harm neither the registry nor the good messages behind it, and every id must really have been asked for before
a message goes into quarantine: so patience is spent a few times a minute only (after that, the first no is final), and the unknown ids
of a minute are bounded (the next ones wait for the minute's end, which is said).
"""

from collections import deque
from collections.abc import Callable, Sequence

from consumer.core.decoding import Decoder
from consumer.core.errors import Cause, ConfigurationError, HostileSchemaError, TransientError
from consumer.core.events import Message
from consumer.core.framing import HeadedMessage, shown
from consumer.core.pause import Backoff
from consumer.core.ports import Answers, Registry

AT_ONCE = 50
"""Ids in one call: the next message can go on after so many, however many are behind it."""
LAGS = (0.5, 1.0, 2.0)
"""Seconds between the tries for an id that the registry does not know (yet)."""
PATIENT = 3
"""How often in a minute anything waits for these lags."""
MOST_UNKNOWN = 600
"""Ids in a minute that turn out to be unknown."""
MINUTE = 60.0
"""Seconds; also how long an id stays refused before it is asked for again."""
SLOW = 1.0
"""Seconds without an answer after which that is said."""


class Learning:
    """Keeps a decoder's schemas up with the messages. For one thread.

    Args:
        decoder: learns.
        registry: who is asked, in the background.
        monotonic: seconds, never going back.
        backoff: between two tries after a failure.
        report: called with an event's name and fields.
    """

    def __init__(
        self, decoder: Decoder, registry: Registry, *, monotonic: Callable[[], float], backoff: Backoff, report: Callable[..., None]
    ) -> None:
        self._decoder = decoder
        self._registry = registry
        self._monotonic = monotonic
        self._backoff = backoff
        self._report = report
        self._wanted: dict[bytes, int] = {}  # what the next messages need, and how often the registry has said no
        self._next_try = 0.0
        self._begun = 0.0
        self._patience: deque[float] = deque()  # when it was spent
        self._unknown: deque[float] = deque()  # when an id turned out to be unknown
        self._refused: dict[bytes, float] = {}  # until when
        self._known_refused: dict[bytes, None] = {}  # ids that were unknown before: patience has been had with them
        self.trouble: str | None = None
        """Why nothing is learned."""
        self.failure: TransientError | None = None
        """The registry could not be asked when it was asked last."""

    def split(self, messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
        """The messages that can be decoded now, up to the first one that can't; and the rest, whose schemas `go_on` asks for."""
        self._expire()
        headed = [each if isinstance(each, HeadedMessage) else HeadedMessage(each) for each in messages]
        missing: dict[bytes, None] = {}
        first = len(headed)
        for number, message in enumerate(headed):
            name = self._decoder.missing(message.value(), message.schema_headers)
            if name is None:
                continue
            first = min(first, number)
            missing[name] = None
            if len(missing) == AT_ONCE:
                break
        self._wanted = {name: self._wanted.get(name, 0) for name in missing}
        if not missing:
            self.trouble = None
        return list(headed[:first]), list(headed[first:])

    def go_on(self, timeout: float) -> float:
        """Asks for what the rest of the last split needs, and takes the answer if it comes within `timeout` seconds.

        Returns:
            Seconds, at most `timeout`, in which there is nothing to do.
        """
        now = self._monotonic()
        if not self._registry.busy:
            if now < self._next_try:
                return min(timeout, self._next_try - now)
            room = self._room(now)
            if not room:
                return timeout
            self._begun = now
            self._registry.start_fetch(list(self._wanted)[:room])
        if self._registry.wait(timeout):
            self._take(self._registry.result())
        elif self.trouble is None and self._monotonic() - self._begun > SLOW:  # what failed before says more
            self._in_trouble("Schema registry: no answer yet")
        return 0.0

    def _room(self, now: float) -> int:
        """How many ids may be asked for."""
        while self._unknown and self._unknown[0] <= now - MINUTE:
            self._unknown.popleft()
        room = MOST_UNKNOWN - len(self._unknown)
        if room <= 0:
            self._in_trouble(
                f"Schema registry: {MOST_UNKNOWN} ids of messages within a minute are unknown to it; the next are asked for later"
            )
        return max(0, room)

    def _take(self, answers: Answers) -> None:
        for name, schema in answers.found.items():
            try:
                mark = self._decoder.learn(schema, name)
            except HostileSchemaError as error:
                answers.refused[name] = str(error)
            else:
                self._report("schema learned", schema=shown(name), fingerprint=mark.hex())
        for name, why in answers.refused.items():
            self._report("schema refused", schema=shown(name), error=why)
            self._refuse(name, f"the {shown(name)} is refused: {why}")
        now = self._monotonic()
        tries = [self._denied(name, now) for name in answers.unknown]
        failure = self.failure = answers.failure
        if failure is None:
            self.trouble = None
            self._backoff.reset()
            self._next_try = now + (LAGS[max(tries) - 1] if any(tries) else 0.0)
        else:
            self._in_trouble(str(failure))
            self._next_try = now + max(1.0 if isinstance(failure, ConfigurationError) else 0.0, self._backoff.next())

    def _denied(self, name: bytes, now: float) -> int:
        """How often the registry has said no, where it is asked once more; 0 where that was final."""
        tries = self._wanted.get(name, 0) + 1
        if tries <= len(LAGS) and (tries > 1 or self._has_patience(name, now)):
            self._wanted[name] = tries
            return tries
        self._unknown.append(now)
        self._report("schema unknown", schema=shown(name))
        self._refuse(name, f"the schema registry does not know the {shown(name)}")
        return 0

    def _has_patience(self, name: bytes, now: float) -> bool:
        if name in self._known_refused:
            return False
        while self._patience and self._patience[0] <= now - MINUTE:
            self._patience.popleft()
        if self._patience and self._patience[-1] == now:  # ids of the same answer wait together
            return True
        if len(self._patience) >= PATIENT:
            return False
        self._patience.append(now)
        return True

    def _refuse(self, name: bytes, why: str) -> None:
        self._decoder.refuse(name, why)
        self._refused[name] = self._monotonic() + MINUTE
        self._known_refused[name] = None
        if len(self._known_refused) > MOST_UNKNOWN * 10:
            del self._known_refused[next(iter(self._known_refused))]

    def _expire(self) -> None:
        """In their order, since all are refused for the same time."""
        now = self._monotonic()
        while self._refused:
            name, until = next(iter(self._refused.items()))
            if until > now:
                break
            del self._refused[name]
            self._decoder.forget(name)

    def _in_trouble(self, why: str) -> None:
        if why != self.trouble:
            self._report("held", reason=why, cause=Cause.REGISTRY.value)
        self.trouble = why
