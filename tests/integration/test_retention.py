"""Retention on real PostgreSQL: months go without stopping anybody, survive a kill at any step, and stay where they are held."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from psycopg import errors

from consumer.core.clock import month_after, month_of
from consumer.core.errors import ConfigurationError, TransientError
from consumer.operations.retention import Removed, apply, plan
from consumer.postgres import retention as sql
from consumer.postgres.connection import connect
from tests.bed.events import message_value
from tests.bed.log import NOW, Library
from tests.bed.worker import wait_until

pytestmark = pytest.mark.postgres

RETENTION = timedelta(days=400)
THIS = month_of(int(NOW.timestamp() * 1_000_000))
OLD, OLDER = month_after(THIS, -20), month_after(THIS, -21)
KEPT = month_after(THIS, -5)


def when(month: date, day: int = 15) -> str:
    """A time of the month, as an event says it."""
    return f"{month.replace(day=day)}T12:00:00Z"


def stock(library: Library) -> Library:
    """Three events of two tenants in each of two months that go, and some that stay."""
    for month in (OLDER, OLD, KEPT, THIS):
        library.write([message_value(occurred_at=when(month, 1), tenant=tenant) for tenant in ("acme", "acme", "beta")])
    return library


@pytest.fixture
def library(any_database: str) -> Library:
    """On either major."""
    return stock(Library(any_database))


@pytest.fixture
def library18(database: str) -> Library:
    """On the newest major."""
    return stock(Library(database))


def owner(library: Library) -> Callable[[], "psycopg.Connection[Any]"]:
    """Connections of a role that may become the owner."""
    url = library.as_role("audit_owner")
    return lambda: connect(url)


def removed(library: Library, retention: timedelta = RETENTION) -> list[Removed]:
    """Applies the retention."""
    return list(apply(owner(library), retention, "sato", lambda _: None))


def log_and_ledger(library: Library) -> tuple[list[date], list[date]]:
    """The month of each row of the log, and of the ledger."""
    months = "SELECT date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date FROM {} ORDER BY 1"
    return tuple([month for (month,) in library.query(months.format(table))] for table in ("audit.audit_log", "audit.event"))  # type: ignore[return-value]


def tables(library: Library) -> set[str]:
    """The months' tables, attached or not."""
    found = library.query("SELECT relname FROM pg_class WHERE relnamespace = 'audit'::regnamespace AND relname ~ '^audit_log_[0-9_]+$'")
    return {name for (name,) in found}


def assert_gone(library: Library, *months: date) -> None:
    """Nothing of the months is left in log or ledger; the books say what there was; and everything else is whole."""
    stays = sorted(month for month in (OLDER, OLD, KEPT, THIS) for _ in range(3) if month not in months)
    assert log_and_ledger(library) == (stays, stays)
    assert not tables(library) & {f"audit_log_{month:%Y_%m}" for month in months}
    told = library.query("SELECT month, kafka_topic, kafka_partition, removed, last_offset - first_offset FROM audit.retention_history")
    assert sorted(told) == [(month, "integration-changes", 0, 3, 2) for month in sorted(months)]


def test_months_beyond_the_retention_go(library: Library) -> None:
    """Rows, ledger and table; counted by topic and partition; told with who, when and what."""
    before = {each.month: each.verdict for each in plan(lambda: library.connect(), RETENTION)}  # noqa: PLW0108 - a fresh one each time
    assert {month for month, verdict in before.items() if verdict == "goes"} == {OLDER, OLD}
    assert removed(library) == [Removed(OLDER, "removed", 3), Removed(OLD, "removed", 3)]
    assert_gone(library, OLDER, OLD)
    assert removed(library) == []
    role = library.as_role("audit_owner").split("//")[1].split("@")[0]
    assert library.query("SELECT action, belongs_to, detail, who FROM audit.operation_history ORDER BY id") == [
        ("retention changed", None, {"from": None, "to": "400 days"}, "sato"),
        ("removal began", None, {"month": f"{OLDER:%Y-%m}"}, "sato"),
        ("month removed", 2, {"month": f"{OLDER:%Y-%m}", "rows": 3}, "sato"),
        ("removal began", None, {"month": f"{OLD:%Y-%m}"}, "sato"),
        ("month removed", 4, {"month": f"{OLD:%Y-%m}", "rows": 3}, "sato"),
    ]
    assert library.query("SELECT DISTINCT database_role FROM audit.operation_history") == [(role,)]


def test_nobody_waits_for_it(library: Library) -> None:
    """While a reader keeps the log open, the removal waits for it, and workers write, make months and read on; then it ends by itself."""
    outcome: list[list[Removed]] = []
    with library.connect() as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM audit.audit_log")
        thread = threading.Thread(target=lambda: outcome.append(removed(library)))
        thread.start()
        try:
            pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
            wait_until(lambda: library.query(pending) == [(1,)], "the removal waits for the reader")
            with psycopg.connect(library.url, autocommit=True) as impatient:
                impatient.execute("SET lock_timeout = '1s'")
                impatient.execute("SELECT audit.ensure_month(%s)", (month_after(THIS, -10),))
                assert impatient.execute("SELECT count(*) FROM audit.audit_log").fetchall() == [(9,)]
            for _ in range(5):  # the store's own patience for a lock is five seconds
                assert library.write([message_value(occurred_at=when(THIS, 1), tenant="meanwhile")]).written == 1
            # An event of the month that is on its way out has no place any more, and the batch-mates have theirs.
            values = [message_value(occurred_at=when(month, 1), tenant="meanwhile") for month in (OLDER, THIS)]
            written = library.write(values)
            assert (written.written, len(written.quarantined)) == (1, 1)
            assert thread.is_alive()
        finally:
            reader.execute("ROLLBACK")
            thread.join(60)
    assert outcome == [[Removed(OLDER, "removed", 3), Removed(OLD, "removed", 3)]]
    assert library.query("SELECT count(*) FROM audit.audit_log WHERE tenant = 'meanwhile'") == [(6,)]
    assert library.query("SELECT reason, error FROM audit.quarantine") == [("out of range", "retention has removed the month of its time")]


def test_a_worker_writes_all_the_while(library18: Library) -> None:
    """Batches without a pause, in months that stay, while months go: none fails, none is lost."""
    done = threading.Event()
    written: list[int] = []

    def work() -> None:
        while not done.is_set():
            month = (THIS, KEPT)[len(written) % 2]
            written.append(library18.write([message_value(occurred_at=when(month, 2), tenant="busy") for _ in range(20)]).written)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: len(written) > 3, "batches before")
        assert len(removed(library18)) == 2
        after = len(written)
        wait_until(lambda: len(written) > after + 3, "batches after")
    finally:
        done.set()
        thread.join(60)
    assert set(written) == {20}
    assert library18.query("SELECT count(*) FROM audit.audit_log WHERE tenant = 'busy'") == [(20 * len(written),)]
    assert library18.query("SELECT count(*) FROM audit.event") == [(20 * len(written) + 6,)]


def test_a_removed_month_is_never_made_again(library: Library) -> None:
    """Not by the worker whose retention is longer, nor by an operator's retry, nor any month before it."""
    removed(library)
    with library.connect("audit_writer") as writer:
        for month in (OLD, OLDER, month_after(OLDER, -1)):
            with pytest.raises(errors.InvalidParameterValue, match="retention has removed"):
                writer.execute("SELECT audit.ensure_month(%s)", (month,))
        assert writer.execute("SELECT audit.ensure_month(%s)", (month_after(OLD),)).fetchall() == [(True,)]
    before = tables(library)
    written = library.write([message_value(occurred_at=when(month)) for month in (OLD, KEPT, OLDER)])
    assert (written.written, [reason.value for _, reason in written.quarantined]) == (1, ["out of range"] * 2)
    for arguments in ((), ("--yes",)):
        done = library.command("quarantine", "retry", "--all", "--json", *arguments, role="audit_operator", AUDIT_RETENTION="10 years")
        assert done.returncode == 9, done.stderr
        assert [json.loads(line)["outcome"] for line in done.stdout.splitlines()] == ["out of range"] * 2
    assert tables(library) == before
    assert library.query("SELECT DISTINCT status FROM audit.quarantine") == [("open",)]


def test_what_somebody_detached_by_hand_is_left_alone(library18: Library) -> None:
    """It is no removal of ours that was interrupted."""
    with psycopg.connect(library18.url, autocommit=True) as somebody:
        somebody.execute(f"ALTER TABLE audit.audit_log DETACH PARTITION audit.audit_log_{OLDER:%Y_%m}")  # type: ignore[call-overload]
    assert removed(library18) == [Removed(OLD, "removed", 3)]
    assert f"audit_log_{OLDER:%Y_%m}" in tables(library18)
    assert library18.query(f"SELECT count(*) FROM audit.audit_log_{OLDER:%Y_%m}") == [(3,)]


class TestKills:
    """A removal that ends at any step: the next run brings it to its end."""

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("step", ["tell_retention", "declare", "detach", "forget", "drop"])
    def test_it_goes_on_where_it_stopped(self, library18: Library, monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool) -> None:
        """Before and after each step."""
        with monkeypatch.context() as doomed:
            whole = getattr(sql.Remover, step)

            def die(*arguments: Any) -> None:
                if after:
                    whole(*arguments)
                raise KeyboardInterrupt

            doomed.setattr(sql.Remover, step, die)
            with pytest.raises(KeyboardInterrupt):
                removed(library18)
        assert log_and_ledger(library18)[0].count(KEPT) == 3
        removed(library18)
        assert_gone(library18, OLDER, OLD)
        actions = [action for (action,) in library18.query("SELECT action FROM audit.operation_history ORDER BY id")]
        assert sorted(actions) == sorted(["retention changed", *["removal began", "month removed"] * 2])

    def test_killed_while_it_waits_for_a_reader(self, library: Library) -> None:
        """The month is half detached; the next run ends that first, and waits for nobody who came later."""
        with library.connect() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM audit.audit_log")
            process = subprocess.Popen(
                [sys.executable, "-m", "consumer", "retention", "apply", "--yes"],
                env=library.environment("audit_owner", AUDIT_RETENTION="400 days"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
            wait_until(lambda: library.query(pending) == [(1,)], "the removal waits for the reader")
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            (shown,) = [each for each in plan(lambda: library.connect(), RETENTION) if each.state == "detaching"]  # noqa: PLW0108 - a fresh one
            assert shown.month == OLDER
            reader.execute("ROLLBACK")
        alone = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        wait_until(lambda: library.query(alone) == [(0,)], "the killed one's backend is gone")
        assert removed(library) == [Removed(OLDER, "removed", 3), Removed(OLD, "removed", 3)]
        assert_gone(library, OLDER, OLD)

    def test_killed_in_the_middle_of_the_ledger(self, library18: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        """And meanwhile one of the events came again with a time of now: that one the ledger keeps."""
        monkeypatch.setattr(sql, "LEDGER_BATCH", 1)
        ((event_id,),) = library18.query("SELECT event_id::text FROM audit.audit_log WHERE occurred_at < %s LIMIT 1", OLD)

        def die(_: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(apply(owner(library18), RETENTION, "sato", die))
        assert log_and_ledger(library18)[1].count(OLDER) == 2
        # Whichever was forgotten first: it and the others come again.
        gone = library18.query(f"SELECT event_id::text FROM audit.audit_log_{OLDER:%Y_%m} ORDER BY occurred_at, event_id LIMIT 1")
        again = gone[0][0]
        assert library18.write([message_value(occurred_at=when(THIS, 3), event_id=again)]).written == 1
        removed(library18)
        assert library18.query("SELECT count(*) FROM audit.event WHERE event_id = %s", again) == [(1,)]
        assert library18.query("SELECT count(*) FROM audit.event WHERE event_id = %s", event_id) == [(int(event_id == again),)]
        assert log_and_ledger(library18)[0] == log_and_ledger(library18)[1]

    def test_one_at_a_time(self, library18: Library) -> None:
        """A second removal says that there is a first one."""
        with owner(library18)() as first:
            assert sql.Remover(first, "sato").begin()
            with pytest.raises(TransientError, match="another removal"):
                removed(library18)


class TestHolds:
    """What is held stays, whole."""

    @pytest.mark.parametrize(
        ("arguments", "stays"),
        [
            (("--tenant", "beta"), {OLDER, OLD}),
            (("--tenant", "nobody's"), set()),
            (("--since", f"{OLD}"), {OLD}),
            (("--until", f"{OLD}"), {OLDER}),
            (("--tenant", "beta", "--since", f"{OLD.replace(day=2)}"), set()),
            (("--tenant", "beta", "--since", f"{OLD}", "--until", f"{OLD.replace(day=2)}"), {OLD}),
        ],
    )
    def test_a_held_month_stays_until_it_is_released(self, library: Library, arguments: tuple[str, ...], stays: set[date]) -> None:
        """Of a period all its months, of a tenant those with a row of it; then they go."""
        done = library.command("retention", "hold", "add", "--reason", "case 12", "--by", "suzuki", *arguments, role="audit_retention")
        assert done.returncode == 0, done.stderr
        hold = done.stdout.strip()
        shown = library.command("retention", "show", "--json", AUDIT_RETENTION="400 days")
        found = {each["month"]: each for each in map(json.loads, shown.stdout.splitlines())}
        assert {f"{month:%Y-%m}" for month in stays} == {month for month, each in found.items() if each["verdict"] == "held"}
        assert all(found[f"{month:%Y-%m}"]["holds"] == [int(hold)] for month in stays)
        kept = sum(each["holds"] == [int(hold)] for each in found.values())
        said = f"hold {hold} keeps {kept} month" if kept else f"warning: hold {hold} keeps nothing now"
        assert done.stderr.startswith(said)
        assert {each.month for each in removed(library) if each.outcome == "held"} == stays
        assert_gone(library, *({OLDER, OLD} - stays))
        wrong = library.command("retention", "hold", "release", "999", "--reason", "over", role="audit_retention")
        assert (wrong.returncode, "no hold 999" in wrong.stderr) == (2, True)
        assert library.command("retention", "hold", "release", hold, "--reason", "over", role="audit_retention").returncode == 0
        assert library.command("retention", "hold", "list", "--json").stdout == ""
        removed(library)
        assert_gone(library, OLDER, OLD)
        told = library.query("SELECT action, who, detail ->> 'reason' FROM audit.operation_history WHERE action ~ 'hold' ORDER BY id")
        assert told == [("hold added", "suzuki", "case 12"), ("hold released", "sato", "over")]

    def test_a_misspelt_tenant_is_noticed(self, library18: Library) -> None:
        """A hold of a tenant says how many months it keeps; one of nobody, or of a time to come, warns. Its number is alone on stdout."""
        for number, (arguments, said) in enumerate({
            ("--tenant", "beta"): "hold 1 keeps 4 months of the log now\n",
            ("--tenant", "beta", "--since", f"{THIS}"): "hold 2 keeps 1 month of the log now\n",
            ("--tenant", "betta"): "warning: hold 3 keeps nothing now, for the log has no row of it: `retention hold release 3` ends it,",
            ("--since", f"{month_after(THIS, 20)}"): "warning: hold 4 keeps nothing now",
        }.items(), 1):  # fmt: skip
            done = library18.command("retention", "hold", "add", "--reason", "case 12", *arguments, role="audit_retention")
            assert (done.returncode, done.stdout) == (0, f"{number}\n")
            assert done.stderr.startswith(said)

    @pytest.mark.parametrize("step", ["detach", "drop"])
    def test_a_hold_in_the_last_moment_is_in_time(self, library: Library, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        """Even where the month has left the log already: it comes back, in log and ledger, and goes once the hold is released."""
        before = (
            library.query("SELECT * FROM audit.audit_log ORDER BY event_id"),
            library.query("SELECT * FROM audit.event ORDER BY event_id"),
        )
        hold: list[int] = []
        url = library.as_role("audit_retention")
        with monkeypatch.context() as patched:
            whole = getattr(sql.Remover, step)

            def held(*arguments: Any) -> Any:
                if not hold:
                    hold.append(sql.add_hold(lambda: connect(url), "suzuki", "case 12", tenant="beta", since=None, until=None))
                return whole(*arguments)

            patched.setattr(sql.Remover, step, held)
            assert [each.outcome for each in removed(library)] == ["held", "held"]
        after = (
            library.query("SELECT * FROM audit.audit_log ORDER BY event_id"),
            library.query("SELECT * FROM audit.event ORDER BY event_id"),
        )
        assert after == before
        assert library.query("SELECT count(*) FROM audit.retention_history") == [(0,)]
        assert library.write([message_value(occurred_at=when(OLDER))]).written == 1
        sql.release_hold(lambda: connect(url), hold[0], "suzuki", "over")
        assert [(each.outcome, each.rows) for each in removed(library)] == [("removed", 4), ("removed", 3)]

    def test_a_longer_retention_brings_back_what_is_not_dropped(self, library18: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        """A removal that was interrupted must not go on against what is wanted now."""

        def die(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as doomed:
            doomed.setattr(sql.Remover, "drop", die)
            with pytest.raises(KeyboardInterrupt):
                removed(library18)
        assert log_and_ledger(library18)[0].count(OLDER) == 0
        assert removed(library18, timedelta(days=3000)) == [Removed(OLDER, "kept", None)]
        assert_gone(library18)
        told = library18.query("SELECT detail FROM audit.operation_history WHERE action = 'retention changed' ORDER BY id")
        assert [detail["to"] for (detail,) in told] == ["400 days", "3000 days"]


class TestRights:
    """Who may do what."""

    @pytest.mark.parametrize("role", ["audit_reader", "audit_writer", "audit_operator", "audit_retention"])
    def test_only_the_owner_removes(self, library: Library, role: str) -> None:
        """And the error says the remedy."""
        url = library.as_role(role)
        with pytest.raises(ConfigurationError, match="GRANT audit_owner"):
            list(apply(lambda: connect(url), RETENTION, "sato", lambda _: None))
        with connect(url) as connection:
            for statement in (
                f"ALTER TABLE audit.audit_log DETACH PARTITION audit.audit_log_{OLD:%Y_%m} CONCURRENTLY",
                f"DROP TABLE audit.audit_log_{OLD:%Y_%m}",
                "DELETE FROM audit.event",
                f"INSERT INTO audit.retention_month VALUES ('{OLD}', 1)",
                f"INSERT INTO audit.retention_history VALUES ('{OLD}', 't', 0, 1, 1, 1)",
                "INSERT INTO audit.operation_history (who, action, detail) VALUES ('x', 'retention changed', '{}')",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement)  # type: ignore[call-overload]
            if role != "audit_retention":
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute("SELECT audit.add_hold('x', 'why', 'acme', NULL, NULL)")
        assert_gone(library)

    @pytest.mark.parametrize("table", ["retention_month", "retention_history"])
    def test_what_was_removed_stays_told(self, library18: Library, table: str) -> None:
        """For everybody."""
        removed(library18)
        with psycopg.connect(library18.url, autocommit=True) as connection:
            for statement in ("UPDATE {} SET month = month", "DELETE FROM {}", "TRUNCATE {} CASCADE"):
                with pytest.raises(errors.InsufficientPrivilege, match="refused"):
                    connection.execute(statement.format(f"audit.{table}"))  # type: ignore[call-overload]

    @pytest.mark.parametrize(
        "hold",
        [("sato", " ", "acme", None, None), ("sato", "why", None, None, None), ("sato", "why", "acme", NOW, NOW)],
    )
    def test_a_hold_without_sense_is_refused(self, library18: Library, hold: tuple[Any, ...]) -> None:
        """By the database itself."""
        with library18.connect("audit_retention") as connection, pytest.raises(errors.InvalidParameterValue):
            connection.execute("SELECT audit.add_hold(%s, %s, %s, %s, %s)", hold)


class TestTold:
    """The retention that the log was last told, by workers or by a removal; none is shortened by mistake."""

    def tell(self, library: Library, retention: str, who: str = "worker") -> None:
        """As a worker does when it starts."""
        url = library.as_role("audit_writer")
        sql.tell_retention(lambda: connect(url), who, retention)

    def told(self, library: Library) -> list[tuple[Any, ...]]:
        """From what to what, and who."""
        question = "SELECT detail ->> 'from', detail ->> 'to', who, database_role FROM audit.operation_history"
        return library.query(f"{question} WHERE action = 'retention changed' ORDER BY id")

    def test_a_change_is_told_once(self, library: Library) -> None:
        """However many workers start, together or one after the other."""
        role = library.as_role("audit_writer").split("//")[1].split("@")[0]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: self.tell(library, "3650 days"), range(16)))
        expected = [(None, "3650 days", "worker", role)]
        assert self.told(library) == expected
        for retention in ("400 days", "400 days", "3650 days", "34560001s", "34560000001ms"):
            self.tell(library, retention)
        after = ["3650 days", "400 days", "3650 days", "34560001s", "34560000001ms"]
        assert self.told(library) == [*expected, *((*pair, "worker", role) for pair in pairwise(after))]

    @pytest.mark.parametrize(
        "retention", [None, "", "0 days", "-5 days", "400", "400 days ago", "forever", "infinity", "4000 days", "9999999999999 days"]
    )
    def test_what_could_not_be_read_again_is_refused(self, library18: Library, retention: str | None) -> None:
        """By the database itself: a stolen worker's credential does not spoil the comparison."""
        with pytest.raises(TransientError, match="SQLSTATE 22"):
            self.tell(library18, retention)  # type: ignore[arg-type]
        with pytest.raises(TransientError, match="operation_history_who_check"):
            self.tell(library18, "400 days", " ")
        assert self.told(library18) == []

    @pytest.mark.parametrize("by", ["worker", "apply"])
    def test_a_shorter_one_removes_nothing_unless_it_is_meant(self, library18: Library, by: str) -> None:
        """An operator's shell has the default; the workers, or the last removal, had ten years."""
        if by == "worker":
            self.tell(library18, "3652 days")
        else:
            removed(library18, timedelta(days=3652))
        before = self.told(library18)
        settings = {"AUDIT_RETENTION": "400 days"}
        says = "retention 400 days; the log was last told 3652 days, which is longer: --yes needs --shorten"
        for command in ("show", "apply"):
            assert says in library18.command("retention", command, **settings).stderr
        refused = library18.command("retention", "apply", "--yes", "--json", role="audit_owner", **settings)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"nothing was removed: {says}" in refused.stderr
        assert_gone(library18)
        assert self.told(library18) == before
        done = library18.command("retention", "apply", "--yes", "--shorten", role="audit_owner", **settings)
        assert done.returncode == 0, done.stderr
        assert_gone(library18, OLDER, OLD)
        assert [(former, to, who) for former, to, who, _ in self.told(library18)][1:] == [("3652 days", "400 days", "sato")]
        assert "the log was last told 400 days:" in library18.command("retention", "show", **settings).stderr
        self.tell(library18, "3652 days")  # a worker that still has it starts
        assert library18.command("retention", "apply", "--yes", role="audit_owner", **settings).returncode == 2

    def test_nothing_told_yet(self, library18: Library) -> None:
        """There is nothing to compare with, and that is said."""
        assert "retention 400 days; the log was told none yet" in library18.command("retention", "apply", AUDIT_RETENTION="400 days").stderr

    def test_nobody_else_tells(self, library18: Library) -> None:
        """It is the workers' and the owner's."""
        for role in ("audit_reader", "audit_operator", "audit_retention"):
            with library18.connect(role) as connection, pytest.raises(errors.InsufficientPrivilege):
                connection.execute("SELECT audit.tell_retention('x', '400 days')")


def test_the_command(library18: Library) -> None:
    """A dry run first, which changes nothing; lines and objects; a retention out of bounds is refused."""
    settings = {"AUDIT_RETENTION": "400 days"}
    dry = library18.command("retention", "apply", "--json", **settings)
    months = [(line["month"], line["rows"]) for line in map(json.loads, dry.stdout.splitlines())]
    assert months == [(f"{OLDER:%Y-%m}", 3), (f"{OLD:%Y-%m}", 3)]  # counted: no statistics know of them yet
    assert "nothing was changed" in dry.stderr
    assert_gone(library18)
    assert library18.query("SELECT count(*) FROM audit.operation_history") == [(0,)]
    for retention in ("41 days", "11 years"):
        refused = library18.command("retention", "apply", "--yes", role="audit_owner", AUDIT_RETENTION=retention)
        assert (refused.returncode, "AUDIT_RETENTION" in refused.stderr) == (2, True)
    done = library18.command("retention", "apply", "--yes", "--by", "suzuki", role="audit_owner", **settings)
    assert done.stdout.splitlines() == ["month\toutcome\trows", f"{OLDER:%Y-%m}\tremoved\t3", f"{OLD:%Y-%m}\tremoved\t3"]
    assert_gone(library18, OLDER, OLD)
    assert library18.query("SELECT DISTINCT who FROM audit.operation_history") == [("suzuki",)]
