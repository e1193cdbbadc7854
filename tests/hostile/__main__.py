"""`make hostile`: a run on a broker and a database server of its own."""

import argparse
import random
import tempfile
import time
from pathlib import Path

from tests.bed.worker import Workplace
from tests.bench.bed import bed
from tests.hostile.messages import PARTITIONS
from tests.hostile.run import CEILING, HostileRun


def main() -> None:
    """Exit code 1, and the worker's log is kept, when anything is wrong."""
    parser = argparse.ArgumentParser(prog="make hostile")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    asked = parser.parse_args()
    print(f"{asked.messages:,} messages, seed {asked.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="audit-hostile-"))
    with bed() as parts, parts.database() as database:
        place = Workplace(parts.kafka, database, parts.topic(PARTITIONS))
        run = HostileRun(place, folder, asked.seed)
        begun = time.monotonic()
        print(f"the worker's log: {run.log}", flush=True)
        run.run(asked.messages, lambda text: print(text, flush=True))
        run.verify()
        seconds = time.monotonic() - begun
    for name, count in sorted(run.truth.books.items()):
        print(f"{count:>10,}  {name}")
    for name, count in sorted(run.truth.reasons.items()):
        print(f"{count:>10,}  in quarantine: {name}")
    print(f"passed in {seconds:.0f} s; the worker took {run.peak / 1024**2:.0f} MiB at most, {CEILING / 1024**2:.0f} are allowed")


if __name__ == "__main__":
    main()
