"""Limit and drain side by side, several times in turn: the ratio of two neighbours holds on a machine that others use too."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from tests.bench.bed import Bed
from tests.bench.drain import Drained, drain
from tests.bench.figures import median_ratio
from tests.bench.limit import Rows, copy_rows, stored_rows
from tests.bench.load import messages, send

Say = Callable[[str], None]


class Ground:
    """A topic that is full of events, and the rows that come of them; made once for all parts of a run."""

    def __init__(self, bed: Bed, events: int, say: Say) -> None:
        self.bed, self.events, self.say = bed, events, say

    @cached_property
    def topic(self) -> str:
        """The topic."""
        topic = self.bed.topic()
        send(self.bed.kafka.client, topic, messages(self.events, seed=1))
        return topic

    @cached_property
    def rows(self) -> Rows:
        """The rows. The drain that makes them also warms everything up."""
        with self.bed.database() as database:
            drain(self.bed, database, self.topic)
            return stored_rows(database)

    def limit(self) -> float:
        """Rows a second by COPY alone, into empty tables."""
        rows = self.rows
        with self.bed.database() as database:
            self.bed.settle()
            return copy_rows(database, rows)

    def drain(self, topic: str | None = None, *, known: int = 0, count: int = 1, **settings: Any) -> Drained:
        """Drains the topic, or another one; `known` percent of the events are in the log before."""
        rows = self.rows.share(known)
        with self.bed.database() as database:
            if known:
                copy_rows(database, rows)
            return drain(self.bed, database, topic or self.topic, count=count, **settings)

    def pairs(self, name: str, measure: Callable[[], Drained], rounds: int) -> dict[str, Any]:
        """Limit and drain in turn; which one comes first changes."""
        limits: list[float] = []
        drains: list[Drained] = []
        for number in range(rounds):
            steps: list[Callable[[], None]] = [lambda: limits.append(self.limit()), lambda: drains.append(measure())]
            for step in steps if number % 2 == 0 else reversed(steps):
                step()
            self.say(f"  {name}: {drains[-1].events_per_s:,.0f} of {limits[-1]:,.0f} a second, {drains[-1].cpu_us_per_event:.1f} µs")
        return summary(limits, drains)


def summary(limits: Sequence[float], drains: Sequence[Drained]) -> dict[str, Any]:
    """The medians, and what they are of."""
    pairs = list(zip(limits, (each.events_per_s for each in drains), strict=True))
    return {
        "ratio": median_ratio(pairs),
        "events_per_s": statistics.median(drained for _, drained in pairs),
        "limit_rows_per_s": statistics.median(limits),
        "cpu_us_per_event": statistics.median(each.cpu_us_per_event for each in drains),
        "peak_mb": max(each.peak_mb for each in drains),
        "ratios": [drained / limit for limit, drained in pairs],
        "limits": list(limits),
        "drains": [asdict(each) for each in drains],
    }
