"""Tells logs, metrics and health what the worker does."""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from consumer.core.errors import Cause, TransientError
from consumer.core.events import Partition, PartitionSlice
from consumer.core.ports import LogState, Standing
from consumer.observe.health import Heartbeat
from consumer.observe.logs import RateLimited
from consumer.observe.metrics import RIGHTS, WorkerMetrics
from consumer.observe.progress import Progress
from consumer.observe.service import ServiceManager
from consumer.observe.traces import Tracing

_WARNINGS = {
    "consumer did not close",
    "consumer did not close cleanly",
    "consumer rebuilt",
    "credentials refused",
    "consumer error",
    "client error",
    "offset commit failed",
    "held",
    "fenced",
    "partitions lost",
    "offsets expired",
    "position beyond the end",
    "topic held",
    "position changed",
    "topic was made anew",
    "call to PostgreSQL cut",
    "messages quarantined",
    "schema unknown",
    "schema refused",
    "state of the log unknown",
}
_ERRORS = {"offsets expired", "position beyond the end", "topic held"}
_FLOODS = {
    "consumer rebuilt",
    "consumer error",
    "client error",
    "fenced",
    "offset commit failed",
    "messages quarantined",
    "schema unknown",
    "schema refused",
}
_REBALANCES = {"partitions assigned": "assigned", "partitions revoked": "revoked", "partitions lost": "lost"}

GAUGES_EVERY = 1.0
"""Seconds between two looks at what only gauges show."""
STATE_KEPT = 120.0
"""Seconds after which what the database said of the log counts as unknown."""


def level_of(name: str) -> str:
    """The level of an event in the logs; `docs/logs.md` has them all."""
    return "error" if name in _ERRORS else "warning" if name in _WARNINGS else "info"


class WorkerObserver:
    """The worker's and the source's one ear; never raises for what it is told."""

    def __init__(
        self,
        metrics: WorkerMetrics,
        heartbeat: Heartbeat,
        monotonic: Callable[[], float],
        service: ServiceManager | None = None,
        *,
        now: Callable[[], float] = time.time,
        tracing: Tracing | None = None,
    ) -> None:
        self._log = structlog.get_logger()
        self._metrics = metrics
        self._heartbeat = heartbeat
        self._service = service or ServiceManager({}, monotonic)
        self._floods = RateLimited(interval=5.0, monotonic=monotonic)
        self._monotonic = monotonic
        self._now = now
        self._progress = Progress(now)
        self._tracing = tracing
        self._held: AbstractSet[Cause] = frozenset()
        self._gauges_at = 0.0  # when they are due
        self._shown: frozenset[Partition] = frozenset()  # with gauges of their own
        self._state: tuple[float, LogState] | None = None  # of the log, and when it was told
        gauges = metrics.quarantine_open, metrics.books_unbalanced, metrics.months_ahead, metrics.retention_horizon
        for number, gauge in enumerate(gauges):
            gauge.set_function(partial(self._of_the_log, number))
        self.not_ready: tuple[str, ...] = ("starting",)

    def event(self, name: str, **fields: Any) -> None:
        """One line in the log, and the metric that belongs to it."""
        if name in _REBALANCES:
            self._metrics.rebalances.labels(kind=_REBALANCES[name]).inc()
        if name in _FLOODS:
            suppressed = self._floods.allow(name)
            if suppressed is None:
                return
            if suppressed:
                fields["suppressed"] = suppressed
        getattr(self._log, level_of(name))(name, **fields)

    @property
    def reads_headers(self) -> bool:
        """Whether it looks at the messages' headers."""
        return self._tracing is not None

    def batch_decoded(self, slices: Sequence[PartitionSlice], seconds: float) -> None:
        """A batch is on its way; for decoding and mapping it took so long."""
        self._metrics.decode_seconds.observe(seconds)
        self._progress.read(slices)

    def batch_written(self, slices: Sequence[PartitionSlice], written: Any, seconds: float) -> None:
        """A transaction was committed."""
        if self._tracing is not None:
            self._tracing.batch_written(slices, seconds)
        metrics = self._metrics
        metrics.batches.inc()
        metrics.write_seconds.observe(seconds)
        metrics.batch_messages.observe(sum(part.next_offset - part.expected for part in slices))
        age = self._progress.written(slices)
        if age is not None:
            metrics.end_to_end_seconds.observe(age)
        for (action, outcome), rows in written.kinds.items():
            metrics.written.labels(action=action, outcome=outcome).inc(rows)
        metrics.duplicates.inc(written.duplicates)
        metrics.tombstones.inc(sum(part.tombstones for part in slices))
        metrics.skipped.inc(sum(part.skipped for part in slices))
        metrics.expired.inc(sum(part.expired for part in slices))
        reasons = Counter(reason.value for _, reason in written.quarantined)
        for reason, messages in reasons.items():
            metrics.quarantined.labels(reason=reason).inc(messages)
        if reasons:
            self.event("messages quarantined", messages=reasons.total(), reasons=sorted(reasons))

    def beat(self, standing: Standing) -> None:
        """The loop made a turn."""
        self._heartbeat.beat()
        reasons = tuple(standing.not_ready)
        changed = reasons != self.not_ready or standing.held != self._held
        if reasons != self.not_ready:
            if not reasons:
                self._log.info("ready")
            elif not self.not_ready:
                self._log.info("not ready", reasons=list(reasons))
            self.not_ready = reasons
        self._service.turn(reasons)
        if changed or self._monotonic() >= self._gauges_at:
            self._gauges_at = self._monotonic() + GAUGES_EVERY
            self._show(standing)

    def log_state(self, state: LogState | TransientError) -> None:
        """What the database said of the log, or why it said nothing. For any thread."""
        if isinstance(state, TransientError):
            self.event("state of the log unknown", reason=str(state))
            return
        self._state = self._monotonic(), state
        self._metrics.database_state.set(self._now())

    def _of_the_log(self, number: int) -> float:
        """A part of its state; NaN while it is unknown: a 0 would say that all is well, an old number that nothing has changed."""
        told = self._state
        return told[1][number] if told is not None and self._monotonic() - told[0] <= STATE_KEPT else math.nan

    def client_state(self, state: Any) -> None:
        """What the Kafka client tells of itself."""
        self._metrics.client_queue_messages.set(state.queue_messages)
        self._metrics.client_queue_bytes.set(state.queue_bytes)
        self._metrics.client_brokers_connected.set(state.brokers_connected)
        self._metrics.client_broker_rtt.set(state.broker_rtt_seconds)

    def stopping(self) -> None:
        """The loop has ended; what is open is being closed."""
        self._service.stopping()

    def _show(self, standing: Standing) -> None:
        metrics = self._metrics
        for cause in Cause:
            metrics.held.labels(cause=cause.value).set(cause in standing.held)
            if cause in standing.held and cause not in self._held:
                metrics.pauses.labels(cause=cause.value).inc()
        self._held = frozenset(standing.held)
        for kind in RIGHTS:
            metrics.missing_rights.labels(kind=kind).set(kind in standing.missing_rights)
        metrics.ready.set(not standing.not_ready)
        metrics.assigned_partitions.set(len(standing.positions))
        metrics.positions_beyond_end.set(standing.beyond_end)
        metrics.topics_held.set(standing.topics_held)
        for partition, offset in standing.positions.items():
            metrics.position.labels(*partition).set(offset)
        for partition, lag in self._progress.lags(standing.positions, standing.ends()).items():
            metrics.lag_offsets.labels(*partition).set(lag.offsets)
            metrics.lag_seconds.labels(*partition).set(lag.seconds)
        for partition in self._shown - standing.positions.keys():
            for gauge in (metrics.position, metrics.lag_offsets, metrics.lag_seconds):
                with suppress(KeyError):  # its end was not known yet
                    gauge.remove(*partition)
        self._shown = frozenset(standing.positions)
