"""The arithmetic of the benchmark, and the tables made of it."""

from datetime import UTC, date, datetime
from itertools import pairwise
from statistics import quantiles
from uuid import UUID

import pytest

from tests.bed.events import decoder
from tests.bench import figures, report, split
from tests.bench.__main__ import PARTS
from tests.bench.figures import Progress
from tests.bench.history import months_back
from tests.bench.limit import Rows
from tests.bench.load import messages, now_micros, time_bytes


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """The smallest one that the share does not exceed."""
    values = [float(number) for number in range(1, 101)]
    assert figures.percentile(values, 0.5) == 50
    assert figures.percentile(values, 0.99) == 99
    assert figures.percentile(values, 1.0) == 100
    assert figures.percentile([7.0], 0.999) == 7
    many = [number / 10_000 for number in range(10_000)]
    assert figures.percentile(many, 0.99) == pytest.approx(quantiles(many, n=100)[98], abs=0.001)


def test_a_percentile_of_too_few_values_is_not_given() -> None:
    """A p99.9 of a thousand events would be the chance of a single one."""
    assert figures.latencies([0.001] * 1_000) == {"count": 1_000, "p50_ms": 1.0, "p99_ms": 1.0, "p999_ms": None, "max_ms": 1.0}
    assert figures.latencies([0.001] * 10_000)["p999_ms"] == 1.0
    assert figures.latencies([])["max_ms"] is None


def test_the_ratio_is_of_neighbours() -> None:
    """A machine that turns slow halfway does not change it."""
    assert figures.median_ratio([(100.0, 50.0), (10.0, 5.0), (20.0, 8.0)]) == 0.5


def test_the_rate_counts_what_came_after_the_first_commit() -> None:
    """The first batch was worked on before the clock ran."""
    seen = [Progress(10.0, 2_000, 1.0), Progress(11.0, 6_000, 1.2), Progress(14.0, 10_000, 1.4)]
    assert figures.rate(seen) == 2_000
    assert figures.cpu_per_event(seen) == pytest.approx(0.4 / 8_000)
    with pytest.raises(ValueError, match="one commit has no rate"):
        figures.rate(seen[:1])


def test_recovered_is_when_nothing_is_late_any_more() -> None:
    """Not when the first row came: behind it the lag is still being worked off."""
    rows = [(1.0, 1.1), (2.0, 10.0), (5.0, 11.0), (10.9, 11.5), (12.0, 12.1)]
    assert figures.caught_up(rows, back_at=9.5) == 2.0
    assert figures.caught_up(rows[:3], back_at=9.5) is None
    assert figures.caught_up([(1.0, 1.1), (12.0, 12.1)], back_at=9.5) == 0.0  # it was never late


def test_the_lag_is_what_is_sent_and_not_yet_visible() -> None:
    """At each step."""
    assert figures.lag_curve([(1.0, 3.0), (2.0, 3.0)], 0.0, 3.0, 1.0) == [(0.0, 0), (1.0, 1), (2.0, 2), (3.0, 0)]


def test_a_slope_is_of_the_line_through_the_points() -> None:
    """And none where there is no line."""
    assert figures.slope([(0, 1.0), (1, 3.0), (2, 5.0)]) == 2
    assert figures.slope([(1, 1.0)]) == 0


def test_events_of_the_load_are_events() -> None:
    """Another id and another time in the bytes of a template: the strict decoder reads what was meant."""
    read = [decoder().decode(value or b"") for _, value in messages(500, seed=1, every=1_000, last=now_micros())]
    assert len({event.event_id for event in read}) == 500
    assert {UUID(event.event_id).version for event in read} == {7}
    assert {after.occurred_at - before.occurred_at for before, after in pairwise(read)} == {1_000}
    assert len({event.change_type for event in read}) == 10


@pytest.mark.parametrize("micros", [600_000_000_000_000, now_micros(), 2**55 - 1], ids=["1989", "now", "3111"])
def test_a_time_is_written_as_avro_does(micros: int) -> None:
    """A zigzag varint of eight bytes."""
    data = time_bytes(micros)
    assert [byte >> 7 for byte in data] == [1] * 7 + [0]
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data)) == micros * 2


def test_rows_of_the_limit_are_renewed_in_both_tables_alike() -> None:
    """Ids in order, each the same in ledger and log; a share of them is spread evenly."""
    start = b"\x00\x03\x00\x00\x00\x10" + bytes(16) + b"\x00\x00\x00\x08" + (10**15).to_bytes(8, "big")
    rows = Rows([start + b"ledger"] * 100, [start + b"log"] * 100)
    renewed = rows.renewed(seed=1)
    ids = [row[6:22] for row in renewed.ledger]
    assert ids == [row[6:22] for row in renewed.log] == sorted(set(ids))
    assert renewed.log[0].endswith(b"log")
    assert [len(rows.share(percent).log) for percent in (0, 10, 100)] == [0, 10, 100]


def test_what_the_clocks_cost_is_taken_off() -> None:
    """An outer step is without the inner ones, and without their clocks."""
    clocks = {step.name: split.Clock() for step in split.STEPS}
    clocks["slice"].seconds, clocks["slice"].calls = 10.0, 1
    clocks["decode"].seconds, clocks["decode"].calls = 5.0, 10
    own = split.own_seconds(clocks, split.Cost(inside=0.1, whole=0.2))
    assert own["decode"] == pytest.approx(4.0)
    assert own["slice"] == pytest.approx(10.0 - 0.1 - 4.0 - 2.0)


def test_months_lie_one_after_the_other() -> None:
    """Over the year's end, the newest one not beyond yesterday."""
    spans = months_back(date(2026, 1, 15), 3)
    assert spans == [
        (datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)),
        (datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 15, tzinfo=UTC)),
    ]


def test_a_table_stands_between_its_marks() -> None:
    """What is written by hand around it stays; a part that was not measured keeps its table."""
    text = "before\n<!-- drain -->\nold\n<!-- /drain -->\nbetween\n<!-- split -->\nkept\n<!-- /split -->\nafter\n"
    assert report.filled(text, {"drain": "new"}) == (
        "before\n<!-- drain -->\nnew\n<!-- /drain -->\nbetween\n<!-- split -->\nkept\n<!-- /split -->\nafter\n"
    )
    with pytest.raises(ValueError, match="no place for the table other"):
        report.filled(text, {"other": "new"})


def test_every_part_is_described_and_has_its_table() -> None:
    """docs/performance.md says of each part what it measures, and has a place for its table."""
    text = report.DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in PARTS if f"`{name}`" not in text] == []
    assert set(report.TABLES) == {"about", *PARTS}
    assert "mark" in report.filled(text, dict.fromkeys(report.TABLES, "mark"))


def test_a_table_of_latencies() -> None:
    """Numbers as people read them; what is unknown is a dash."""
    point = {"rate": 1_000, "linger_ms": 0, "p50_ms": 3.14159, "p99_ms": 19.0, "p999_ms": None, "max_ms": 123.4, "sustained": True,
             "cpu_share": 0.25, "peak_mb": 80.4}  # fmt: skip
    assert report.TABLES["latency"]([point, {**point, "sustained": False}]).splitlines()[2:] == [
        "| 1,000 | 0 | 3.1 | 19.0 | - | 123 | 25 % | 80.4 |",
        "| 1,000 (not sustained) | 0 | 3.1 | 19.0 | - | 123 | 25 % | 80.4 |",
    ]
