"""What the observer makes of what it is told: metrics that are true, and no floods."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from consumer.core.errors import Cause, Reason, TransientError
from consumer.core.events import Partition, PartitionSlice
from consumer.core.ports import LogState, Standing
from consumer.observe.health import Heartbeat
from consumer.observe.metrics import PREFIX, WorkerMetrics
from consumer.observe.observer import WorkerObserver
from consumer.observe.progress import Lag, Progress
from consumer.postgres.store import Written

P0, P1 = Partition("topic", 0), Partition("topic", 1)
START = 1_795_478_400.0


class Rig:
    """An observer with clocks that stand still."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.registry = CollectorRegistry()
        clock = lambda: self.passed  # noqa: E731 - a clock
        self.observer = WorkerObserver(WorkerMetrics(self.registry), Heartbeat(clock), clock, now=lambda: START + self.passed)

    def value(self, name: str, **labels: str) -> float | None:
        """Of a metric; None where there is no such series."""
        return self.registry.get_sample_value(PREFIX + name, labels)

    def beat(self, standing: Standing) -> None:
        """A turn, two seconds after the last one."""
        self.passed += 2
        self.observer.beat(standing)


@pytest.fixture(name="rig")
def _rig() -> Rig:
    return Rig()


def _slice(partition: Partition, expected: int, following: int, ago: float = 0.0, **counts: int) -> PartitionSlice:
    return PartitionSlice(partition, "id", expected, following, first_at=int((START - ago) * 1000), **counts)


def _standing(positions: Mapping[Partition, int], ends: Mapping[Partition, int], **others: Any) -> Standing:
    return Standing((), positions=positions, ends=lambda: ends, **others)


def test_a_batch_is_counted_by_what_became_of_it(rig: Rig) -> None:
    """By action and result, by reason, and by what was no event."""
    kinds = {("add oauth client", "SUCCESS"): 3, ("add oauth client", "FAILED"): 1}
    written = Written(4, 2, (("topic", Reason.CONFLICT), ("topic", Reason.CONFLICT), ("topic", Reason.OVERSIZED)), kinds)
    slices = [_slice(P0, 0, 10, ago=7, tombstones=1), _slice(P1, 5, 10, ago=90, skipped=2, expired=3)]
    rig.observer.batch_decoded(slices, 0.25)
    rig.observer.batch_written(slices, written, 0.5)
    assert rig.value("events_written_total", action="add oauth client", outcome="SUCCESS") == 3
    assert rig.value("events_written_total", action="add oauth client", outcome="FAILED") == 1
    assert rig.value("events_written_total", action="delete API token", outcome="SUCCESS") == 0
    assert rig.value("quarantined_total", reason="conflict") == 2
    assert rig.value("quarantined_total", reason="oversized") == 1
    counts = {"duplicates_total": 2, "tombstones_total": 1, "skipped_offsets_total": 2, "expired_offsets_total": 3, "batches_total": 1}
    sums = {"decode_seconds_sum": 0.25, "write_seconds_sum": 0.5, "batch_messages_sum": 15, "end_to_end_seconds_sum": 90}
    for name, value in {**counts, **sums}.items():
        assert rig.value(name) == value, name


def test_a_partition_that_is_given_up_takes_its_gauges_with_it(rig: Rig) -> None:
    """Also a batch of it that is committed afterwards brings them not back."""
    rig.beat(_standing({P0: 5, P1: 7}, {P0: 9}))
    place = {"topic": "topic", "partition": "0"}
    assert (rig.value("position", **place), rig.value("lag_offsets", **place)) == (5, 4)
    assert rig.value("position", topic="topic", partition="1") == 7
    assert rig.value("lag_offsets", topic="topic", partition="1") is None
    rig.beat(_standing({}, {}))
    rig.observer.batch_written([_slice(P0, 5, 9)], Written(4, 0, ()), 0.1)
    for name in ("position", "lag_offsets", "lag_seconds"):
        assert not [each for family in rig.registry.collect() if family.name == PREFIX + name for each in family.samples]
    rig.beat(_standing({P0: 9}, {P0: 9}))
    assert (rig.value("position", **place), rig.value("lag_seconds", **place)) == (9, 0)


def test_a_cause_is_held_for_as_long_as_it_lasts_and_counted_once(rig: Rig) -> None:
    """Whatever the texts of the reasons are; each cause by itself."""
    for text in ("PostgreSQL: down", "something else"):
        rig.beat(Standing([text], {Cause.DATABASE}))
    rig.beat(Standing(["both"], {Cause.DATABASE, Cause.KAFKA}))
    assert [rig.value("held", cause=cause) for cause in Cause] == [1, 1, 0, 0]
    assert (rig.value("ready"), rig.observer.not_ready) == (0, ("both",))
    rig.beat(Standing(()))
    rig.observer.beat(Standing(["again"], {Cause.DATABASE}))  # at once, not at the next look at the gauges
    assert [rig.value("pauses_total", cause=cause) for cause in Cause] == [2, 1, 0, 0]
    rig.beat(Standing(()))
    assert [rig.value("held", cause=cause) for cause in Cause] == [0, 0, 0, 0]
    assert rig.value("ready") == 1


def test_what_is_held_or_refused_is_shown(rig: Rig) -> None:
    """And no more once it is over."""
    rig.beat(_standing({}, {}, beyond_end=2, topics_held=1, missing_rights={"group"}))
    assert (rig.value("positions_beyond_end"), rig.value("topics_held")) == (2, 1)
    assert (rig.value("missing_rights", kind="group"), rig.value("missing_rights", kind="topic")) == (1, 0)
    rig.beat(_standing({}, {}))
    assert (rig.value("positions_beyond_end"), rig.value("topics_held"), rig.value("missing_rights", kind="group")) == (0, 0, 0)


def test_the_state_of_the_log_is_unknown_until_it_is_told_and_once_it_is_old(rig: Rig) -> None:
    """NaN, which no rule takes for a number; between, it stands still, with the time from which it is."""
    names = ("quarantine_open", "books_unbalanced", "months_ahead", "retention_horizon_timestamp_seconds")
    assert all(math.isnan(rig.value(name) or 0) for name in names)
    rig.observer.log_state(LogState(3, 1, 2, 1_700_000_000.0))
    rig.passed = 60.0
    with structlog.testing.capture_logs() as lines:
        rig.observer.log_state(TransientError("PostgreSQL: too slow"))
    assert [(line["event"], line["log_level"]) for line in lines] == [("state of the log unknown", "warning")]
    assert [rig.value(name) for name in names] == [3, 1, 2, 1_700_000_000]
    rig.passed = 121.0
    assert all(math.isnan(rig.value(name) or 0) for name in names)
    assert rig.value("database_state_timestamp_seconds") == START


@pytest.mark.parametrize("name", ["consumer rebuilt", "consumer error", "client error", "fenced", "offset commit failed", "schema unknown"])
def test_a_flood_is_said_once_in_five_seconds(rig: Rig, name: str) -> None:
    """A thousand errors are one line, and the next one tells how many were left out."""
    with structlog.testing.capture_logs() as lines:
        for _ in range(1000):
            rig.observer.event(name, error="x")
        rig.passed = 5.0
        rig.observer.event(name, error="x")
    assert [line.get("suppressed") for line in lines] == [None, 999]


def test_rebalances_are_counted_by_kind(rig: Rig) -> None:
    """By the event of that name."""
    with structlog.testing.capture_logs():
        for name in ("partitions assigned", "partitions lost", "partitions lost"):
            rig.observer.event(name, partitions=1)
    assert [rig.value("rebalances_total", kind=kind) for kind in ("assigned", "revoked", "lost")] == [1, 0, 2]


class TestProgress:
    """The age of what waits is told without having seen it."""

    def test_first_by_the_first_message_read(self) -> None:
        """A worker that begins with a backlog and can't write: the age is that of the oldest message in its hands, and grows."""
        now = [START]
        progress = Progress(lambda: now[0])
        progress.read([_slice(P0, 0, 10, ago=3600)])
        progress.read([_slice(P0, 10, 20, ago=1800)])
        now[0] += 30
        assert progress.lags({P0: 0}, {P0: 50}) == {P0: Lag(50, 3630)}

    def test_even_where_somebody_looked_before_it(self) -> None:
        """Until a message is read nobody knows; then it is known."""
        progress = Progress(lambda: START)
        assert progress.lags({P0: 0}, {P0: 50}) == {P0: Lag(50, 0.0)}
        progress.read([_slice(P0, 0, 10, ago=3600)])
        assert progress.lags({P0: 0}, {P0: 50}) == {P0: Lag(50, 3600.0)}

    def test_then_by_what_was_written(self) -> None:
        """In a backlog the next messages are hardly younger than the last ones."""
        progress = Progress(lambda: START)
        assert progress.written([_slice(P0, 0, 10, ago=3600), _slice(P1, 0, 10, ago=60)]) == 3600
        progress.written([_slice(P0, 10, 20, ago=1800)])
        assert progress.lags({P0: 20, P1: 10}, {P0: 50, P1: 11}) == {P0: Lag(30, 1800), P1: Lag(1, 60)}

    def test_and_no_older_than_when_nothing_was_left(self) -> None:
        """The last message of a quiet partition may be of yesterday; what comes now is of now. While it is not written, it ages."""
        now = [START]
        progress = Progress(lambda: now[0])
        progress.written([_slice(P0, 0, 10, ago=86_400)])
        assert progress.lags({P0: 10}, {P0: 10}) == {P0: Lag(0, 0.0)}
        now[0] += 1
        assert progress.lags({P0: 10}, {P0: 12}) == {P0: Lag(2, 1.0)}
        now[0] += 599
        assert progress.lags({P0: 10}, {P0: 12}) == {P0: Lag(2, 600.0)}

    def test_a_clock_that_runs_fast_makes_no_negative_age(self) -> None:
        """Nor does an end that is older than the position make a negative lag."""
        progress = Progress(lambda: START)
        assert progress.written([_slice(P0, 0, 10, ago=-50)]) == 0
        assert progress.lags({P0: 10}, {P0: 12}) == {P0: Lag(2, 0.0)}
        assert progress.lags({P0: 10}, {P0: 5}) == {P0: Lag(0, 0.0)}

    def test_what_was_given_up_is_forgotten(self) -> None:
        """When it comes back, it begins anew."""
        now = [START]
        progress = Progress(lambda: now[0])
        progress.written([_slice(P0, 0, 10, ago=3600)])
        assert progress.lags({}, {}) == {}
        assert progress.lags({P0: 10}, {P0: 12}) == {P0: Lag(2, 0.0)}

    def test_without_timestamps_there_is_no_age_of_messages(self) -> None:
        """A topic of old messages."""
        progress = Progress(lambda: START)
        slices = [PartitionSlice(P0, "id", 0, 10)]
        progress.read(slices)
        assert progress.written(slices) is None
        assert progress.lags({P0: 10}, {P0: 12}) == {P0: Lag(2, 0.0)}
