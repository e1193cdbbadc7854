"""One worker under load for long: what is resident stays as it is."""

import time
from typing import Any

from tests.bench.drain import workers
from tests.bench.figures import slope
from tests.bench.latency import wait_for_start
from tests.bench.pairs import Ground
from tests.bench.producer import producing

_RATE = 2_000


def measure(ground: Ground, minutes: float) -> dict[str, Any]:
    """Memory and CPU over time. The slope is that of the second half: a worker grows until it has met everything once."""
    bed = ground.bed
    topic = bed.topic(retention_bytes=str(256 * 1024**2), segment_bytes=str(64 * 1024**2))
    seconds = minutes * 60
    with (
        bed.database() as database,
        workers(bed.environment(database, topic)) as crew,
        producing(bed, topic, _RATE, seconds) as producer,
    ):
        wait_for_start(database, topic)
        producer.begin()
        began = time.monotonic()
        points: list[tuple[float, float, float]] = []
        while not producer.over:
            crew[0].look()
            points.append((round(time.monotonic() - began, 1), crew[0].resident_mb, crew[0].cpu))
            if len(points) % 60 == 0:
                ground.say(f"  {points[-1][0] / 60:.0f} min: {points[-1][1]:.1f} MB")
            time.sleep(max(0.5, seconds / 400))
        sent = producer.result()
        if crew[0].over:
            raise RuntimeError("the worker ended")
        growth = slope([(at / 3600, megabytes) for at, megabytes, _ in points if at > seconds / 2])
        ground.say(f"  {growth:+.2f} MB an hour, at most {crew[0].peak_mb:.1f} MB")
        return {
            "rate": _RATE, "minutes": minutes, "mb_per_hour": growth, "peak_mb": crew[0].peak_mb, "points": points, "producer": sent
        }  # fmt: skip
