"""`integration-audit actions`: the documented table."""

import json

import click

from consumer.cli.output import print_table
from consumer.core.actions import ACTIONS, SERVICE, TARGETS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def command(*, as_json: bool) -> None:
    """Print the documented actions: level, module, action, what was done, and the Complement's items."""
    records = [
        {
            "level": action.level,
            "service": SERVICE,
            "module": action.module,
            "action": action.name,
            "done": action.done,
            "complement": list(action.items),
            "subjects": [action.subject_type] if action.subject_type else sorted(TARGETS.values()),
            "change": action.change_type,
        }
        for action in ACTIONS
    ]
    if as_json:
        click.echo(json.dumps(records, indent=2))
        return
    print_table(
        ("Level", "Module", "Action", "What was done", "Complement", "Change"),
        [(r["level"], r["module"], r["action"], r["done"], ", ".join(r["complement"]), r["change"]) for r in records],
    )
