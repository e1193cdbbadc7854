"""The alert rules, the dashboard and the runbook, as the tests read them."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"
RUNBOOK = ROOT / "docs/runbook.md"
_DASHBOARD = ROOT / "deploy/grafana/dashboards/integration-audit.json"
_VARIABLES = {"$namespace": ".*", "$job": ".*", "$__rate_interval": "1m"}


def rules() -> dict[str, Any]:
    """The rule file."""
    content: dict[str, Any] = yaml.safe_load(RULES.read_text())
    return content


def alerts() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in rules()["groups"] for rule in group["rules"]]


def impatient() -> dict[str, Any]:
    """The rules without their waiting, and without looking back over a restart: what they ask for is the same."""
    content = rules()
    for group in content["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
            rule["expr"] = rule["expr"].replace("[10m]", "[2s]")
    return content


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    content: dict[str, Any] = json.loads(_DASHBOARD.read_text())
    return content


class Query(NamedTuple):
    """A query of the dashboard."""

    where: str
    expression: str
    labels: frozenset[str]
    """Those that its legend names."""


def queries() -> Iterator[Query]:
    """Each, with the values of variables that show everything."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in _VARIABLES.items():
                expression = expression.replace(name, value)
            labels = re.findall(r"{{(\w+)}}", target["legendFormat"])
            yield Query(f"{panel['title']}, {target['refId']}", expression, frozenset(labels))


def metrics_of(expression: str) -> set[str]:
    """The worker's metrics that a query names."""
    return set(re.findall(r"\bintegration_audit_[a-z_]+", expression))


def parts() -> dict[str, str]:
    """The runbook: an alert's name → its part."""
    _, *parts = re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)
    return {title.strip(): text for title, _, text in (part.partition("\n") for part in parts)}


def commands() -> list[list[str]]:
    """The arguments of each `integration-audit …` in the runbook that stands in backquotes or on a line of its own."""
    found = re.findall(r"(?:^|`)integration-audit ([^`\n#]+)", RUNBOOK.read_text(), flags=re.MULTILINE)
    return [shlex.split(text) for text in found]


def statements() -> list[str]:
    """The SQL of the runbook."""
    return re.findall(r"^```sql\n(.*?)^```", RUNBOOK.read_text(), flags=re.MULTILINE | re.DOTALL)
