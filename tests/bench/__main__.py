"""`make bench`: everything in one run, on a Kafka and a PostgreSQL of its own."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

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


Part = Callable[[Ground, Size], Any]


def _drain(ground: Ground, size: Size) -> Any:
    return ground.pairs("drain", ground.drain, size.rounds)


PARTS: dict[str, Part] = {
    "drain": _drain,
}


@click.command()
@click.option("--only", default=",".join(PARTS), show_default=True, help="Parts, by comma.")
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
