"""The arithmetic of a benchmark. Pure."""

import math
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple


class Progress(NamedTuple):
    """What was seen of a drain at one moment, by the transaction that was committed last."""

    committed_at: float  # seconds since 1970, by the server
    accounted: int  # offsets passed, over all partitions
    cpu: float  # seconds of user and system, over all workers


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share (0 to 1) of the values does not exceed. `ordered` ascends and is not empty."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latencies(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Count, p50, p99, p99.9 and the most, in milliseconds; a percentile that fewer than ten values exceed would be one of chance."""
    ordered = sorted(seconds)
    figures: dict[str, float | int | None] = {"count": len(ordered)}
    for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)):
        beyond = len(ordered) * (1 - share)
        figures[name] = round(percentile(ordered, share) * 1000, 3) if beyond > 9.5 else None
    figures["max_ms"] = round(ordered[-1] * 1000, 3) if ordered else None
    return figures


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """The median of each drain's rate by that of the limit measured beside it: what slows the machine for a while slows both."""
    return statistics.median(drain / limit for limit, drain in pairs)


def rate(seen: Sequence[Progress]) -> float:
    """Offsets a second from the first commit to the last; what the first one brought was worked on before it.

    Raises:
        ValueError: there was no more than one commit.
    """
    first, last = seen[0], seen[-1]
    if last.committed_at <= first.committed_at:
        raise ValueError("one commit has no rate: drain more events, or in smaller batches")
    return (last.accounted - first.accounted) / (last.committed_at - first.committed_at)


def cpu_per_event(seen: Sequence[Progress]) -> float:
    """Seconds of CPU an offset, without start and stop of the process."""
    first, last = seen[0], seen[-1]
    return (last.cpu - first.cpu) / max(1, last.accounted - first.accounted)


def caught_up(rows: Sequence[tuple[float, float]], back_at: float, within: float = 1.0) -> float | None:
    """Seconds after `back_at` from which on every event is visible `within` seconds of its time; None if that did not come.

    `rows` are pairs of the time of an event and the time of its commit, in any order.
    """
    late = [committed for occurred, committed in rows if committed - occurred > within]
    good = [committed for _, committed in rows if committed > max(late, default=-math.inf)]
    return max(0.0, min(good) - back_at) if good else None


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How much y grows with each x, by least squares."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def lag_curve(rows: Sequence[tuple[float, float]], begin: float, end: float, step: float) -> list[tuple[float, int]]:
    """How many events were sent and not yet visible, at every step from begin to end. `rows` as for `caught_up`."""
    sent = sorted(occurred for occurred, _ in rows)
    visible = sorted(committed for _, committed in rows)
    moments = (begin + number * step for number in range(int((end - begin) / step) + 1))
    return [(moment, bisect_right(sent, moment) - bisect_right(visible, moment)) for moment in moments]
