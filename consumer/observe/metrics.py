"""Every metric once, with its meaning; `docs/metrics.md` is made of them. No label can take unboundedly many values."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from consumer import __version__
from consumer.core.actions import ACTIONS, RESULTS
from consumer.core.errors import Cause, Reason

PREFIX = "integration_audit_"
RIGHTS = ("topic", "group")
REBALANCES = ("assigned", "revoked", "lost")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200)
_MESSAGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class WorkerMetrics:
    """The worker's metrics, in a registry of its own. What a closed list of labels can say is there from the start, as 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._count_events()
        self._measure_batches()
        self._watch_partitions()
        self._tell_of_the_worker()
        self._tell_of_the_log()
        self._tell_of_the_client()

    def _count_events(self) -> None:
        self.written = self._counter("events_written", "Rows written to the audit log.", "action", "outcome")
        for action in ACTIONS:
            for outcome in RESULTS.values():
                self.written.labels(action=action.name, outcome=outcome)
        self.duplicates = self._counter("duplicates", "Events that the log held already.")
        self.quarantined = self._counter("quarantined", "Messages put into quarantine.", "reason")
        for reason in Reason:
            self.quarantined.labels(reason=reason.value)
        self.tombstones = self._counter("tombstones", "Messages with a null value.")
        self.skipped = self._counter("skipped_offsets", "Offsets that hold no message: transaction markers, compaction.")
        self.expired = self._counter("expired_offsets", "Offsets that Kafka removed before they were read: events are lost.")

    def _measure_batches(self) -> None:
        self.batches = self._counter("batches", "Transactions committed.")
        self.batch_messages = self._histogram("batch_messages", "Offsets in one transaction.", _MESSAGES)
        self.decode_seconds = self._histogram("decode_seconds", "For decoding and mapping one batch.", _SECONDS)
        self.write_seconds = self._histogram("write_seconds", "From the begin of one batch's write to its commit.", _SECONDS)
        self.end_to_end_seconds = self._histogram(
            "end_to_end_seconds", "From the Kafka timestamp of a batch's oldest message to its commit, once a batch.", _LONG
        )

    def _watch_partitions(self) -> None:
        place = "topic", "partition"
        self.position = self._gauge("position", "Next offset, as PostgreSQL holds it; only of partitions that are read.", *place)
        self.lag_offsets = self._gauge("lag_offsets", "Offsets between the position and the partition's end in Kafka.", *place)
        self.lag_seconds = self._gauge(
            "lag_seconds", "Age of the oldest message that Kafka has and PostgreSQL has not, by its Kafka timestamp; 0: none.", *place
        )
        self.assigned_partitions = self._gauge("assigned_partitions", "Partitions being read.")
        self.positions_beyond_end = self._gauge(
            "positions_beyond_end", "Partitions that are held since their position is beyond Kafka's end: Kafka lost what was read."
        )
        self.topics_held = self._gauge("topics_held", "Topics that are held since too much of them belongs in quarantine.")

    def _tell_of_the_worker(self) -> None:
        self.ready = self._gauge("ready", "1 while the worker does its job.")
        self.held = self._gauge("held", "1 while the worker is kept from its job by this cause.", "cause")
        self.pauses = self._counter("pauses", "How often that began.", "cause")
        for cause in Cause:
            self.held.labels(cause=cause.value)
            self.pauses.labels(cause=cause.value)
        self.missing_rights = self._gauge("missing_rights", "1 while Kafka refuses the right to read this kind of thing.", "kind")
        for kind in RIGHTS:
            self.missing_rights.labels(kind=kind)
        self.rebalances = self._counter("rebalances", "Changes of the assignment.", "kind")
        for kind in REBALANCES:
            self.rebalances.labels(kind=kind)
        self.retention = self._gauge("retention_seconds", "How far back the log is to reach, by AUDIT_RETENTION.")
        self.build_info = self._gauge("build_info", "Always 1; the version that runs.", "version")
        self.build_info.labels(version=__version__).set(1)

    def _tell_of_the_log(self) -> None:
        """All workers of a database see the same."""
        self.quarantine_open = self._gauge("quarantine_open", "Open messages in quarantine; 10000: so many or more.")
        self.books_unbalanced = self._gauge("books_unbalanced", "Partitions whose books do not add up.")
        self.months_ahead = self._gauge("months_ahead", "Whole months of the log made after the current one; -1: not even that one.")
        self.retention_horizon = self._gauge("retention_horizon_timestamp_seconds", "Where the oldest month begins that the log holds.")
        self.database_state = self._gauge("database_state_timestamp_seconds", "When the four above were read from the database.")

    def _tell_of_the_client(self) -> None:
        self.client_queue_messages = self._gauge("client_queue_messages", "Messages that the Kafka client holds ready.")
        self.client_queue_bytes = self._gauge("client_queue_bytes", "Their bytes.")
        self.client_brokers_connected = self._gauge("client_brokers_connected", "Brokers to which the Kafka client is connected.")
        self.client_broker_rtt = self._gauge("client_broker_rtt_seconds", "Mean round trip to the slowest broker, over ten seconds.")

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(PREFIX + name, meaning, buckets=buckets, registry=self._registry)
