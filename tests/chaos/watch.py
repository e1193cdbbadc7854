"""Looks at the positions all the time: they must never move back, and they tell how soon after a fault the workers write again."""

import statistics
import threading
import time
from collections import defaultdict
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg

from tests.chaos.plan import Fault

_EVERY = 0.1
"""Seconds between two looks."""


class Ended(NamedTuple):
    """A fault that is over. Times are of time.monotonic()."""

    fault: Fault
    began: float
    ended: float


class Watch:
    """Takes the positions' history in a thread of its own, by the straight way. A context manager."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._history: list[tuple[float, dict[int, int]]] = []
        self.steps_back: list[str] = []

    def __enter__(self) -> Self:
        """Begins to look."""
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        """Looks no more."""
        self._stopping.set()
        self._thread.join()

    @property
    def positions(self) -> dict[int, int]:
        """The last seen position of each partition."""
        return dict(self._history[-1][1]) if self._history else {}

    @property
    def total(self) -> int:
        """So many offsets are accounted for."""
        return sum(self.positions.values())

    @property
    def looks(self) -> int:
        """How often it has looked."""
        return len(self._history)

    def recovery(self, ended: Ended) -> float | None:
        """Seconds from a fault's end until every partition had moved on; None if that was not seen."""
        before: dict[int, int] | None = None
        for moment, positions in self._history:
            if moment <= ended.ended:
                before = positions
            elif before is not None and all(positions.get(partition, 0) > at for partition, at in before.items()):
                return moment - ended.ended
        return None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                # It must not wait for a frozen backend's lock, and it does not: a reader waits for no writer.
                with psycopg.connect(self._database, autocommit=True, connect_timeout=2) as connection:
                    while not self._stopping.wait(_EVERY):
                        self._look(connection)
            except psycopg.OperationalError:
                self._stopping.wait(_EVERY)  # the server is down: part of the plan

    def _look(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        found = dict(connection.execute("SELECT kafka_partition, next_offset FROM audit.consumer_position").fetchall())
        for partition, before in self.positions.items():
            if found.get(partition, -1) < before:
                self.steps_back.append(f"partition {partition}: from {before} to {found.get(partition)}")
        self._history.append((time.monotonic(), found))


def recoveries(watch: Watch, faults: list[Ended]) -> list[dict[str, Any]]:
    """For each kind of fault, how soon after its end all partitions were written again; what another fault touched is told apart."""
    alone: defaultdict[str, list[float]] = defaultdict(list)
    together: defaultdict[str, list[float]] = defaultdict(list)
    for each in faults:
        seconds = watch.recovery(each)
        if seconds is None:
            continue
        others = (other for other in faults if other is not each)
        overlapped = any(other.began < each.ended + seconds and other.ended > each.ended for other in others)
        (together if overlapped else alone)[f"{each.fault.kind.part}: {each.fault.kind.name}"].append(seconds)
    return [
        {"fault": name, **_figures("alone", alone[name]), **_figures("overlapped", together[name])} for name in sorted({*alone, *together})
    ]


def _figures(name: str, seconds: list[float]) -> dict[str, Any]:
    if not seconds:
        return {name: 0}
    return {name: len(seconds), f"{name}_median_s": round(statistics.median(seconds), 2), f"{name}_max_s": round(max(seconds), 2)}
