"""Tells logs, metrics and health what the worker does."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from consumer.core.events import Partition, PartitionSlice
from consumer.observe.health import Heartbeat
from consumer.observe.logs import RateLimited
from consumer.observe.metrics import WorkerMetrics
from consumer.observe.service import ServiceManager

_WARNINGS = {
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
}
_ERRORS = {"offsets expired", "position beyond the end", "topic held"}
_FLOODS = {"consumer error", "client error", "offset commit failed", "messages quarantined", "schema unknown", "schema refused"}
_CAUSES = {"Kafka": "kafka", "Schema registry": "registry"}
_REBALANCES = {"partitions assigned": "assigned", "partitions revoked": "revoked", "partitions lost": "lost"}


class WorkerObserver:
    """The worker's and the source's one ear; never raises for what it is told."""

    def __init__(
        self, metrics: WorkerMetrics, heartbeat: Heartbeat, monotonic: Callable[[], float], service: ServiceManager | None = None
    ) -> None:
        self._log = structlog.get_logger()
        self._metrics = metrics
        self._heartbeat = heartbeat
        self._service = service or ServiceManager({}, monotonic)
        self._floods = RateLimited(interval=5.0, monotonic=monotonic)
        self.not_ready: tuple[str, ...] = ("starting",)

    def event(self, name: str, **fields: Any) -> None:
        """One line in the log, and the metric that belongs to it."""
        if name in _REBALANCES:
            self._metrics.rebalances.labels(kind=_REBALANCES[name]).inc()
        elif name == "held":
            who = str(fields.get("reason", "")).partition(":")[0]
            self._metrics.pauses.labels(cause=_CAUSES.get(who, "database")).inc()
        if name in _FLOODS:
            suppressed = self._floods.allow(name)
            if suppressed is None:
                return
            if suppressed:
                fields["suppressed"] = suppressed
        level = "error" if name in _ERRORS else "warning" if name in _WARNINGS else "info"
        getattr(self._log, level)(name, **fields)

    def batch_written(self, slices: Sequence[PartitionSlice], written: Any, seconds: float) -> None:
        """A transaction was committed."""
        metrics = self._metrics
        metrics.batches.inc()
        metrics.write_seconds.observe(seconds)
        metrics.batch_messages.observe(sum(part.next_offset - part.expected for part in slices))
        metrics.written.inc(written.written)
        metrics.duplicates.inc(written.duplicates)
        metrics.tombstones.inc(sum(part.tombstones for part in slices))
        metrics.skipped.inc(sum(part.skipped for part in slices))
        metrics.expired.inc(sum(part.expired for part in slices))
        for _, reason in written.quarantined:
            metrics.quarantined.labels(reason=reason.value).inc()
        if written.quarantined:
            reasons = sorted({reason.value for _, reason in written.quarantined})
            self.event("messages quarantined", messages=len(written.quarantined), reasons=reasons)
        for part in slices:
            metrics.position.labels(topic=part.partition.topic, partition=part.partition.number).set(part.next_offset)

    def beat(self, *, not_ready: Sequence[str], positions: Mapping[Partition, int]) -> None:
        """The loop made a turn."""
        self._heartbeat.beat()
        reasons = tuple(not_ready)
        if reasons != self.not_ready:
            if bool(reasons) != bool(self.not_ready):
                self._log.info("not ready" if reasons else "ready", **({"reasons": list(reasons)} if reasons else {}))
            self.not_ready = reasons
            self._metrics.ready.set(0 if reasons else 1)
        self._service.turn(reasons)
        self._metrics.assigned_partitions.set(len(positions))

    def stopping(self) -> None:
        """The loop has ended; what is open is being closed."""
        self._service.stopping()
