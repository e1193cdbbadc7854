"""Every metric once, with its meaning. No label can take unboundedly many values."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_MESSAGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class WorkerMetrics:
    """The worker's metrics, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        prefix = "integration_audit_"
        self.written = Counter(f"{prefix}events_written", "Audit rows written.", registry=registry)
        self.duplicates = Counter(f"{prefix}duplicates", "Events that the log held already.", registry=registry)
        self.quarantined = Counter(f"{prefix}quarantined", "Messages put into quarantine.", ["reason"], registry=registry)
        self.tombstones = Counter(f"{prefix}tombstones", "Messages with a null value.", registry=registry)
        self.skipped = Counter(f"{prefix}skipped_offsets", "Offsets that hold no message.", registry=registry)
        self.expired = Counter(f"{prefix}expired_offsets", "Offsets removed by Kafka before they were read.", registry=registry)
        self.batches = Counter(f"{prefix}batches", "Transactions committed.", registry=registry)
        self.write_seconds = Histogram(
            f"{prefix}write_seconds", "From the begin of a write to its commit.", buckets=_SECONDS, registry=registry
        )
        self.batch_messages = Histogram(f"{prefix}batch_messages", "Offsets in one transaction.", buckets=_MESSAGES, registry=registry)
        self.pauses = Counter(f"{prefix}pauses", "Times that consumption was held.", ["cause"], registry=registry)
        self.rebalances = Counter(f"{prefix}rebalances", "Changes of the assignment.", ["kind"], registry=registry)
        self.position = Gauge(f"{prefix}position", "Next offset, as PostgreSQL holds it.", ["topic", "partition"], registry=registry)
        self.assigned_partitions = Gauge(f"{prefix}assigned_partitions", "Partitions being read.", registry=registry)
        self.ready = Gauge(f"{prefix}ready", "1 while the worker does its job.", registry=registry)
