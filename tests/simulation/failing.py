"""One schedule, and what is said of it when it fails."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.auditor import Violation
from tests.simulation.mutations import MUTATIONS
from tests.simulation.world import World, told


@dataclass(frozen=True)
class Failure:
    """An invariant that does not hold, and how to see it again."""

    seed: int
    step: int
    invariant: str
    what: str
    history: tuple[str, ...]
    mutation: str | None

    def __str__(self) -> str:
        again = f"python -m tests.simulation --seed {self.seed} --trace"
        if self.mutation is not None:
            again += f' --mutation "{self.mutation}"'
        return "\n".join([*self.history, f"seed {self.seed}, step {self.step}: {self.what}", f"again: {again}"])


def simulate(seed: int, mutation: str | None = None, tell: Callable[[str], None] | None = None) -> Failure | None:
    """Runs one schedule; None when every invariant holds to its end."""
    world = World(seed, None if mutation is None else MUTATIONS[mutation], tell)
    try:
        world.run()
    except Violation as violation:
        invariant, what = violation.invariant, str(violation)
    except Exception as error:  # noqa: BLE001 - whatever the worker lets through is a finding
        invariant = "the worker does not crash"
        what = f"{invariant}: {error!r}\n{''.join(traceback.format_tb(error.__traceback__)[-4:])}"
    else:
        return None
    return Failure(seed, world.steps, invariant, what, tuple(map(told, world.history)), mutation)
