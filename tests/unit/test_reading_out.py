"""A row of the log read out: the Complement's text of each documented action, times, cells."""

import csv
import io
import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.core.actions import ACTIONS
from consumer.core.reading_out import complement_text, harmless, ordered, time_text
from tests.unit.test_document import FACTS

TEXTS = {
    '{"client_name":"Reporting","client_id":"c-1"}': "Reporting (id: c-1)",
    '{"name":"Reporting","id":"c-1"}': "Reporting (id: c-1)",
    '{"name":"Box","id":"s-1"}': "Box (id: s-1)",
    '{"status":"Enable"}': "Enable",
    '{"status":"Disable"}': "Disable",
    '{"id":"7","scope":["Read"],"validity_period":{"start":"2026-11-20T09:00:00Z","end":null}}': (
        "id: 7, scope: [Read], validity period: 2026-11-20T09:00:00Z to unlimited"
    ),
    '{"id":"7"}': "id: 7",
    '{"name":"Box","id":"s-1","scopes":["k:file:write","k:app_record:read"]}': (
        "Box (id: s-1), scopes: [k:file:write, k:app_record:read]"
    ),
    '{"name":"Reporting","id":"c-1","scopes":[]}': "Reporting (id: c-1), scopes: []",
}  # fmt: skip


@pytest.mark.parametrize(("action", "complement"), [(fact[3], fact[4]) for fact in FACTS])
def test_each_documented_complement_has_its_text(action: str, complement: str) -> None:
    """Of every action, by the documents the tests hold; and the order that jsonb loses is given back."""
    shuffled = dict(sorted(json.loads(complement).items(), reverse=True))
    assert complement_text(action, shuffled) == TEXTS[complement]
    assert json.dumps(ordered(action, shuffled), separators=(",", ":")) == complement


@pytest.mark.parametrize(
    ("action", "complement", "text"),
    [
        ("add oauth client", {}, "{}"),
        ("add oauth client", {"client_name": "{client_id}{0}{", "client_id": "%s"}, "{client_id}{0}{ (id: %s)"),
        ("add oauth client", {"client_name": "a", "client_id": "b", "more": 1}, '{"client_name": "a", "client_id": "b", "more": 1}'),
        ("add webhook", {"name": "a"}, '{"name": "a"}'),
        ("authorize integration", {"name": "a", "id": "b", "scopes": None}, '{"name": "a", "id": "b", "scopes": null}'),
    ],
)
def test_what_is_not_as_documented_is_shown_as_it_is(action: str, complement: dict[str, object], text: str) -> None:
    """A later version's row is no reason to fail; and what an event says is no template."""
    assert complement_text(action, complement) == text


def test_every_template_names_every_item() -> None:
    """Nothing of a Complement is left out of its text."""
    for action in ACTIONS:
        assert all(f"{{{key}}}" in action.text for key in action.items), action.name


def test_times_carry_their_offset() -> None:
    """Also where a day-light saving hour comes twice."""
    moment = datetime(2026, 11, 1, 5, 30, 0, 7, tzinfo=UTC)
    assert time_text(moment, UTC) == "2026-11-01T05:30:00.000007Z"
    assert time_text(moment, ZoneInfo("Asia/Tokyo")) == "2026-11-01T14:30:00.000007+09:00"
    assert time_text(moment, ZoneInfo("America/New_York")) == "2026-11-01T01:30:00.000007-04:00"
    assert time_text(moment.replace(hour=6), ZoneInfo("America/New_York")) == "2026-11-01T01:30:00.000007-05:00"


_SIGNS = "=+-@＝＋－＠"  # noqa: RUF001
_TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
_CELLS = _TEXTS | st.tuples(st.text(" \u3000\xa0'", max_size=3), st.sampled_from([*_SIGNS, "\t", "\r", "\n"]), _TEXTS).map("".join)


def runs(cell: str) -> bool:
    """Whether some spreadsheet may take it for a formula."""
    return cell.startswith(("\t", "\r", "\n")) or cell.lstrip().startswith(tuple(_SIGNS))


@given(st.lists(_CELLS, min_size=1, max_size=4))
def test_no_cell_is_a_formula_and_none_is_lost(values: list[str]) -> None:
    """After the way through a CSV no cell begins with what a spreadsheet runs, and a program that knows the rule gets back what it was."""
    sheet = io.StringIO(newline="")
    csv.writer(sheet).writerow([harmless(value) for value in values])
    (found,) = csv.reader(io.StringIO(sheet.getvalue(), newline=""))
    assert not any(map(runs, found))
    assert [cell[1:] if cell.startswith("'") and runs(cell.lstrip("'")) else cell for cell in found] == values


@pytest.mark.parametrize("cell", ["sato", "a=1", "'tis", "::1", "2026-11-23", "", " ", "'", " 'x"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    """A sign inside is no formula."""
    assert harmless(cell) == cell
