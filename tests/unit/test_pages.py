"""The pages about metrics and logs say what the code says."""

import ast
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from consumer.observe.metrics import WorkerMetrics
from consumer.observe.observer import level_of

ROOT = Path(__file__).parents[2]
CODE = ROOT / "consumer"
REPORTING = {"event", "_report", "report"}
LEVELS = {"debug", "info", "warning", "error"}


def metric_rows() -> list[str]:
    """The rows of `docs/metrics.md`, out of the declarations."""
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    for gauge in (metrics.position, metrics.lag_offsets, metrics.lag_seconds):
        gauge.labels("t", 0)
    rows = []
    for family in registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        rows.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return rows


def test_metrics_md_is_made_of_the_declarations() -> None:
    """Every metric with its type, labels and meaning; none that is gone."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("| `integration_audit_")] == metric_rows(), "\n".join(metric_rows())


class Event(NamedTuple):
    """An event of the logs."""

    level: str
    fields: frozenset[str]


def events() -> dict[str, Event]:
    """Every event that the code can log: by name, with its level, and with the fields of all places that log it."""
    levels: dict[str, str] = {}
    fields: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(CODE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not call.args:
                continue
            word = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
            if word not in REPORTING | LEVELS:
                continue
            name = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
            if isinstance(name, str):
                levels[name] = level_of(name) if word in REPORTING else word
                fields[name] |= {keyword.arg for keyword in call.keywords if keyword.arg}
    return {name: Event(level, frozenset(fields[name])) for name, level in levels.items()}


def test_logs_md_has_every_event_with_its_level_and_fields() -> None:
    """None is missing, none is left over. What it means is the page's own."""
    page = (ROOT / "docs/logs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| ([^|]*) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    told = {name: Event(level, frozenset(re.findall(r"`(\w+)`", fields))) for name, level, fields, *_ in rows}
    assert len(rows) == len(told) > 20
    assert told == events()
