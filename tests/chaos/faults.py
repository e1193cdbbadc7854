"""What each kind of fault does. Every one is a context: it begins, lasts as long as the plan says, and ends with everything whole again."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import psycopg

from tests.bed.fault_proxy import FaultProxy
from tests.bed.kafka import KafkaBroker
from tests.bed.postgres import PostgresServer
from tests.chaos.crew import Crew
from tests.chaos.plan import Fault

_LONGEST_DELAY = 0.2
"""Seconds that a chunk of bytes is held up, at most."""


@dataclass(frozen=True)
class Site:
    """The parts of a run. The workers reach broker and database through the proxies only."""

    broker: KafkaBroker
    broker_proxy: FaultProxy
    postgres: PostgresServer
    postgres_proxy: FaultProxy
    database: str
    """The straight way to the database, as its superuser: a libpq URL."""
    role: str
    """What the workers log in as."""
    crew: Crew

    def proxy(self, part: str) -> FaultProxy:
        """The proxy in front of a part."""
        return self.postgres_proxy if part == "database" else self.broker_proxy

    def administer(self, *statements: str) -> None:
        """Runs statements as the superuser, also while the cluster is read-only."""
        with psycopg.connect(self.database, autocommit=True, options="-c default_transaction_read_only=off") as connection:
            for statement in statements:
                connection.execute(statement)

    def backends(self) -> list[int]:
        """The workers' backends."""
        with psycopg.connect(self.database) as connection:
            found = connection.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s ORDER BY pid", (self.role,)).fetchall()
        return [pid for (pid,) in found]


Context = Callable[[Site, Fault], AbstractContextManager[None]]


@contextmanager
def _kill_worker(site: Site, fault: Fault) -> Iterator[None]:
    member = site.crew.pick(fault.pick)
    if member is not None:
        site.crew.kill(member)
    yield
    if member is not None:
        site.crew.start()


@contextmanager
def _stop_worker(site: Site, fault: Fault) -> Iterator[None]:
    member = site.crew.pick(fault.pick)
    if member is not None:
        site.crew.ask_to_stop(member)
    yield
    if member is not None:
        site.crew.start()


@contextmanager
def _freeze_worker(site: Site, fault: Fault) -> Iterator[None]:
    member = site.crew.pick(fault.pick)
    if member is not None:
        site.crew.freeze(member)
    yield
    if member is not None:
        site.crew.thaw(member)


@contextmanager
def _join(site: Site, fault: Fault) -> Iterator[None]:
    site.crew.start()
    yield
    member = site.crew.pick(fault.pick)  # the newcomer or another: one of them leaves
    if member is not None:
        site.crew.ask_to_stop(member)


@contextmanager
def _cut(site: Site, fault: Fault) -> Iterator[None]:
    site.proxy(fault.kind.part).cut()
    yield


@contextmanager
def _freeze_network(site: Site, fault: Fault) -> Iterator[None]:
    proxy = site.proxy(fault.kind.part)
    proxy.freeze()
    try:
        yield
    finally:
        proxy.thaw()


@contextmanager
def _refuse(site: Site, fault: Fault) -> Iterator[None]:
    proxy = site.proxy(fault.kind.part)
    proxy.refuse()
    proxy.cut()
    try:
        yield
    finally:
        proxy.accept()


@contextmanager
def _delay(site: Site, fault: Fault) -> Iterator[None]:
    proxy = site.proxy(fault.kind.part)
    proxy.delay(fault.pick * _LONGEST_DELAY)
    try:
        yield
    finally:
        proxy.delay(0)


@contextmanager
def _lose_answer(site: Site, _: Fault) -> Iterator[None]:
    # Where nobody commits before the fault ends, the next commit's answer is lost, whenever that is.
    site.postgres_proxy.cut_after_request(b"COMMIT")
    yield


@contextmanager
def _terminate_backends(site: Site, _: Fault) -> Iterator[None]:
    site.administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{site.role}'")
    yield


def _stop_postgres(mode: str) -> Context:
    @contextmanager
    def stopped(site: Site, _: Fault) -> Iterator[None]:
        site.postgres.stop(mode)
        try:
            yield
        finally:
            site.postgres.start()

    return stopped


@contextmanager
def _freeze_backend(site: Site, fault: Fault) -> Iterator[None]:
    backends = site.backends()
    frozen = backends[int(fault.pick * len(backends))] if backends else None
    if frozen is not None:
        with suppress(ProcessLookupError):
            os.kill(frozen, signal.SIGSTOP)
    try:
        yield
    finally:
        if frozen is not None:
            with suppress(ProcessLookupError):
                os.kill(frozen, signal.SIGCONT)


@contextmanager
def _read_only(site: Site, _: Fault) -> Iterator[None]:
    site.administer("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        site.administer("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")


@contextmanager
def _kill_broker(site: Site, _: Fault) -> Iterator[None]:
    site.broker.stop(signal.SIGKILL)
    try:
        yield
    finally:
        site.broker.start()


@contextmanager
def _freeze_broker(site: Site, _: Fault) -> Iterator[None]:
    site.broker.send(signal.SIGSTOP)
    try:
        yield
    finally:
        site.broker.send(signal.SIGCONT)


CONTEXTS: dict[tuple[str, str], Context] = {
    ("workers", "kill a worker"): _kill_worker,
    ("workers", "stop a worker"): _stop_worker,
    ("workers", "freeze a worker"): _freeze_worker,
    ("workers", "a worker joins"): _join,
    ("database", "cut"): _cut,
    ("database", "freeze the network"): _freeze_network,
    ("database", "refuse and cut"): _refuse,
    ("database", "delay"): _delay,
    ("database", "lose a commit's answer"): _lose_answer,
    ("database", "terminate the backends"): _terminate_backends,
    ("database", "restart"): _stop_postgres("fast"),
    ("database", "crash"): _stop_postgres("immediate"),
    ("database", "freeze a backend"): _freeze_backend,
    ("database", "read-only"): _read_only,
    ("kafka", "cut"): _cut,
    ("kafka", "freeze the network"): _freeze_network,
    ("kafka", "refuse and cut"): _refuse,
    ("kafka", "delay"): _delay,
    ("kafka", "kill the broker"): _kill_broker,
    ("kafka", "freeze the broker"): _freeze_broker,
}
