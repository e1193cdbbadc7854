"""The model of PostgreSQL: the fake database with transactions that take time, hold locks, and end without their client's knowledge."""

from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from consumer.core.errors import FencedError, TransientError
from consumer.core.events import Partition
from consumer.postgres.statements import LOCK_TIMEOUT
from tests.bed.fakes import Batch, Effects, MemoryDatabase, MemoryStore, PositionKey

if TYPE_CHECKING:
    from tests.simulation.auditor import Auditor
    from tests.simulation.world import Actor, World


class Transaction:
    """What a backend does for a write. It may outlive the call, and the process, that began it."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.positions: set[PositionKey] = set()  # locked rows
        self.events: set[str] = set()  # locked keys of the ledger
        self.effects: Effects | None = None
        self.state = "open"  # open, sent (COMMIT is under way to the server), committed, gone
        self.client = True  # whether somebody still listens


class Snapshot(NamedTuple):
    """A backup."""

    tables: dict[str, Any]


_TABLES = ("log", "known", "quarantine", "positions", "first", "books", "accounts")


class Server(MemoryDatabase):
    """The database, for all workers."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.accounts: dict[PositionKey, list[str]] = {}
        """What became of each offset from the position's first one on, as the auditor found it."""
        self.transactions: list[Transaction] = []
        self.down_until = self.frozen_until = self.slow_until = 0.0
        self.backup: Snapshot | None = None
        self.auditor: Auditor

    def holder(self, mine: Transaction, positions: set[PositionKey], events: set[str]) -> Transaction | None:
        """Whose lock is in the way."""
        for other in self.transactions:
            if other is not mine and (other.positions & positions or other.events & events):
                return other
        return None

    def end(self, transaction: Transaction, *, commit: bool) -> None:
        """The transaction's end, seen by its client or not."""
        if transaction not in self.transactions:
            return
        self.transactions.remove(transaction)
        transaction.state = "committed" if commit else "gone"
        if commit and transaction.effects is not None:
            self.auditor.transaction(transaction.batch, transaction.effects)
            self.commit(transaction.effects)

    def end_blockers(self, mine: Transaction) -> None:
        """As PostgresStore: only who holds our positions."""
        wanted = {(part.partition, part.topic_id) for part in mine.batch.slices}
        for other in list(self.transactions):
            if other is not mine and other.positions & wanted:
                self.end(other, commit=False)

    def work(self) -> None:
        """What goes on without any client."""
        for each in list(self.transactions):
            if each.state == "sent" and self._random.random() < 0.6:
                self.end(each, commit=True)
            elif each.state == "open" and not each.client and self._random.random() < 0.02:
                self.end(each, commit=False)

    def crash(self) -> None:
        """All backends end; a COMMIT under way may have been in time."""
        for each in list(self.transactions):
            self.end(each, commit=each.state == "sent" and self._random.random() < 0.5)

    def dump(self) -> None:
        """Makes a backup."""
        tables = {name: copy(getattr(self, name)) for name in _TABLES}
        for name in ("books", "accounts"):
            tables[name] = {key: copy(each) for key, each in tables[name].items()}
        self.backup = Snapshot(tables)

    def restore(self) -> None:
        """Goes back to the backup."""
        self.crash()
        if self.backup is not None:
            for name, table in self.backup.tables.items():
                setattr(self, name, table)
            self.dump()  # the tables must not be the backup's own


class _Call:
    """A call in flight, from the client's side."""

    def __init__(self, batch: Batch | None = None, question: Callable[[], Any] | None = None) -> None:
        self.question = question
        self.transaction = None if batch is None else Transaction(batch)
        self.begun = False
        self.blocked: float | None = None
        self.done = False
        self.outcome: Any = None

    def finish(self, outcome: Any) -> None:
        self.outcome, self.done = outcome, True


class Session(MemoryStore):
    """One worker's store: a call goes on by small steps, at any of which something may happen."""

    def __init__(self, world: "World", actor: "Actor") -> None:
        super().__init__(world.server)
        self._world = world
        self._server = world.server
        self._actor = actor
        self._flight: _Call | None = None

    @property
    def busy(self) -> bool:
        """As BackgroundStore."""
        return self._flight is not None

    def start_write(self, batch: Batch) -> None:
        """As BackgroundStore."""
        assert not self.busy, "a call is in flight"
        self._actor.note("write", [(part.partition.number, part.expected, part.next_offset) for part in batch.slices])
        self._flight = _Call(batch)
        self._world.boundary(self._actor, "start write")

    def start_open(self, wanted: Mapping[Partition, tuple[str, int]]) -> None:
        """As BackgroundStore."""
        assert not self.busy, "a call is in flight"
        self._actor.note("open", dict(wanted))
        self._flight = _Call(question=partial(self._server.open_positions, dict(wanted)))
        self._world.boundary(self._actor, "start open")

    def start_look(self, wanted: Mapping[Partition, str]) -> None:
        """As BackgroundStore."""
        assert not self.busy, "a call is in flight"
        self._actor.note("look", dict(wanted))
        self._flight = _Call(question=partial(self._server.look, dict(wanted)))
        self._world.boundary(self._actor, "start look")

    def wait(self, timeout: float) -> bool:
        """As BackgroundStore."""
        deadline = self._world.now + timeout
        while self._flight is not None and not self._flight.done:
            self._world.boundary(self._actor, "wait")
            self.go_on()
            if self._world.now >= deadline:
                break
            self._world.pass_time(max(timeout / 4, 0.01))
        return self._flight is not None and self._flight.done

    def result(self) -> Any:
        """As BackgroundStore."""
        call, self._flight = self._flight, None
        assert call is not None
        assert call.done, "the call is not done"
        self._actor.note("result", call.outcome)
        if isinstance(call.outcome, Exception):
            raise call.outcome
        return call.outcome

    def cut(self) -> None:
        """As BackgroundStore."""
        if self._flight is not None:
            self._abandon(self._flight, "cut")

    def vanish(self) -> None:
        """The process is gone: its backend may notice or not."""
        if self._flight is not None and not self._flight.done:
            self._abandon(self._flight, "killed")
        self._flight = None

    def go_on(self) -> None:
        """The client's thread goes on with the call in flight, as far as the server lets it."""
        call, world, server = self._flight, self._world, self._server
        if call is None or call.done or world.now < server.frozen_until:
            return
        server.work()
        if world.now < server.down_until:
            self._abandon(call, "connection refused")
        elif world.now < server.slow_until and world.random.random() < 0.9:
            return
        elif world.happens("connection lost"):
            self._abandon(call, "connection lost")
        elif call.transaction is not None:
            self._go_on_writing(call, call.transaction)
        elif call.question is not None:
            found = call.question()
            call.finish(TransientError("the answer was lost") if world.happens("connection lost") else found)

    def _go_on_writing(self, call: _Call, mine: Transaction) -> None:
        if mine.state == "committed":
            assert mine.effects is not None
            call.finish(mine.effects.written)
        elif mine.state == "gone":
            call.finish(TransientError("PostgreSQL: the connection was terminated"))
        elif mine.state == "sent":
            return
        elif not mine.positions:
            self._advance(call, mine)
        elif mine.effects is None:
            self._insert(call, mine)
        else:
            mine.state = "sent"

    def _advance(self, call: _Call, mine: Transaction) -> None:
        wanted = {(part.partition, part.topic_id) for part in mine.batch.slices}
        if self._is_blocked(call, mine, wanted, set()):
            return
        try:
            self._server.check_fence(mine.batch)
        except FencedError as error:
            call.finish(error)
        else:
            mine.positions = wanted
            self._server.transactions.append(mine)

    def _insert(self, call: _Call, mine: Transaction) -> None:
        events = {record.event_id for part in mine.batch.slices for _, record in part.rows}
        if self._is_blocked(call, mine, set(), events):
            return
        mine.effects = self._server.effects(mine.batch)
        mine.events = {row.record.event_id for row in mine.effects.rows}

    def _is_blocked(self, call: _Call, mine: Transaction, positions: set[PositionKey], events: set[str]) -> bool:
        if self._server.holder(mine, positions, events) is None:
            call.blocked = None
            return False
        if call.blocked is None:
            call.blocked = self._world.now
        elif self._world.now - call.blocked > LOCK_TIMEOUT:
            self._server.end(mine, commit=False)
            self._server.end_blockers(mine)
            call.finish(TransientError("PostgreSQL: canceling statement due to lock timeout"))
        return True

    def _abandon(self, call: _Call, why: str) -> None:
        """The client gives up; what the server does of it is open."""
        mine = call.transaction
        if mine is not None and mine in self._server.transactions:
            mine.client = False
            if mine.state == "open" and self._world.random.random() < 0.7:
                self._server.end(mine, commit=False)
        call.finish(TransientError(f"PostgreSQL: {why}"))
