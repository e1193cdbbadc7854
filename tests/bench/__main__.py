"""`make bench`: everything in one run, on a Kafka and a PostgreSQL of its own."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tests.bench import history, latency, recovery, soak, split, variants
from tests.bench.bed import bed
from tests.bench.machine import description
from tests.bench.pairs import Ground


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    quick: bool
    events: int
    minutes: float

    @property
    def rounds(self) -> int:
        """Pairs of limit and drain."""
        return 3 if self.quick else 5

    @property
    def fewer(self) -> int:
        """The same for what has many variants."""
        return 1 if self.quick else 3


Part = Callable[[Ground, Size], Any]


def _memory(ground: Ground, size: Size) -> Any:
    return {"partitions": variants.partitions(ground, size.fewer), "large messages": variants.large_messages(ground)}


def _latency(ground: Ground, size: Size) -> Any:
    def seconds(rate: float) -> float:
        return 6.0 if size.quick else 60.0 if rate <= 1_000 else 20.0

    with ground.bed.database() as database:
        return latency.curve(ground.bed, database, latency.RATES, seconds, ground.say)


def _history(ground: Ground, size: Size) -> Any:
    sizes = (10_000, 200_000) if size.quick else (10_000, 2_000_000, 20_000_000)
    return history.measure(ground, sizes, size.fewer, 6.0 if size.quick else 30.0)


PARTS: dict[str, Part] = {
    "drain": lambda ground, size: ground.pairs("drain", ground.drain, size.rounds),
    "split": lambda ground, size: split.measure(ground, size.fewer),
    "inputs": lambda ground, size: variants.inputs(ground, size.fewer),
    "batches": lambda ground, size: variants.batches(ground, size.fewer),
    "workers": lambda ground, size: variants.crews(ground, size.fewer),
    "memory": _memory,
    "latency": _latency,
    "recovery": lambda ground, size: recovery.measure(ground, 10 if size.quick else 60, 10 if size.quick else 60),
    "history": _history,
    "soak": lambda ground, size: soak.measure(ground, size.minutes),
}
_USUAL = [name for name in PARTS if name != "soak"]


@click.command()
@click.option("--only", default=",".join(_USUAL), show_default=True, help="Parts, by comma; `soak` too.")
@click.option("--quick", is_flag=True, help="A short form: to see that it works, and where a change leads.")
@click.option("--events", type=int, help="Events of a drain; 300,000, or 60,000 in the short form.")
@click.option("--minutes", default=30.0, show_default=True, help="Of the soak.")
@click.option("--json", "json_file", default="bench.json", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(*, only: str, quick: bool, events: int | None, minutes: float, json_file: Path) -> None:
    """Measures the worker on a real Kafka and a real PostgreSQL with durable commits. `python -m tests.bench.report` makes tables of it."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := [name for name in names if name not in PARTS]:
        raise click.UsageError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    size = Size(quick, events or (60_000 if quick else 300_000), minutes)
    with bed() as parts:
        results: dict[str, Any] = {**description(parts.postgres.url()), "quick": quick, "events": size.events}
        document = {"about": results, "parts": {}}
        ground = Ground(parts, size.events, click.echo)
        for name in names:
            click.echo(name)
            document["parts"][name] = PARTS[name](ground, size)
            results["load_at_end"] = os.getloadavg()
            json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")  # what there is, should a later part fail
    click.echo(f"results in {json_file}")


if __name__ == "__main__":
    main()
