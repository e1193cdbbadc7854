"""A regression guard: no speed is promised here, but a worker that lost three quarters of its speed does not pass unseen.

The floor is far below what is measured (docs/performance.md), since a machine that others use, or a slow interpreter, must never fail it.
"""

from collections.abc import Iterator

import pytest

from tests.bed.kafka import KafkaBroker
from tests.bed.postgres import running_postgres
from tests.bench.bed import Bed
from tests.bench.pairs import Ground

FLOOR = 0.15
"""The least share of the COPY limit, both without waiting for the disk.

By itself a worker is above 0.5; with a load of 12 on the two cores six pairs were at 0.19 to 0.62, their medians at 0.31 and 0.49.
"""
EVENTS = 30_000

pytestmark = [pytest.mark.bench, pytest.mark.kafka, pytest.mark.postgres]


@pytest.fixture
def ground(kafka_broker: KafkaBroker) -> Iterator[Ground]:
    """A topic full of events, and a server that tells the time of each commit. It need not survive a crash of the machine."""
    with running_postgres(18, {"track_commit_timestamp": "on", "max_wal_size": "4GB"}) as server:
        yield Ground(Bed(kafka_broker, server), EVENTS, print)


@pytest.mark.timeout(300)
def test_the_drain_keeps_above_the_floor(ground: Ground) -> None:
    """The median of three drains, each beside a COPY of the same rows: what slows the machine slows both."""
    result = ground.pairs("drain", ground.drain, 3)
    assert all(each["books"] == {"written": EVENTS, "duplicates": 0, "quarantined": 0} for each in result["drains"])
    assert result["ratio"] > FLOOR, result["ratios"]
