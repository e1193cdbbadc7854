"""Alert rules by Prometheus' own tool, the runbook, and the dashboard. On a real worker: tests/integration/test_alerts.py."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bed.prometheus import promtool
from tests.deploy import chart, watching
from tests.deploy.commands import assert_command

CONSUMER = watching.ROOT / "consumer"
DEPLOYING = watching.ROOT / "docs/deploying.md"


def test_promtool_accepts_the_rules() -> None:
    """Their syntax, and their tests: each alert fires, and does not."""
    for arguments in (("check", "rules", str(watching.RULES)), ("test", "rules", str(Path(__file__).with_name("alerts_test.yml")))):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways() -> None:
    """The tests name each alert as firing; where nothing is expected, all are silent."""
    text = Path(__file__).with_name("alerts_test.yml").read_text()
    fired = set(re.findall(r"alertname=\"(\w+)\", alertstate=\"firing\"", text))
    assert fired == {alert["alert"] for alert in watching.alerts()}


@pytest.mark.parametrize("alert", watching.alerts(), ids=lambda alert: f"{alert['alert']}-{alert['labels']['severity']}")
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """How bad it is, what is the matter, the remedy in one sentence, and where the runbook says more."""
    assert alert["labels"]["severity"] in ("critical", "warning")
    said = alert["annotations"]
    assert said.keys() == {"summary", "description", "runbook_url"}
    assert said["description"].endswith(".")
    assert ". " not in said["description"]
    assert said["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"


@pytest.mark.parametrize("script", re.findall(r"^sed (?:-i )?'(.+)' deploy/prometheus/alerts\.yml", DEPLOYING.read_text(), re.MULTILINE))
def test_the_runbook_can_be_where_people_read_it(script: str) -> None:
    """By the commands of docs/deploying.md; nothing else changes."""
    done = subprocess.run(["sed", script, str(watching.RULES)], capture_output=True, text=True, check=True)
    rules = [rule for group in yaml.safe_load(done.stdout)["groups"] for rule in group["rules"]]
    for rule, alert in zip(rules, watching.alerts(), strict=True):
        assert rule["annotations"].pop("runbook_url") == f"https://wiki.example/runbook#{alert['alert'].lower()}"
        del alert["annotations"]["runbook_url"]
        assert rule == alert


def test_every_alert_has_a_part_of_the_runbook() -> None:
    """And every part an alert; each says the same five things."""
    assert watching.parts().keys() == {alert["alert"] for alert in watching.alerts()}
    for name, text in watching.parts().items():
        assert re.findall(r"^\*\*(.+?)\*\*:", text, flags=re.MULTILINE) == ["Means", "See", "Do", "By itself", "Tried"], name
        assert text.count("```") % 2 == 0, name


def test_what_the_runbook_names_is_there() -> None:
    """Links and anchors; events of the log; metrics that some alert or panel uses."""
    text = watching.RUNBOOK.read_text()
    for place, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        page = (watching.RUNBOOK.parent / place) if place else watching.RUNBOOK
        titles = [
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
        ]
        assert not anchor or anchor in titles, f"{place}#{anchor}"
    code = "".join(file.read_text() for file in CONSUMER.rglob("*.py"))
    for sentence in re.findall(r"log events? ([^.;]+)", text):
        for name in re.findall(r"(?:^|, | and )`([^`]+)`", sentence.split(" with ")[0]):
            assert f'"{name}"' in code, name
    asked = [alert["expr"] for alert in watching.alerts()] + [query.expression for query in watching.queries()]
    names = {re.sub("_(bucket|sum|count)$", "", name) for expression in asked for name in watching.metrics_of(expression)}
    assert watching.metrics_of(text) <= names


@pytest.mark.parametrize("arguments", watching.commands(), ids=" ".join)
def test_the_runbooks_commands_are_commands(arguments: list[str]) -> None:
    """With options that are there, and values that they take."""
    assert_command(arguments)


def test_the_chart_has_the_same_rules_and_dashboard() -> None:
    """Copies, since helm packages nothing from elsewhere: `make manifests` makes them."""
    shared = chart.shared()
    assert {target.name for target in shared.values()} >= {"alerts.yml", "integration-audit.json"}
    for source, target in shared.items():
        assert target.read_bytes() == source.read_bytes(), f"run `make manifests`: {target}"


def test_the_dashboard_is_sound() -> None:
    """What Grafana needs of it: ids, places that do not overlap, queries of the source that is chosen above."""
    board = watching.dashboard()
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", board["uid"])
    assert board["schemaVersion"] >= 36
    assert "id" not in board
    variables = {each["name"] for each in board["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", str(board["panels"]))) <= variables | {"__rate_interval"}
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == len({panel["title"] for panel in panels})
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
            assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {"${datasource}"}
