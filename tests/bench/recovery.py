"""An outage of the database under load: how soon the lag is gone, and how much memory the worker needs meanwhile."""

import time
from typing import Any

from tests.bench.drain import workers
from tests.bench.figures import caught_up, lag_curve
from tests.bench.latency import event_times, wait_for_start
from tests.bench.pairs import Ground
from tests.bench.producer import producing

_RATE = 1_000
_BEFORE = 5.0
"""Seconds of usual work before the outage."""


def measure(ground: Ground, outage: float, after: float) -> dict[str, Any]:
    """Stops the server for so many seconds, while events go on to come, and until so many seconds afterwards."""
    bed = ground.bed
    topic = bed.topic()
    seconds = _BEFORE + outage + after
    with (
        bed.database() as database,
        workers(bed.environment(database, topic)) as crew,
        producing(bed, topic, _RATE, seconds) as producer,
    ):
        wait_for_start(database, topic)
        producer.begin()
        began = time.time()
        memory: list[tuple[float, float]] = []

        def look_until(moment: float) -> None:
            while time.time() < moment:
                crew[0].look()
                memory.append((round(time.time() - began, 2), crew[0].resident_mb))
                time.sleep(0.25)

        look_until(began + _BEFORE)
        down = time.time()
        bed.postgres.stop()
        look_until(down + outage)
        bed.postgres.start()
        back = time.time()
        look_until(began + seconds)
        sent = producer.result()
        rows = _all_rows(database, topic, sent["sent"])
        crew[0].look()
        recovered = caught_up(rows, back)
        first = min((committed for _, committed in rows if committed > back), default=None)
        ground.say(f"  lag gone {recovered or -1:.2f} s after the database was back, at most {crew[0].peak_mb:.0f} MB")
        return {
            "rate": _RATE,
            "outage_s": back - down,
            "first_commit_s": None if first is None else first - back,
            "recovery_s": recovered,
            "peak_mb": crew[0].peak_mb,
            "memory_mb": memory,
            "lag": [(at - began, events) for at, events in lag_curve(rows, began, began + seconds, 0.5)],
            "down_at_s": down - began,
            "back_at_s": back - began,
            "producer": sent,
        }


def _all_rows(database: str, topic: str, sent: int) -> list[tuple[float, float]]:
    deadline = time.monotonic() + 300
    while True:
        rows = event_times(database, topic, 0)
        if len(rows) == sent:
            return rows
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(rows)} of {sent} events were written")
        time.sleep(1)
