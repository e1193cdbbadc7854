"""`python -m tests.mutations`: breaks the worker in one way at a time, and looks whether the test that should catch it fails.

Each mutation is a replacement in one file, made in a copy of the checkout. Exit code 1 when a broken worker passes its test.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "__pycache__")


class Mutation(NamedTuple):
    """What is broken, how, and which test fails then."""

    name: str
    edits: tuple[tuple[str, str, str], ...]  # file, what stands there once, what stands there instead
    test: str


_KAFKA_FIRST = """\
            self._source.commit({part.partition: part.next_offset for part in self._writing.slices})
            self._store.start_write(self._writing)
"""

MUTATIONS = (
    Mutation(
        "the offset commit comes before the write",
        (
            (
                "consumer/worker.py",
                "            self._store.start_write(self._writing)\n",
                _KAFKA_FIRST,
            ),
        ),
        "tests/faults/test_database.py::TestFault13Outcomes::test_fault_13_no_answer_to_commit",
    ),
    Mutation(
        "no fence",
        (
            (
                "consumer/postgres/statements.py",
                "WHERE {_SAME_PARTITION}\n  AND position.next_offset = slice.expected",
                "WHERE {_SAME_PARTITION}",
            ),
            (
                "consumer/postgres/store.py",
                "        if [row[0] for row in cursor.fetchall()] != [True] * len(batch.slices):\n            raise FencedError\n",
                "",
            ),
        ),
        "tests/faults/test_database.py::TestFault13Outcomes::test_fault_13_cut[COMMIT-after]",
    ),
    Mutation(
        "the ledger is forgotten",
        (
            (
                "consumer/postgres/store.py",
                "        copy(cursor, sql.COPY_LEDGER, [row.ledger for row in batch.rows])\n",
                "",
            ),
        ),
        "tests/faults/test_group.py::TestFault20ReverseOrder::test_fault_20_reverse_order",
    ),
    Mutation(
        "a callback's error is swallowed",
        (
            (
                "consumer/kafka/source.py",
                "# noqa: BLE001 - it must not cross the client; consume() raises it\n            self._failure = error\n",
                "\n            pass\n",
            ),
        ),
        "tests/faults/test_client.py::TestFault01ACallbackRaises::test_fault_01_assign",
    ),
    Mutation(
        "a lost offset is repositioned at the latest",
        (
            (
                "consumer/worker.py",
                "            self._source.start(partition, max(offset, at.low))\n",
                "            self._source.start(partition, offset if offset >= at.low else at.high)\n",
            ),
        ),
        "tests/faults/test_kafka.py::TestFault10Retention::test_fault_10_while_nobody_was_there",
    ),
    Mutation(
        "topic ids are not looked at",
        (
            (
                "consumer/worker.py",
                "            self._look_at_topics()\n",
                "",
            ),
        ),
        "tests/faults/test_kafka.py::TestFault11TopicMadeAnew::test_fault_11_topic_made_anew[True-classic]",
    ),
    Mutation(
        "a gap is counted without a look at the topic",
        (
            (
                "consumer/worker.py",
                "        if any(part.skipped for part in slices) and not self._same_topics(slices):\n            return\n",
                "",
            ),
        ),
        "tests/unit/test_worker_loop.py::test_before_a_gap_is_counted_the_topic_is_looked_at",
    ),
    Mutation(
        "a frozen worker keeps its position's lock",
        (
            (
                "consumer/postgres/store.py",
                "                self._end_blockers(_fence(batch.slices))\n",
                "                pass\n",
            ),
        ),
        "tests/integration/test_conformance.py::TestStoreFaults::test_the_lock_of_a_frozen_worker_is_broken",
    ),
    Mutation(
        "a batch that PostgreSQL refuses is given up",
        (
            (
                "consumer/postgres/settling.py",
                "    elif len(rows) > 1:\n",
                "    elif False:\n",
            ),
        ),
        "tests/faults/test_messages.py::TestFault15Unstorable::test_fault_15_found_by_halving",
    ),
    Mutation(
        "nothing stops a topic of garbage",
        (
            (
                "consumer/core/breaker.py",
                "        closed = not self._limit or count < self._limit\n",
                "        closed = True\n",
            ),
        ),
        "tests/faults/test_rotten_input.py::test_a_topic_of_garbage_is_held_and_goes_on_as_decided",
    ),
    Mutation(
        "a changed password of Kafka is not taken",
        (
            (
                "consumer/kafka/source.py",
                '        self._consumer.set_sasl_credentials(change.client["sasl.username"], change.client["sasl.password"])\n',
                "",
            ),
        ),
        "tests/integration/test_kafka_security.py::TestLogin::test_a_secret_that_is_changed[by_password]",
    ),
    Mutation(
        "a right that is taken away ends the worker",
        (
            (
                "consumer/kafka/source.py",
                "            if self._group.refused:\n",
                "            if False:\n",
            ),
        ),
        "tests/integration/test_kafka_security.py::TestMissingRight::test_taken_away[ResourceType.GROUP-consumer]",
    ),
    Mutation(
        "every connection has the first password",
        (("consumer/cli/wiring.py", "        now = settings.again()\n", "        now = settings\n"),),
        "tests/integration/test_postgres_security.py::TestLogin::test_a_password_that_is_changed",
    ),
    Mutation(
        "the worker may read the log",
        (
            (
                "consumer/postgres/migrations/versions/0001_audit_log.sql",
                "GRANT INSERT ON audit.audit_log,",
                "GRANT SELECT, INSERT ON audit.audit_log,",
            ),
        ),
        "tests/integration/test_privileges.py::test_every_statement_on_every_table[audit_writer]",
    ),
    Mutation(
        "the owner's function trusts the caller's search path",
        (
            (
                "consumer/postgres/migrations/versions/0004_reading_and_retention.sql",
                "SET search_path = pg_catalog, pg_temp\nSET timezone = 'UTC'\nAS $$\nDECLARE\n    this_month",
                "SET timezone = 'UTC'\nAS $$\nDECLARE\n    this_month",
            ),
        ),
        "tests/integration/test_privileges.py::test_the_function_that_runs_as_the_owner_is_not_deceived",
    ),
)


def survives(mutation: Mutation) -> bool:
    """Whether the broken worker passes the test."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
        for name, old, new in mutation.edits:
            text = (copy / name).read_text()
            (copy / name).write_text(text.replace(old, new))
        tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.test]
        done = subprocess.run(tests, cwd=copy, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{mutation.name}: the test did not run\n{done.stdout[-2000:]}")
        return done.returncode == 0


def main() -> int:
    """Tries them all."""
    survivors = 0
    for mutation in MUTATIONS:
        print(f"{mutation.name} …", end=" ", flush=True)
        survived = survives(mutation)
        survivors += survived
        print(f"{'SURVIVES' if survived else 'caught by'} {mutation.test}", flush=True)
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
