"""Some hundred random schedules of the worker, and workers with a fault built in, each of which must be found."""

import pytest

from tests.simulation.failing import simulate
from tests.simulation.mutations import MUTATIONS

SEEDS = 600
"""From the first one on; `make simulate SEEDS=…` runs more."""

BROKEN = {
    "no fence": "every offset once",
    "no ledger": "no event twice",
    "Kafka first": "Kafka not ahead",
    "begin at latest": "nothing is lost",
    "swallow a failure": "nothing is lost",
}
"""The invariant that each fault breaks."""


@pytest.mark.parametrize("begin", range(0, SEEDS, 100))
def test_every_invariant_holds_on_every_schedule(begin: int) -> None:
    """A failure names its seed, its step, its invariant, and the command that shows it again."""
    failures = [failure for seed in range(begin, begin + 100) if (failure := simulate(seed)) is not None]
    assert not failures, "\n\n".join(map(str, failures))


@pytest.mark.parametrize("mutation", sorted(MUTATIONS))
def test_a_fault_in_the_worker_is_found(mutation: str) -> None:
    """Within some hundred schedules, by the invariant that it breaks; and its seed shows it again."""
    found = (simulate(seed, mutation) for seed in range(SEEDS))
    failure = next((each for each in found if each is not None and each.invariant == BROKEN[mutation]), None)
    assert failure is not None
    assert f'--seed {failure.seed} --trace --mutation "{mutation}"' in str(failure)
    assert simulate(failure.seed, mutation) == failure
