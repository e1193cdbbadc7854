"""`make chaos`: a run on a broker and a database server of its own."""

import json
import os
import random
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from tests.bed.kafka import KafkaBroker
from tests.bed.postgres import running_postgres
from tests.chaos.plan import PROTOCOLS, Plan, make_plan
from tests.chaos.run import Outcome, Run, table


@click.command()
@click.option("--minutes", default=5.0, show_default=True, help="Time in which faults happen; the plan's clock stands still in restarts.")
@click.option("--seed", type=int, help="The same seed makes the same plan; drawn and printed where none is given.")
@click.option("--workers", default=3, show_default=True, help="Workers at the start.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="Of the consumer group; drawn from the seed where none is given.")
@click.option("--rate", default=300.0, show_default=True, help="Messages a second, transactions aside.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="File for the verdict.")
def main(*, minutes: float, seed: int | None, workers: int, protocol: str | None, rate: float, json_file: Path | None) -> None:
    """Random faults under load on a real Kafka and a real PostgreSQL, then the verdict. Exit code 1 when anything is wrong.

    The same seed makes the same sequence of faults and the same messages; real time is not to be had twice.
    """
    seed = random.randrange(1_000_000) if seed is None else seed
    plan = make_plan(seed, seconds=minutes * 60, workers=workers, protocol=protocol)
    click.echo(
        f"seed {plan.seed}, group protocol {plan.protocol}, {plan.workers} workers, {len(plan.faults)} faults in {minutes:g} minutes"
    )
    for fault in plan.faults:
        click.echo(f"  {fault}")
    folder = Path(tempfile.mkdtemp(prefix="audit-chaos-"))
    passed = False
    try:
        outcome = _on_a_bed_of_its_own(plan, folder, rate)
        passed = outcome.passed
        for line in table(outcome):
            click.echo(line)
        if json_file is not None:
            json_file.write_text(json.dumps(outcome.as_json(), indent=1) + "\n")
    finally:
        if passed:
            shutil.rmtree(folder)
        else:
            again = f"make chaos MINUTES={minutes:g} SEED={seed} WORKERS={workers} PROTOCOL={plan.protocol} RATE={rate:g}"
            click.echo(f"\nFAILED. The workers' logs are in {folder}; the same plan again: {again}")
    click.echo(f"passed: seed {seed}, {plan.protocol}" if passed else f"failed: seed {seed}, {plan.protocol}")
    sys.exit(0 if passed else 1)


def _on_a_bed_of_its_own(plan: Plan, folder: Path, rate: float) -> Outcome:
    with ExitStack() as stack:
        (folder / "kafka").mkdir()
        broker = KafkaBroker(folder / "kafka")
        stack.callback(shutil.rmtree, folder / "kafka" / "data", ignore_errors=True)
        stack.callback(broker.stop)
        broker.start()
        postgres = stack.enter_context(running_postgres(int(os.environ.get("CHAOS_POSTGRES", "18"))))
        return Run(plan, broker, postgres, folder, rate, click.echo).run()


main()
