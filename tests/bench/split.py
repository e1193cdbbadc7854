"""Where the CPU time of an event goes: the worker inside a process of its own, with a clock around its steps.

`python -m tests.bench.split`, with a worker's settings in the environment; one JSON object on standard output. The clocks cost time
themselves: what a call costs with nothing in it is measured before, and taken off.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from consumer.cli.wiring import Drain, worker_parts
from consumer.observe.health import Heartbeat
from consumer.observe.logs import configure_logging
from consumer.observe.metrics import WorkerMetrics
from consumer.observe.observer import WorkerObserver
from consumer.settings import load_settings
from tests.bench.pairs import Ground


class Step(NamedTuple):
    """A step of the way, and the function that does it."""

    name: str
    module: str
    path: str
    within: str | None = None  # the step that calls it


STEPS = (
    Step("consume", "consumer.kafka.source", "KafkaSource.consume"),
    Step("slice", "consumer.worker", "add_messages"),
    Step("decode", "consumer.core.decoding", "Decoder.decode", within="slice"),
    Step("map", "consumer.core.slicing", "audit_record", within="slice"),
    Step("render", "consumer.postgres.store", "PostgresStore.prepare"),
    Step("write", "consumer.postgres.store", "PostgresStore.write"),
)
"""Consume, decode, map, render and write; "slice" is the loop around decode and map. Only "write" is in a thread of its own."""


class Clock:
    """CPU time of the calling thread, inside one function. Each function is called by one thread only."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with the clock around it."""
        now = time.thread_time

        def timed(*args: Any, **named: Any) -> Any:
            began = now()
            try:
                return function(*args, **named)
            finally:
                self.seconds += now() - began
                self.calls += 1

        return timed


class Cost(NamedTuple):
    """What a clock costs, in seconds a call."""

    inside: float  # counted by the clock itself
    whole: float  # counted by whoever calls


def clock_cost(calls: int = 50_000) -> Cost:
    """Measures a clock around nothing."""
    clock = Clock()
    timed = clock.around(lambda _: None)
    began = time.thread_time()
    for _ in range(calls):
        timed(None)
    return Cost(clock.seconds / calls, (time.thread_time() - began) / calls)


def own_seconds(clocks: dict[str, Clock], cost: Cost) -> dict[str, float]:
    """Each step's own time: without the steps within it, and without the clocks."""
    own = {step.name: clocks[step.name].seconds - clocks[step.name].calls * cost.inside for step in STEPS}
    for step in STEPS:
        if step.within is not None:
            # What the outer clock saw of the inner call: its own time, and all of its clock.
            own[step.within] -= own[step.name] + clocks[step.name].calls * cost.whole
    return own


def _install() -> dict[str, Clock]:
    clocks = {}
    for step in STEPS:
        owner: Any = importlib.import_module(step.module)
        *names, last = step.path.split(".")
        for name in names:
            owner = getattr(owner, name)
        clock = clocks[step.name] = Clock()
        setattr(owner, last, clock.around(getattr(owner, last)))
    return clocks


def _inside() -> dict[str, Any]:
    """Drains in this process; microseconds an event."""
    settings = load_settings(os.environ)
    configure_logging("warning", settings.log_format)
    cost = clock_cost()
    clocks = _install()
    observer = WorkerObserver(WorkerMetrics(CollectorRegistry()), Heartbeat(time.monotonic), time.monotonic)
    with worker_parts(settings, observer) as parts:
        main, whole = time.thread_time(), time.process_time()
        parts.worker.run(lambda: False, Drain(parts, settings).done)
        main, whole = time.thread_time() - main, time.process_time() - whole
    events = clocks["decode"].calls
    own = own_seconds(clocks, cost)
    clocked = sum(clock.calls for clock in clocks.values()) * cost.whole
    writing = clocks["write"].seconds
    own["rest of the loop"] = main - clocked - sum(seconds for name, seconds in own.items() if name != "write")
    own["client's threads"] = whole - main - writing
    return {
        "events": events,
        "us_per_event": {name: seconds / events * 1e6 for name, seconds in own.items()},
        "process_us_per_event": (whole - clocked) / events * 1e6,
    }


def measure(ground: Ground, rounds: int) -> dict[str, Any]:
    """The split of the round that took least, for noise only adds."""
    runs = []
    for _ in range(rounds):
        with ground.bed.database() as database:
            environment = ground.bed.environment(database, ground.topic)
            ground.bed.settle()
            command = [sys.executable, "-m", "tests.bench.split"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise RuntimeError(f"the worker inside ended with {done.returncode}: {done.stderr[-3000:]}")
        runs.append(json.loads(done.stdout))
    best: dict[str, Any] = min(runs, key=lambda run: run["process_us_per_event"])
    ground.say("  " + ", ".join(f"{name} {micros:.1f}" for name, micros in best["us_per_event"].items()))
    return {**best, "rounds": rounds}


if __name__ == "__main__":
    json.dump(_inside(), sys.stdout)
