"""The invariants. The auditor sees every commit and knows what Kafka really held; it believes nothing that the worker says."""

from collections import Counter
from collections.abc import Sequence

from consumer.core.events import Partition, PartitionSlice
from consumer.core.framing import HeadedMessage
from tests.bed.fakes import Batch, Effects, LogRow, PositionKey
from tests.simulation.kafka import Cluster, Entry, Group
from tests.simulation.postgres import Server


class Violation(BaseException):
    """An invariant does not hold.

    Args:
        invariant: its short name.
        what: where, and how.
    """

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


class Auditor:
    """Checks a transaction when it is committed, an offset when it is told to Kafka, and the whole after every step."""

    def __init__(self, cluster: Cluster, group: Group, server: Server) -> None:
        self._cluster = cluster
        self._group = group
        self._server = server
        self._positions: dict[PositionKey, int] = {}
        self._log: list[LogRow] = []
        self._events: Counter[str] = Counter()
        self._restored = False

    # --- a commit ------------------------------------------------------------------------------------------------------------------

    def transaction(self, batch: Batch, effects: Effects) -> None:
        """Every offset that the positions pass is accounted for, once, as what it really was."""
        self._look_at_log()
        for part in batch.slices:
            key = part.partition, part.topic_id
            accounts = self._server.accounts.setdefault(key, [])
            begin = self._server.first[key] + len(accounts)
            if part.expected != begin:
                raise Violation("every offset once", f"{key}: a write from {part.expected}, where {begin} is the next one")
            found = dict(self._rows(key, part, effects))
            if len(found) != len(part.rows) + len(part.quarantined):
                raise Violation("every offset once", f"{key}: one offset of a batch has two fates")
            rest = [offset for offset in range(part.expected, part.next_offset) if offset not in found]
            found.update(self._counted(key, part, rest))
            accounts += [found.pop(offset, "") for offset in range(part.expected, part.next_offset)]
            if found:
                raise Violation("every offset once", f"{key}: offsets {sorted(found)} are not in the batch's range")

    def _rows(self, key: PositionKey, part: PartitionSlice, effects: Effects) -> Sequence[tuple[int, str]]:
        written = {(row.key, row.offset) for row in effects.rows}
        found = []
        for message, record in part.rows:
            offset = message.offset() or 0
            sent = message._message if isinstance(message, HeadedMessage) else message
            entry = next((each for each in self._held(key, offset) if each is sent), None)
            if entry is None or entry.content.event_id != record.event_id:
                raise Violation("only what Kafka delivers", f"{key} {offset}: this event is not (or no more) to be read there")
            refused = effects.quarantine.get((*key, offset))
            if (key, offset) in written:
                found.append((offset, "row"))
            elif refused is not None:
                found.append((offset, f"quarantined: {refused}"))
            elif record.event_id in self._events or any(row.record.event_id == record.event_id for row in effects.rows):
                found.append((offset, "duplicate"))
            else:
                raise Violation("every offset once", f"{key} {offset}: a duplicate of an event that the log does not hold")
        for refusal in part.quarantined:
            entries = [each for each in self._held(key, refusal.offset) if each is not None and each.content.value == refusal.value]
            if not any(each.content.reason is refusal.reason for each in entries):
                raise Violation("quarantined rightly", f"{key} {refusal.offset}: {refusal.reason}")
            found.append((refusal.offset, f"quarantined: {refusal.reason}"))
        return found

    def _counted(self, key: PositionKey, part: PartitionSlice, rest: list[int]) -> dict[int, str]:
        """What has no row, in neither table: only counts say what it was."""
        partition, topic_id = key
        log, dead = self._cluster.all_logs[key], self._cluster.is_dead(partition, topic_id)
        if part.expired and part.expired != len(rest):
            raise Violation("expired only what was removed", f"{key}: {part.expired} of the offsets {rest}")
        if part.expired:
            if not dead and rest[-1] >= log.low:
                raise Violation("expired only what was removed", f"{key}: {rest}, and Kafka holds all from {log.low}")
            return dict.fromkeys(rest, "expired")
        found, either = {}, 0
        for offset in rest:
            held = self._held(key, offset)
            tombstone = any(each is not None and each.content.value is None for each in held)
            if None in held:
                found[offset] = "skipped"
                either += tombstone  # the offset was truncated, and given away again
            elif tombstone:
                found[offset] = "tombstone"
            else:
                what = "a message" if held else "no such offset"
                raise Violation("nothing is lost", f"{key} {offset}: counted as nothing, and Kafka holds {what}")
        counted = Counter(found.values())
        if part.skipped + part.tombstones != len(rest) or not 0 <= counted["skipped"] - part.skipped <= either:
            raise Violation("books balance", f"{key}: {part.skipped} skipped and {part.tombstones} tombstones; really {dict(counted)}")
        return found

    def _held(self, key: PositionKey, offset: int) -> list[Entry]:
        """What ever stood at the offset. Of a deleted topic also what stands there in its successor: the client takes both for one."""
        partition, topic_id = key
        logs = [self._cluster.all_logs[key]]
        if self._cluster.is_dead(partition, topic_id):
            logs = [log for (place, _), log in self._cluster.all_logs.items() if place == partition]
        return [entry for log in logs if offset < len(log.ever) for entry in log.ever[offset]]

    def offset_committed(self, partition: Partition, offset: int) -> None:
        """Kafka is told no more than what PostgreSQL holds."""
        held = max((at for (place, _), at in self._server.positions.items() if place == partition), default=0)
        if offset > held and not self._restored:
            raise Violation("Kafka not ahead", f"{partition}: {offset} is committed to Kafka, PostgreSQL is at {held}")

    def restored(self) -> None:
        """The database went back; from now on it counts as it is."""
        self._restored = True
        self._positions = dict(self._server.positions)
        self._log = list(self._server.log)
        self._events = Counter(row.record.event_id for row in self._log)

    # --- after a step --------------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The whole database, as far as it changed."""
        self._look_at_log()
        server = self._server
        if server.positions != self._positions:
            for key, position in server.positions.items():
                self._check_position(key, position)
            self._positions = dict(server.positions)

    def _look_at_log(self) -> None:
        server = self._server
        if len(server.log) < len(self._log) or (self._log and server.log[len(self._log) - 1] is not self._log[-1]):
            raise Violation("the log only grows", "a row was changed or removed")
        for row in server.log[len(self._log) :]:
            self._log.append(row)
            self._events[row.record.event_id] += 1
            if self._events[row.record.event_id] > 1:
                raise Violation("no event twice", f"{row.key} {row.offset}: {row.record.event_id} is in the log already")

    def _check_position(self, key: PositionKey, position: int) -> None:
        if position < self._positions.get(key, 0):
            raise Violation("positions only move forward", f"{key}: from {self._positions[key]} to {position}")
        accounts = self._server.accounts.get(key, [])
        if position - self._server.first[key] != sum(self._server.books.get(key, Counter()).values()) or len(accounts) != (
            position - self._server.first[key]
        ):
            raise Violation("books balance", f"{key}: at {position} from {self._server.first[key]}, {self._server.books.get(key)}")

    # --- at the end ----------------------------------------------------------------------------------------------------------------

    def check_everything(self) -> None:
        """Once more from the beginning: the log as it was seen growing, and every event that could be read in it or in quarantine."""
        if any(mine is not theirs for mine, theirs in zip(self._log, self._server.log, strict=True)):
            raise Violation("the log only grows", "a row was changed")
        for key, accounts in self._server.accounts.items():
            if self._cluster.is_dead(*key):
                continue
            for offset, fate in enumerate(accounts, self._server.first[key]):
                held = [each for each in self._held(key, offset) if each is not None]
                if fate in {"row", "duplicate"} and not any(each.content.event_id in self._events for each in held):
                    raise Violation("nothing is lost", f"{key} {offset}: accounted as {fate}, and its event is not in the log")
                if fate.startswith("quarantined") and (*key, offset) not in self._server.quarantine:
                    raise Violation("nothing is lost", f"{key} {offset}: accounted as {fate}, and it is not there")

    def undrained(self, said: str) -> list[str]:
        """What Kafka holds and PostgreSQL has not accounted for; what Kafka lost must have been said by the workers."""
        found = []
        for partition, log in self._cluster.logs.items():
            position = self._server.positions.get((partition, self._cluster.ids[partition.topic]), 0)
            beyond = partition in self._cluster.truncated and f"{partition.topic}/{partition.number} is beyond the partition's end" in said
            if position != log.high and not beyond:
                found.append(f"{partition}: at {position} of {log.high}")
        return found
