"""The worker: run() over run_once(). It sees the world through `consumer.core.ports`, and time through two functions.

The way of a batch: consume → decode and map → one transaction → offset commit. While PostgreSQL works on one batch, the next
is consumed, decoded and mapped; there is never more than one write in flight, nor more than two batches in memory. A batch is what
has arrived when it can be written: nobody lingers.

The guarantee: a position in PostgreSQL moves on only in the transaction that accounts for every offset it passes, and only from where
this worker found it. Whatever goes wrong in between, the worker drops what it holds and goes on from PostgreSQL's positions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

from consumer.core.breaker import Breaker
from consumer.core.errors import Cause, ConfigurationError, FencedError, SourceFailedError, TransientError
from consumer.core.events import Partition, PartitionPosition, PartitionSlice
from consumer.core.intake import POLL, Intake
from consumer.core.pause import Backoff
from consumer.core.ports import Observer, Ranges, Source, Standing, Store
from consumer.core.slicing import Cursor, Slices, by_topic

PATIENCE = 1.0
"""Seconds that a write may take before fetching is paused, so that polling can go on without messages."""
WRITE_DEADLINE = 90.0
"""Seconds after which a call to PostgreSQL is cut: no setting of the server ends the wait for a frozen one."""
TOPIC_CHECK = 1.0
"""Seconds between two looks at the topics' ids: a topic that was deleted and made anew is another topic."""
REVOKE_WAIT = 5.0
"""Seconds that a revoke, or the end, waits for the write in flight; the fence makes a later one harmless."""
IDLE_CHECK = 5.0
"""Seconds without a call to the store after which an idle worker looks whether it answers, and whether the positions are still there."""
HELD_CHECK = 30.0
"""Seconds until a partition that is held for what Kafka has in it is looked at again."""
OVERLAP = 0.005
"""Seconds of a write after which what has come meanwhile is decoded beside it: shorter ones are not worth the interpreter's changes."""


class Worker:
    """Moves messages from the source to the store until it is told to stop. For one thread.

    Args:
        source: Kafka.
        store: PostgreSQL.
        intake: makes the next batch of what comes from the same source.
        breaker: says when too much belongs in quarantine.
        monotonic: seconds, never going back.
        backoff: between two tries of the same call.
        observer: logs, metrics and health.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        intake: Intake,
        *,
        breaker: Breaker,
        monotonic: Callable[[], float],
        backoff: Backoff,
        observer: Observer,
    ) -> None:
        self._source = source
        self._store = store
        self._intake = intake
        self._breaker = breaker
        self._monotonic = monotonic
        self._backoff = backoff
        self._observer = observer
        self._cursors: dict[Partition, Cursor] = {}
        self.written: dict[Partition, int] = {}
        """The position that PostgreSQL holds, for each partition that is ours."""
        self._writing: Any = None  # the batch whose write was begun; it stays until its outcome is known
        self._next: Any = None  # the batch rendered meanwhile
        self._opening: dict[Partition, Ranges] = {}  # what start_open was asked for
        self._looking: dict[Partition, str] | None = None  # what start_look was asked for
        self._answered = monotonic()  # when the store last answered
        self._begun = 0.0  # when the call in flight was begun
        self._retry_at: float | None = None
        self._failing: TransientError | None = None  # why the store or the brokers could not be used last time
        self._beyond: dict[Partition, str] = {}  # why there is nothing to read at their position
        self._not_before: dict[Partition, float] = {}  # held partitions, and when they are looked at again
        self._looked_at_topics = monotonic()
        source.before_revoke = self._before_revoke

    def run(self, stopping: Callable[[], bool], done: Callable[[], bool] = lambda: False, *, grace: float = 30.0) -> None:
        """Runs until `stopping`, or until `done` while nothing is held in memory; both are asked between two turns.

        `grace`: seconds that the process has for its end, of which the write in flight gets a third at most.
        """
        while not stopping() and not (self.idle and done()):
            self.run_once()
        self.finish(min(REVOKE_WAIT, grace / 3))

    @property
    def idle(self) -> bool:
        """Whether everything consumed has been written, but for partitions that are held."""
        if self._writing is not None or self._next is not None or not self._intake.empty or self._store.busy:
            return False
        return self._source.unsettled <= self._not_before.keys()

    @property
    def held_partitions(self) -> AbstractSet[Partition]:
        """Those that nobody reads until somebody changes something; `held` says what."""
        return self._not_before.keys()

    def held(self) -> list[str]:
        """Why partitions are held; empty when none is."""
        topics = {partition.topic for partition in self._source.assigned}
        return [*self._beyond.values(), *(reason for topic, reason in self._breaker.open.items() if topic in topics)]

    def run_once(self) -> None:
        """One turn: take the outcome of the write, begin the next one, consume."""
        try:
            self._forget_lost_partitions()
            self._look_at_topics()
            self._take_outcome()
            self._begin_call()
            self._consume()
        except SourceFailedError as error:
            self._observer.event("consumer rebuilt", error=str(error))
            self._drop_everything()
            self._source.reopen()
        self._observer.beat(self._standing())

    def not_ready(self) -> list[str]:
        """Why the worker does not do its job now; empty when it does."""
        failing = str(self._failing) if self._failing is not None else None
        reasons = [reason for reason in (failing, self._source.trouble, self._intake.trouble) if reason]
        reasons += self.held()
        if not self._source.assigned:
            reasons.append("no partition is assigned")
        elif self._source.unsettled and not reasons:
            reasons.append("partitions wait for their position")
        return reasons

    def _standing(self) -> Standing:
        causes = {self._failing.cause} if self._failing is not None else set()
        if self._source.trouble:
            causes.add(Cause.KAFKA)
        if self._intake.trouble:
            causes.add(Cause.REGISTRY)
        if self.held():
            causes.add(Cause.TOPIC)
        topics = {partition.topic for partition in self._source.assigned}
        return Standing(
            self.not_ready(),
            causes,
            self.written,
            self._source.ends,
            beyond_end=len(self._beyond),
            topics_held=len(self._breaker.open.keys() & topics),
            missing_rights=self._source.missing_rights,
        )

    def finish(self, timeout: float = REVOKE_WAIT) -> None:
        """Waits up to `timeout` seconds for the write in flight, and tells Kafka the last positions."""
        if self._store.busy and self._store.wait(timeout):
            with suppress(SourceFailedError):  # there is nothing more to read
                self._take_outcome()

    # --- the write -----------------------------------------------------------------------------------------------------------------

    def _take_outcome(self) -> None:
        if not self._store.busy:
            return
        if not self._store.wait(self._spare_time()):
            self._mind_slow_call()
            return
        # Only here, where the call is over: whatever else fails meanwhile must not change what its result is taken for.
        opening, looking = self._opening, self._looking
        self._opening, self._looking = {}, None
        try:
            result = self._store.result()
        except FencedError:
            self._observer.event("fenced", partitions=len(self._cursors))
            self._drop_everything()
        except ConfigurationError as error:
            self._try_again(error, at_least=1.0)
        except TransientError as error:
            self._try_again(error)
        else:
            self._failing = None
            self._answered = self._monotonic()
            self._backoff.reset()
            self._resume()
            if opening:
                self._start_partitions(opening, result)
            elif looking is not None:
                self._leave_other_positions(looking, result)
            else:
                self._written(result)

    def _spare_time(self) -> float:
        """Seconds to wait for the call in flight: as long as nothing can be done meanwhile, waiting costs nothing."""
        if self._next is not None or self._opening or self._looking is not None or self._monotonic() - self._begun > PATIENCE:
            return POLL
        return 0 if self._intake.full else OVERLAP

    def _mind_slow_call(self) -> None:
        waited = self._monotonic() - self._begun
        if waited > WRITE_DEADLINE:
            self._observer.event("call to PostgreSQL cut", seconds=round(waited, 1))
            self._store.cut()
            self._begun = self._monotonic()
        if waited > PATIENCE:
            self._failing = TransientError("PostgreSQL: no answer yet", Cause.DATABASE)
            self._source.hold()
            self._source.idle(0)

    def _try_again(self, why: TransientError, at_least: float = 0.0) -> None:
        if str(why) != str(self._failing):
            self._observer.event("held", reason=str(why), cause=why.cause.value)
        self._failing = TransientError(str(why), why.cause)  # another one: its traceback would keep a batch in memory
        self._source.hold()
        self._retry_at = self._monotonic() + max(at_least, self._backoff.next())

    def _written(self, result: Any) -> None:
        batch, self._writing = self._writing, None
        offsets = {part.partition: part.next_offset for part in batch.slices}
        for partition, offset in offsets.items():
            if partition in self._cursors:
                self.written[partition] = offset
        self._source.commit(offsets)
        for topic, parts in by_topic(batch.slices).items():
            reasons = [reason for refused, reason in result.quarantined if refused == topic]
            self._breaker.written(topic, sum(part.messages for part in parts), reasons)
        self._observer.batch_written(batch.slices, result, self._monotonic() - self._begun)

    def _begin_call(self) -> None:
        """Begins the most urgent call to the store, if none is in flight: a repeated write, the next one, or the positions."""
        if self._store.busy:
            return
        if self._retry_at is not None:
            if self._monotonic() < self._retry_at:
                return
            self._retry_at = None
        if self._writing is None:
            self._writing, self._next = self._next, None
        if self._writing is not None:
            self._begun = self._monotonic()
            self._store.start_write(self._writing)
        elif unsettled := self._unsettled():
            self._begin_open(unsettled)
        elif self._monotonic() - self._answered > IDLE_CHECK:  # without partitions too: what it shows of the log must not be old
            self._begun = self._monotonic()
            self._looking = {partition: cursor.topic_id for partition, cursor in self._cursors.items()}
            self._store.start_look(self._looking)
        else:  # what failed last was for partitions that are no longer ours
            self._failing = None
            self._resume()

    def _resume(self) -> None:
        """Fetches again, unless there is another reason not to."""
        if not self._intake.asking:
            self._source.resume()

    # --- positions -----------------------------------------------------------------------------------------------------------------

    def _unsettled(self) -> set[Partition]:
        """The partitions that wait for their position, but for those that are held."""
        now = self._monotonic()
        return {each for each in self._source.unsettled if self._not_before.get(each, now) <= now}

    def _begin_open(self, unsettled: Iterable[Partition]) -> None:
        """Asks Kafka for the ends of the partitions, and the store for where to go on."""
        for partition in self._source.unsettled:
            self._forget(partition)
        try:
            self._opening = dict(self._source.ranges(unsettled))
        except TransientError as error:
            self._try_again(error, at_least=0.5)
            return
        if self._opening:
            self._begun = self._monotonic()
            self._store.start_open({partition: (at.topic_id, at.low) for partition, at in self._opening.items()})

    def _start_partitions(self, opening: Mapping[Partition, Ranges], positions: Mapping[Partition, PartitionPosition]) -> None:
        gaps: list[PartitionSlice] = []
        for partition, at in opening.items():
            if partition not in self._source.unsettled:  # lost meanwhile
                continue
            offset = positions[partition].next_offset
            if offset > at.high:
                self._beyond[partition] = (
                    f"the position {offset} of {partition.topic}/{partition.number} is beyond the partition's end {at.high}:"
                    " Kafka lost messages that were read (see docs/promise.md)"
                )
                self._observer.event("position beyond the end", topic=partition.topic, partition=partition.number, position=offset)
                self._not_before[partition] = self._monotonic() + HELD_CHECK
                continue
            self._beyond.pop(partition, None)
            self._not_before.pop(partition, None)
            self._cursors[partition] = Cursor(at.topic_id, max(offset, at.low))
            self.written[partition] = offset
            if offset < at.low:
                # Kafka's retention was faster than we: say so, in the books and aloud, and go on at the earliest.
                self._observer.event("offsets expired", topic=partition.topic, partition=partition.number, first=offset, next=at.low)
                gaps.append(PartitionSlice(partition, at.topic_id, offset, at.low, expired=at.low - offset))
            self._source.start(partition, max(offset, at.low))
        self._source.commit({partition: self.written[partition] for partition in opening if partition in self.written})
        if gaps:
            self._writing = self._store.prepare(gaps)

    def _leave_other_positions(self, looked: Mapping[Partition, str], positions: Mapping[Partition, PartitionPosition]) -> None:
        """A database restored from a backup, or an operator, may have changed positions that no write has asked about since."""
        for partition in looked.keys() & self.written.keys():
            at = positions.get(partition)
            if at is None or at.next_offset != self.written[partition]:
                self._observer.event("position changed", topic=partition.topic, partition=partition.number)
                self._source.unsettle(partition)
                self._forget(partition)

    def _look_at_topics(self) -> None:
        """A topic deleted and made anew is another topic: the client may not notice, and would go on in the middle of it."""
        if self._monotonic() - self._looked_at_topics < TOPIC_CHECK:
            return
        ids = self._source.topics.changed_ids()
        if ids is None:
            return
        self._looked_at_topics = self._monotonic()
        self._leave_old_topics(ids)

    def _leave_old_topics(self, ids: Mapping[str, str]) -> bool:
        old = [each for each, cursor in self._cursors.items() if ids.get(each.topic, cursor.topic_id) != cursor.topic_id]
        for partition in old:
            self._observer.event("topic was made anew", topic=partition.topic, partition=partition.number)
            self._source.unsettle(partition)
            self._forget(partition)
        return bool(old)

    # --- messages ------------------------------------------------------------------------------------------------------------------

    def _consume(self) -> None:
        if self._retry_at is not None:
            self._source.idle(min(POLL, max(0.0, self._retry_at - self._monotonic())))
            return
        if self._next is not None:
            return
        if self._intake.take(self._cursors, patient=not self._store.busy):
            self._leave_rotten_topics()
        elif self._intake.empty and not self._store.busy:
            self._intake.slices = self._skipped_at_the_end()
        if self._intake.slices and (self._intake.full or not self._store.busy):
            self._close_batch()

    def _close_batch(self) -> None:
        """What is gathered is the next batch."""
        slices, seconds = self._intake.close()
        self._observer.batch_decoded(slices, seconds)
        if any(part.skipped for part in slices) and not self._same_topics(slices):
            return
        self._next = self._store.prepare(slices)
        self._begin_call()

    def _leave_rotten_topics(self) -> None:
        """Gathers nothing of topics of which too much belongs in quarantine: they are held."""
        for topic, parts in by_topic(self._intake.slices.values()).items():
            known = topic in self._breaker.open
            if not self._breaker.refuses(topic, parts):
                continue
            if not known:
                self._observer.event("topic held", topic=topic, reason=self._breaker.open[topic])
            for part in parts:
                self._intake.slices.pop(part.partition)
            for partition in self._source.assigned:
                if partition.topic == topic:
                    self._source.unsettle(partition)
                    self._forget(partition)
                    self._not_before[partition] = self._monotonic() + HELD_CHECK

    def _skipped_at_the_end(self) -> Slices:
        """Transaction markers behind the last message are no message, but offsets all the same."""
        slices: Slices = {}
        for partition, offset in self._source.positions().items():
            cursor = self._cursors.get(partition)
            if cursor is not None and offset > cursor.offset:
                skipped = offset - cursor.offset
                slices[partition] = PartitionSlice(partition, cursor.topic_id, cursor.offset, offset, skipped=skipped)
                cursor.offset = offset
        return slices

    def _same_topics(self, slices: Sequence[PartitionSlice]) -> bool:
        """Before a position moves on over a gap: is it still the same topic?"""
        try:
            ranges = self._source.ranges(part.partition for part in slices)
        except TransientError as error:
            self._try_again(error)
        else:
            if not self._leave_old_topics({partition.topic: at.topic_id for partition, at in ranges.items()}):
                return True
        for part in slices:  # read again from PostgreSQL's position
            self._source.unsettle(part.partition)
            self._forget(part.partition)
        return False

    # --- letting go ----------------------------------------------------------------------------------------------------------------

    def _forget_lost_partitions(self) -> None:
        for partition in (self._cursors.keys() | self._not_before.keys()) - self._source.assigned:
            self._forget(partition)
            self._beyond.pop(partition, None)
            self._not_before.pop(partition, None)

    def _forget(self, partition: Partition) -> None:
        """Drops what is held of the partition but not yet being written; a write in flight is left to the fence."""
        self._cursors.pop(partition, None)
        self.written.pop(partition, None)
        self._intake.forget(partition)
        if self._next is not None and any(part.partition == partition for part in self._next.slices):
            rest = [part for part in self._next.slices if part.partition != partition]
            self._next = self._store.prepare(rest) if rest else None

    def _drop_everything(self) -> None:
        """Back to PostgreSQL's positions, for every partition."""
        if not self._store.busy:
            self._writing = None
        self._next = None
        self._intake.clear()
        self._retry_at = None
        self._cursors.clear()
        self.written.clear()
        for partition in self._source.assigned:
            self._source.unsettle(partition)

    def _before_revoke(self) -> None:
        """Inside the client's callback: give the write in flight its time, so that the next owner need not read it again."""
        if self._store.busy and not self._opening and self._retry_at is None:
            self._store.wait(REVOKE_WAIT)
