"""The cursor of whoever follows the log, in a model: writers that commit in any order, looks and snapshots at any moment."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from consumer.core.following import OVERLAP, Horizon

_START = datetime(2026, 11, 23, tzinfo=UTC)
_STEPS = st.lists(st.sampled_from(["begin", "insert", "commit", "time", "look", "read"]), min_size=60, max_size=120)


class _Model:
    """A database's clock, its open transactions and what is committed."""

    def __init__(self) -> None:
        self.seconds = 0
        self.number = 0
        self.open: dict[str, list[int]] = {}  # rows by transaction, each the second in which it was recorded
        self.committed: list[tuple[str, int, int]] = []

    def step(self, what: str, choice: int) -> None:
        names = sorted(self.open)
        if what == "time":
            self.seconds += 7
        elif what == "begin":
            self.number += 1
            self.open[f"1/{self.number}"] = []
        elif names and what == "insert":
            self.open[names[choice % len(names)]].append(self.seconds)
        elif names and what == "commit":
            name = names[choice % len(names)]
            self.committed += [(name, place, at) for place, at in enumerate(self.open.pop(name))]


@given(_STEPS, st.lists(st.integers(0, 5), min_size=120, max_size=120))
def test_nothing_appears_before_the_start(steps: list[str], choices: list[int]) -> None:
    """Read from `start` at each poll, every row is met; and `start` never goes back."""
    model, horizon = _Model(), Horizon()
    horizon.look(_START, [])
    met: set[tuple[str, int, int]] = set()
    since = horizon.start
    for what, choice in zip(steps, choices, strict=False):
        if what == "look":
            horizon.look(_START + timedelta(seconds=model.seconds), model.open)
        elif what == "read":
            assert horizon.known
            met |= {row for row in model.committed if _START + timedelta(seconds=row[2]) >= since}
            assert met == set(model.committed)
            assert horizon.start >= since
            since = horizon.start
        else:
            model.step(what, choice)


def test_who_was_writing_before_makes_the_start_unknown() -> None:
    """Until that transaction is gone; a later one is known by the look before it."""
    horizon = Horizon()
    assert not horizon.known
    horizon.look(_START, ["1/1"])
    assert not horizon.known
    horizon.look(_START + timedelta(seconds=10), ["1/1", "1/2"])
    assert not horizon.known
    horizon.look(_START + timedelta(seconds=20), ["1/2"])
    assert horizon.known
    assert horizon.start == _START - OVERLAP
    horizon.look(_START + timedelta(seconds=30), [])
    assert horizon.start == _START + timedelta(seconds=30) - OVERLAP
