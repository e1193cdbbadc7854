"""`python -m tests.simulation`: any number of seeds, or one of them with its trace. Exit code 1 when an invariant does not hold."""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.failing import Failure, simulate
from tests.simulation.mutations import MUTATIONS

CHUNK = 100


def _chunk(begin: int, end: int, mutation: str | None) -> tuple[int, list[Failure]]:
    failures = [failure for seed in range(begin, end) if (failure := simulate(seed, mutation)) is not None]
    return end - begin, failures


def _run(begin: int, end: int, mutation: str | None, processes: int) -> Iterator[tuple[int, list[Failure]]]:
    begins = range(begin, end, CHUNK)
    ends = [min(each + CHUNK, end) for each in begins]
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(partial(_chunk, mutation=mutation), begins, ends)


def _count(results: Iterable[tuple[int, list[Failure]]], total: int) -> int:
    began, done, failed = time.monotonic(), 0, 0
    for count, failures in results:
        done += count
        failed += len(failures)
        for failure in failures:
            print(f"\n{failure}\n", flush=True)
        seconds = time.monotonic() - began
        line = f"{done} of {total} schedules, {failed} failed, {seconds:.0f} s, {60 * done / seconds:.0f} a minute"
        print(line, end="\r" if sys.stdout.isatty() and done < total else "\n", flush=True)
    return failed


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first one (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="with everything that happens, for one seed")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="with a fault built in")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.seed is None:
        end = options.start + options.seeds
        return int(_count(_run(options.start, end, options.mutation, options.processes), options.seeds) > 0)
    failure = simulate(options.seed, options.mutation, print if options.trace else None)
    print(failure or f"seed {options.seed}: every invariant holds")
    return int(failure is not None)


if __name__ == "__main__":
    sys.exit(main())
