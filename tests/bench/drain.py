"""How fast workers drain a topic, seen from outside: by the commits of their positions, and by what the kernel says of the processes."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
import psycopg

from tests.bench.bed import Bed
from tests.bench.figures import Progress, cpu_per_event, rate

COMMAND = str(Path(sys.executable).with_name("integration-audit"))
TIED = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
"""The kernel ends a process that was started so when this one is gone, however that went."""
_EVERY = 0.02
"""Seconds between two looks; each costs the machine less than a millisecond."""
_PATIENCE = 600.0
"""Seconds that a drain may take."""

# The row of a position was written by the transaction that moved it: so a look gives a commit's time, however late it comes.
_ACCOUNTED = """
SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin)))::float8, coalesce(sum(next_offset - first_offset), 0)::bigint
FROM audit.consumer_position WHERE next_offset > first_offset AND kafka_topic = %s"""

_BOOKS = """
SELECT coalesce(sum(written), 0)::bigint, coalesce(sum(duplicates), 0)::bigint, coalesce(sum(quarantined), 0)::bigint
FROM audit.consumer_position WHERE kafka_topic = %s"""


@dataclass(frozen=True)
class Drained:
    """What a drain was like."""

    events: int
    events_per_s: float  # from the first commit to the last
    wall_s: float  # from the start of the first process to the end of the last one: with the group's join
    join_s: float  # until the first commit
    cpu_us_per_event: float  # user and system, over all workers and threads, without start and stop
    cpu_s: float  # with them
    peak_mb: float  # resident, of the largest worker
    books: dict[str, int]


class Worker:
    """One worker process, and what the kernel knows of it."""

    def __init__(self, environment: Mapping[str, str], *arguments: str, log: IO[bytes]) -> None:
        self.process = subprocess.Popen([*TIED, COMMAND, "run", *arguments], env=environment, stdout=log, stderr=log)
        self._kernel = psutil.Process(self.process.pid)
        self.cpu = 0.0
        """Seconds of user and system, when last looked at."""
        self.peak_mb = 0.0
        """The most that was resident, when last looked at."""
        self.resident_mb = 0.0
        """What was resident, when last looked at."""

    def look(self) -> None:
        """Asks the kernel; what was known last stays, once the process is gone."""
        with suppress(psutil.Error, OSError, StopIteration):
            times = self._kernel.cpu_times()
            self.cpu = times.user + times.system
            # Not of rusage: that would begin with what this process held when it made the other one.
            lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
            self.peak_mb = _megabytes(lines, "VmHWM:")
            self.resident_mb = _megabytes(lines, "VmRSS:")

    @property
    def over(self) -> bool:
        """Whether it has ended; it stays to be waited for, with its last figures."""
        return self.process.poll() is not None


def _megabytes(lines: Sequence[str], name: str) -> float:
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


@contextmanager
def workers(environment: Mapping[str, str], *arguments: str, count: int = 1) -> Iterator[list[Worker]]:
    """Workers, which are gone afterwards.

    Raises:
        RuntimeError: one of them ended with an error; its last words are in the text.
    """
    with tempfile.TemporaryFile() as log:
        crew: list[Worker] = []
        try:
            crew += (Worker(environment, *arguments, log=log) for _ in range(count))
            yield crew
        finally:
            failed = [each.process.returncode for each in crew if each.over and each.process.returncode != 0]
            for each in crew:
                each.process.kill()
                each.process.wait()
            if failed:
                log.seek(0)
                raise RuntimeError(f"a worker ended with {failed[0]}: {log.read().decode(errors='replace')[-3000:]}")


@dataclass
class Watch:
    """Looks at the positions of a topic, and at processes."""

    database: str
    crew: Sequence[Worker]
    topic: str
    seen: list[Progress] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._connection = psycopg.connect(self.database, autocommit=True)

    def look(self) -> int:
        """Looks once; how many offsets are accounted for."""
        for each in self.crew:
            each.look()
        row = self._connection.execute(_ACCOUNTED, (self.topic,)).fetchone()
        assert row is not None
        moment, accounted = row
        if accounted and (not self.seen or accounted > self.seen[-1].accounted):
            self.seen.append(Progress(moment, accounted, sum(each.cpu for each in self.crew)))
        return int(accounted)

    def books(self) -> dict[str, int]:
        """The sums over all positions."""
        row = self._connection.execute(_BOOKS, (self.topic,)).fetchone()
        assert row is not None
        return dict(zip(("written", "duplicates", "quarantined"), row, strict=True))

    def close(self) -> None:
        """Closes its connection."""
        self._connection.close()


def drain(bed: Bed, database: str, topic: str, *, count: int = 1, **settings: Any) -> Drained:
    """Drains a topic into a database by `run --drain` of so many workers.

    Several workers begin together: until all have joined the group, a lock keeps them from their positions.
    """
    environment = bed.environment(database, topic, **settings)
    bed.settle()
    began, began_epoch = time.perf_counter(), time.time()
    with workers(environment, "--drain", count=count) as crew:
        watch = Watch(database, crew, topic)
        try:
            if count > 1:
                _hold_until_joined(bed, database, environment["AUDIT_KAFKA_GROUP_ID"], count)
            while not all(each.over for each in crew):
                watch.look()
                if time.perf_counter() - began > _PATIENCE:
                    raise RuntimeError(f"not drained within {_PATIENCE:.0f} s")
                time.sleep(_EVERY)
            wall = time.perf_counter() - began
            events = watch.look()
            return Drained(
                events=events,
                events_per_s=rate(watch.seen),
                wall_s=wall,
                join_s=watch.seen[0].committed_at - began_epoch,
                cpu_us_per_event=cpu_per_event(watch.seen) * 1e6,
                cpu_s=sum(each.cpu for each in crew),
                peak_mb=max(each.peak_mb for each in crew),
                books=watch.books(),
            )
        finally:
            watch.close()


def _hold_until_joined(bed: Bed, database: str, group: str, count: int) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("LOCK TABLE audit.consumer_position IN SHARE MODE")
        deadline = time.monotonic() + 60
        while True:
            described = bed.kafka.admin.describe_consumer_groups([group])[group].result(30)
            assigned = [len(each.assignment.topic_partitions) for each in described.members if each.assignment]
            if len(assigned) == count and all(assigned):
                return
            if time.monotonic() > deadline:
                raise RuntimeError("the workers did not join")
            time.sleep(0.05)
