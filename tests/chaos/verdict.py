"""The verdict: what was delivered against what the database holds, offset by offset.

The topic is the truth of what was delivered: of a message that the broker did not confirm nobody knows whether it is there. What a message
*is* the sender's account says, not the code under test; that code (decode and map, proven elsewhere) only says which columns the row of a
good event must have.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from json import loads
from typing import Any, NamedTuple
from uuid import UUID

from consumer.core.events import AuditRecord
from consumer.core.mapping import audit_record
from tests.bed.events import decoder
from tests.chaos.account import Account, digest
from tests.chaos.truth import BOOKS, Database, Place, Topic, TopicMessage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN = 8
"""So many problems of a check are listed."""
_COLUMNS = (
    "event_id", "occurred_at", "tenant", "level", "service", "login_name", "module", "action", "result", "error_code", "complement",
    "subject_type", "source_ip", "content_hash", "source_bytes",
)  # fmt: skip


@dataclass
class Check:
    """One question of the verdict."""

    name: str
    examined: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Nothing was found wrong."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """For machines; the first problems only."""
        found = {"name": self.name, "passed": self.passed, "examined": self.examined, "problems": len(self.problems)}
        return {**found, "first": self.problems[:_SHOWN]}


class _Good(NamedTuple):
    """A delivered valid event."""

    place: Place
    record: AuditRecord


class _Delivered:
    """The delivered messages by what they are."""

    def __init__(self, account: Account, topic: Topic) -> None:
        self.events: defaultdict[str, list[_Good]] = defaultdict(list)
        self.hostile: dict[Place, str] = {}
        self.tombstones: Counter[int] = Counter()
        self.strangers: list[Place] = []
        decode = decoder().decode
        for place, message in sorted(topic.messages.items()):
            sent = None if message.value is None else account.known(message.value)
            if message.value is None:
                self.tombstones[place[0]] += 1
            elif sent is None:
                self.strangers.append(place)
            elif sent.event_id is None:
                self.hostile[place] = sent.reason
            else:
                self.events[sent.event_id].append(_Good(place, audit_record(decode(message.value), message.value)))


def examine(account: Account, topic: Topic, database: Database) -> list[Check]:
    """Every check; the run passed if all of them did."""
    delivered = _Delivered(account, topic)
    rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in database.log:
        rows[str(row["event_id"])].append(row)
    counted: dict[int, Counter[str]] = {partition: Counter() for partition in topic.ends}
    expected_quarantine = dict(delivered.hostile)
    for partition, number in delivered.tombstones.items():
        counted[partition]["tombstones"] = number
    for event_id, goods in delivered.events.items():
        _count_event(goods, rows[event_id], counted, expected_quarantine)
    messages = Counter(partition for partition, _ in topic.messages)
    for partition, end in topic.ends.items():
        counted[partition]["skipped"] = end - messages[partition]
    for partition, _ in expected_quarantine:
        counted[partition]["quarantined"] += 1
    return [
        _kafka_kept_its_word(account, topic, delivered),
        _log(delivered, rows),
        _ledger(database),
        _quarantine(expected_quarantine, topic.messages, database.quarantine),
        _books(counted, topic.ends, database.positions),
        _gaps(database),
    ]


def _count_event(
    goods: Iterable[_Good], rows: list[dict[str, Any]], counted: Mapping[int, Counter[str]], quarantine: dict[Place, str]
) -> None:
    """Where each message of an event must be, given which of them came first: in other partitions that is a matter of chance."""
    first = _place(rows[0]) if rows else None
    for good in goods:
        if good.place == first:
            counted[good.place[0]]["written"] += 1
        elif rows and good.record.content_hash == bytes(rows[0]["content_hash"]):
            counted[good.place[0]]["duplicates"] += 1
        else:
            quarantine[good.place] = "conflict"


def _kafka_kept_its_word(account: Account, topic: Topic, delivered: _Delivered) -> Check:
    """Not the worker's matter, but without it the rest would prove nothing: what was confirmed is in the topic, and nothing else."""
    check = Check("Kafka holds what it confirmed", len(account.acknowledged) + len(account.committed) + len(account.aborted))
    for place, mark in account.acknowledged.items():
        message = topic.messages.get(place)
        if message is None or (None if message.value is None else digest(message.value)) != mark:
            check.problems.append(f"{_text(place)}: confirmed, and not in the topic")
    check.problems += [f"{_text(place)}: committed, and not in the topic" for place in account.committed - topic.messages.keys()]
    check.problems += [f"{_text(place)}: aborted, and delivered all the same" for place in account.aborted & topic.messages.keys()]
    check.problems += [f"{_text(place)}: nobody sent this" for place in delivered.strangers]
    check.problems += account.failures
    return check


def _log(delivered: _Delivered, rows: Mapping[str, list[dict[str, Any]]]) -> Check:
    check = Check("every delivered event is in the log once, as it was sent", len(delivered.events))
    for event_id, goods in delivered.events.items():
        found = rows.get(event_id, [])
        if len(found) != 1:
            check.problems.append(f"event at {_text(goods[0].place)}: {len(found)} rows")
            continue
        check.problems += _row_problems(goods, found[0])
    strange = [row for event_id, found in rows.items() if event_id not in delivered.events for row in found]
    check.problems += [f"row from {_text(_place(row))}: no such event was delivered" for row in strange]
    return check


def _row_problems(goods: list[_Good], row: Mapping[str, Any]) -> Iterator[str]:
    place = _place(row)
    same = [good for good in goods if good.place == place]
    if not same:
        yield f"row from {_text(place)}: this event was not delivered there"
        return
    if any(good.place < place and good.place[0] == place[0] for good in goods):
        yield f"row from {_text(place)}: an earlier message of the partition has the same event"
    wanted = _row(same[0].record)
    for column in _COLUMNS:
        if row[column] != wanted[column]:
            yield f"row from {_text(place)}: {column} differs"


def _row(record: AuditRecord) -> dict[str, Any]:
    """The record as the driver gives a row."""
    address = None if record.source_ip is None else ip_address(record.source_ip)
    return {
        **record._asdict(),
        "event_id": UUID(record.event_id),
        "occurred_at": _EPOCH + timedelta(microseconds=record.occurred_at),
        "complement": loads(record.complement),
        "source_ip": address,
    }


def _ledger(database: Database) -> Check:
    check = Check("log and ledger agree", len(database.ledger))
    fields = ("event_id", "occurred_at", "content_hash")
    log = Counter(tuple(map(row.get, fields)) for row in database.log)
    ledger = Counter(tuple(map(row.get, fields)) for row in database.ledger)
    check.problems += [f"event {entry[0]}: in the log, not so in the ledger" for entry in log - ledger]
    check.problems += [f"event {entry[0]}: in the ledger, not so in the log" for entry in ledger - log]
    return check


def _quarantine(expected: Mapping[Place, str], messages: Mapping[Place, TopicMessage], rows: list[dict[str, Any]]) -> Check:
    check = Check("quarantine holds the hostile and the conflicting, byte for byte", len(expected))
    found: defaultdict[Place, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[_place(row)].append(row)
    for place, reason in expected.items():
        if len(found[place]) != 1:
            check.problems.append(f"{_text(place)}: {len(found[place])} times in quarantine, expected once ({reason})")
        elif found[place][0]["reason"] != reason:
            check.problems.append(f"{_text(place)}: in quarantine as {found[place][0]['reason']}, expected {reason}")
        elif (found[place][0]["key"], found[place][0]["value"]) != messages[place]:
            check.problems.append(f"{_text(place)}: its bytes in quarantine are not those of the topic")
    for place in found.keys() - expected.keys():
        check.problems.append(f"{_text(place)}: in quarantine ({found[place][0]['reason']}), and it should not be")
    return check


def _books(counted: Mapping[int, Counter[str]], ends: Mapping[int, int], positions: list[dict[str, Any]]) -> Check:
    check = Check("every offset is accounted for, in the right book", sum(ends.values()))
    rows = {row["kafka_partition"]: row for row in positions}
    if len(positions) != len(rows) or rows.keys() - ends.keys():
        check.problems.append("there are positions of other partitions, or topics")
    for partition, end in ends.items():
        row = rows.get(partition)
        if row is None:
            check.problems.append(f"partition {partition}: no position")
            continue
        if (row["first_offset"], row["next_offset"]) != (0, end):
            check.problems.append(f"partition {partition}: from {row['first_offset']} to {row['next_offset']}, expected 0 to {end}")
        if sum(row[book] for book in BOOKS) != end:
            check.problems.append(f"partition {partition}: the books do not add up to {end}")
        for book in BOOKS:
            if row[book] != counted[partition][book]:
                check.problems.append(f"partition {partition}: {row[book]} {book}, expected {counted[partition][book]}")
    return check


def _gaps(database: Database) -> Check:
    return Check("no offset was missed", len(database.positions), [f"a gap in partition {row['kafka_partition']}" for row in database.gaps])


def _place(row: Mapping[str, Any]) -> Place:
    return row["kafka_partition"], row["kafka_offset"]


def _text(place: Place) -> str:
    return f"{place[0]}/{place[1]}"
