"""One run: load, faults as planned, the drain, the verdict."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from consumer.cli.main import COMMANDS
from tests.bed.fault_proxy import FaultProxy
from tests.bed.kafka import KafkaBroker
from tests.bed.postgres import PostgresServer
from tests.bed.worker import Workplace
from tests.chaos.account import Account
from tests.chaos.crew import Crew
from tests.chaos.faults import CONTEXTS, Site
from tests.chaos.load import MAX_MESSAGE_BYTES, PARTITIONS, Load
from tests.chaos.plan import SESSION_TIMEOUT, Fault, Plan
from tests.chaos.truth import Topic, end_offsets, read_database, read_topic
from tests.chaos.verdict import Check, examine
from tests.chaos.watch import Ended, Watch, recoveries

DRAIN = 120.0
"""Seconds after the last fault within which everything must be accounted for."""
_PROGRESS = 5.0
"""Seconds between two lines of progress."""

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What came of a run."""

    plan: Plan
    checks: list[Check]
    load: dict[str, int]
    recoveries: list[dict[str, Any]]
    said: dict[str, int]
    """How often the workers logged each event's name; floods are limited by the workers themselves."""
    drained_after: float | None
    """Seconds from the end of the load until everything was accounted for."""
    account: Account
    topic: Topic
    database: str

    @property
    def passed(self) -> bool:
        """Every check did."""
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        plan = self.plan
        return {
            "passed": self.passed,
            "seed": plan.seed,
            "protocol": plan.protocol,
            "workers": plan.workers,
            "seconds": plan.seconds,
            "faults": [str(fault) for fault in plan.faults],
            "load": self.load,
            "workers_said": self.said,
            "offsets": sum(self.topic.ends.values()),
            "drained_after_s": self.drained_after,
            "recoveries": self.recoveries,
            "checks": [check.as_json() for check in self.checks],
        }


class Run:
    """Carries a plan out.

    The plan's clock stands still while a fault's beginning or end is waited for (a restart), so that the order of what
    happens is the plan's on a slow machine too.

    Args:
        plan: what happens.
        broker: is restarted and frozen, and left whole.
        postgres: likewise.
        folder: for the workers' logs.
        rate: messages a second, transactions aside.
        say: gets a line for people.
    """

    def __init__(self, plan: Plan, broker: KafkaBroker, postgres: PostgresServer, folder: Path, rate: float, say: Say) -> None:
        self._plan, self._broker, self._postgres, self._folder, self._rate, self._say = plan, broker, postgres, folder, rate, say
        self._topic = broker.create_topic(f"chaos-{uuid.uuid4().hex[:12]}", PARTITIONS)
        self._database = postgres.new_database()
        self._ended: list[Ended] = []
        self._spoke = 0.0

    def run(self) -> Outcome:
        """From the first message to the verdict."""
        with self._site() as site, Watch(self._database) as watch:
            load = Load(self._broker.client, self._topic, self._plan.seed, self._rate)
            for _ in range(self._plan.workers):
                site.crew.start()
            with load:
                self._faults(site, watch, load)
            started = time.monotonic()
            load.finish()
            ends = end_offsets(self._broker.client, self._topic, PARTITIONS)
            drained = self._drain(site.crew, watch, ends)
            took = round(time.monotonic() - started, 1)
            self._say(f"drained after {took} s" if drained else f"NOT drained within {DRAIN:.0f} s: {watch.positions}, expected {ends}")
            site.crew.stop_all()
            topic = read_topic(self._broker.client, self._topic, ends)
            checks = [
                *examine(load.account, topic, read_database(self._database)),
                *self._conduct(site.crew, watch, drained=drained),
                *self._reconcile(),
            ]
        return Outcome(
            plan=self._plan,
            checks=checks,
            load=dict(load.account.counts),
            recoveries=recoveries(watch, self._ended),
            said=self._said(),
            drained_after=took if drained else None,
            account=load.account,
            topic=topic,
            database=self._database,
        )

    @contextmanager
    def _site(self) -> Iterator[Site]:
        role = f"chaos_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(self._postgres.url(), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {role} LOGIN; GRANT audit_writer TO {role}")
        with (
            FaultProxy("127.0.0.1", self._broker.proxied_port, port=self._broker.proxy_port) as broker_proxy,
            FaultProxy("127.0.0.1", self._postgres.port) as postgres_proxy,
        ):
            database = f"postgresql://{role}@{postgres_proxy.address}/{self._database.rpartition('/')[2]}"
            place = Workplace(
                self._broker, database, self._topic,
                AUDIT_KAFKA_BOOTSTRAP_SERVERS=broker_proxy.address,
                AUDIT_KAFKA_SESSION_TIMEOUT=f"{SESSION_TIMEOUT:.0f}s",
                AUDIT_KAFKA_GROUP_PROTOCOL=self._plan.protocol,
                AUDIT_MAX_MESSAGE_BYTES=str(MAX_MESSAGE_BYTES),
                AUDIT_BATCH_MAX_MESSAGES="200",
                AUDIT_LOG_LEVEL="debug",
            )  # fmt: skip
            with Crew(place.environment, self._folder) as crew:
                yield Site(self._broker, broker_proxy, self._postgres, postgres_proxy, self._database, role, crew)

    def _faults(self, site: Site, watch: Watch, load: Load) -> None:
        steps = [(fault.begins, fault.number, True, fault) for fault in self._plan.faults]
        steps += [(fault.ends, fault.number, False, fault) for fault in self._plan.faults]
        # At the same moment: the end of one fault before the beginning of the next, but never before its own beginning.
        steps.sort(key=lambda step: (step[0], step[1], not step[2]))
        under_way: dict[int, tuple[float, ExitStack]] = {}
        clock = _Clock()
        try:
            for moment, number, begins, fault in steps:
                self._wait(clock, moment, site.crew, watch, load)
                self._say(f"{moment:7.1f} s  {'begin' if begins else 'end  '} #{number} {fault.kind.part}: {fault.kind.name}")
                with clock.standing_still():
                    if begins:
                        under_way[number] = time.monotonic(), self._begin(site, fault)
                    else:
                        began, stack = under_way.pop(number)
                        stack.close()
                        self._ended.append(Ended(fault, began, time.monotonic()))
            self._wait(clock, self._plan.seconds, site.crew, watch, load)
        finally:
            for _, stack in under_way.values():
                stack.close()

    @staticmethod
    def _begin(site: Site, fault: Fault) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(CONTEXTS[fault.kind.part, fault.kind.name](site, fault))
        return stack

    def _wait(self, clock: "_Clock", moment: float, crew: Crew, watch: Watch, load: Load) -> None:
        while (left := moment - clock.now()) > 0:
            self._progress(crew, watch, load)
            time.sleep(min(left, 0.2))

    def _progress(self, crew: Crew, watch: Watch, load: Load | None) -> None:
        crew.look()
        if time.monotonic() - self._spoke >= _PROGRESS:
            self._spoke = time.monotonic()
            sent = "" if load is None else f"{len(load.account.acknowledged)} confirmed outside transactions, "
            self._say(f"           … {sent}{watch.total} offsets accounted for, {len(crew.members)} workers")

    def _drain(self, crew: Crew, watch: Watch, ends: dict[int, int]) -> bool:
        deadline = time.monotonic() + DRAIN
        while watch.positions != ends:
            if time.monotonic() > deadline:
                return False
            self._progress(crew, watch, None)
            time.sleep(0.1)
        return True

    def _conduct(self, crew: Crew, watch: Watch, *, drained: bool) -> list[Check]:
        traces = [log.name for log in sorted(self._folder.glob("worker-*.log")) if "Traceback" in log.read_text(errors="replace")]
        return [
            Check("everything was accounted for in time", 1, [] if drained else [f"not within {DRAIN:.0f} s of the last message"]),
            Check("no worker ended on its own, every stop was graceful", crew.started, crew.deaths),
            Check("no worker met what it did not expect", crew.started, [f"{name} holds a traceback" for name in traces]),
            Check("no position ever moved back", watch.looks, watch.steps_back),
        ]

    def _said(self) -> dict[str, int]:
        names: Counter[str] = Counter()
        for log in self._folder.glob("worker-*.log"):
            for line in log.read_text(errors="replace").splitlines():
                with suppress(ValueError):  # a process that is killed leaves half a line
                    names[json.loads(line)["event"]] += 1
        return dict(names.most_common())

    def _reconcile(self) -> list[Check]:
        if "reconcile" not in COMMANDS:
            return []
        done = Workplace(self._broker, self._database, self._topic).command("reconcile", "--json")
        (self._folder / "reconcile.log").write_text(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return [Check("reconcile finds nothing", 1, [] if done.returncode == 0 else [f"it ended with {done.returncode}"])]


class _Clock:
    """Seconds since it was made, less those in which it stood still."""

    def __init__(self) -> None:
        self._zero = time.monotonic()

    def now(self) -> float:
        """The plan's time."""
        return time.monotonic() - self._zero

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """What happens within takes no time of the plan."""
        stopped = time.monotonic()
        try:
            yield
        finally:
            self._zero += time.monotonic() - stopped


def table(outcome: Outcome) -> Iterator[str]:
    """The verdict for people."""
    yield ""
    for check in outcome.checks:
        yield f"{'ok  ' if check.passed else 'FAIL'} {check.name} ({check.examined} examined)"
        for problem in check.as_json()["first"]:
            yield f"       {problem}"
    yield ""
    yield "seconds from a fault's end until every partition was written again (median, most):"
    for row in outcome.recoveries:
        yield f"  {row['fault']:<36} {_shown(row, 'alone'):<28} {_shown(row, 'overlapped')}"
    yield ""
    yield f"workers: {json.dumps(outcome.said)}"
    yield f"load: {json.dumps(outcome.load)}; {sum(outcome.topic.ends.values())} offsets, {len(outcome.topic.messages)} messages"


def _shown(row: dict[str, Any], name: str) -> str:
    return f"{name} {row[name]}x: {row[f'{name}_median_s']}, {row[f'{name}_max_s']}" if row[name] else ""
