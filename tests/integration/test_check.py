"""`check` as roles that lack something: what it finds, and the very command that mends it."""

import json
import uuid
from typing import NamedTuple

import psycopg
import pytest
from click.testing import CliRunner

from consumer.cli.main import cli
from consumer.postgres.reading import OPERATOR_NEEDS, WRITER_NEEDS
from tests.bed.events import message_value
from tests.bed.kafka import KafkaBroker
from tests.bed.worker import Workplace

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


class Somebody(NamedTuple):
    """A role that logs in, and was granted nothing."""

    place: Workplace
    role: str

    @property
    def url(self) -> str:
        """The database, as this role."""
        return self.place.database.replace("postgres@", f"{self.role}@")

    def run(self, *statements: str) -> None:
        """As the superuser; `{role}` is this one."""
        with psycopg.connect(self.place.database, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.format(role=self.role))  # type: ignore[call-overload]

    def check(self, *arguments: str, code: int = 9) -> dict[str, tuple[str, str]]:
        """What the command finds, and the remedy, by what was looked at."""
        settings = {name: text for name, text in self.place.environment.items() if name.startswith("AUDIT_")}
        done = CliRunner().invoke(cli, ["check", "--json", *arguments], env={**settings, "AUDIT_DATABASE_URL": self.url})
        assert done.exit_code == code, done.output
        return {each["what"]: (each["found"], each["remedy"]) for each in json.loads(done.stdout)}


@pytest.fixture
def somebody(kafka_broker: KafkaBroker, any_database: str, topic: str) -> Somebody:
    """On either major."""
    somebody = Somebody(Workplace(kafka_broker, any_database, topic), f"somebody_{uuid.uuid4().hex[:8]}")
    somebody.run("CREATE ROLE {role} LOGIN")
    return somebody


@pytest.mark.parametrize("granted", [(), ("GRANT USAGE ON SCHEMA audit TO {role}",)], ids=["nothing", "the schema alone"])
def test_a_role_that_was_granted_nothing(somebody: Somebody, granted: tuple[str, ...]) -> None:
    """The fault of a first installation: neither password nor server, but the GRANT that mends it; other commands say so too."""
    somebody.run(*granted)
    found = somebody.check()
    assert "database" not in found
    text, remedy = found["privileges"]
    assert (somebody.role in text, remedy) == (True, f"GRANT audit_writer TO {somebody.role}")
    done = somebody.place.command("log", AUDIT_DATABASE_URL=somebody.url)
    assert (done.returncode, "must be granted audit_writer, audit_reader" in done.stderr) == (4, True)
    somebody.run(remedy)
    assert somebody.check(code=0)["privileges"] == ("complete", "")


class TestARoleMadeByHand:
    """It was granted each privilege by itself."""

    @pytest.mark.parametrize(
        ("needs", "role", "what", "arguments"),
        [
            (WRITER_NEEDS, "audit_writer", "privileges", ()),
            (OPERATOR_NEEDS, "audit_operator", "operator's privileges", ("--operator",)),
        ],
        ids=["writer", "operator"],
    )
    def test_what_it_lacks_is_named(
        self, somebody: Somebody, needs: tuple[str, ...], role: str, what: str, arguments: tuple[str, ...]
    ) -> None:
        """Tables and functions, one at a time; and nothing where it lacks nothing."""
        somebody.run(*_ASKS, *map(_grant, {*WRITER_NEEDS, *needs}))
        assert somebody.check(*arguments, code=0)[what] == ("complete", "")
        for needed in needs:
            somebody.run(_grant(needed).replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
            assert somebody.check(*arguments)[what] == (f"missing: {needed}", f"GRANT {role} TO {somebody.role}")
            somebody.run(_grant(needed))

    def test_an_operator_is_no_writer(self, somebody: Somebody) -> None:
        """Whoever settles the quarantine needs no right of a worker, and is not told to take it."""
        somebody.run("GRANT audit_operator TO {role}")
        assert somebody.check("--operator", code=0).keys() >= {"operator's privileges"}
        assert "privileges" not in somebody.check("--operator", code=0)

    def test_a_group_that_lost_a_right(self, somebody: Somebody) -> None:
        """To be granted the group once more would change nothing."""
        somebody.run("GRANT audit_writer TO {role}", "REVOKE EXECUTE ON FUNCTION audit.log_state FROM audit_writer")
        found, remedy = somebody.check()["privileges"]
        assert (found, "audit_writer itself lacks it" in remedy) == ("missing: EXECUTE on audit.log_state", True)

    def test_a_worker_needs_nothing_else(self, somebody: Somebody) -> None:
        """It writes, quarantines, makes months and reads what its metrics say of the log."""
        somebody.run(*_ASKS, *map(_grant, WRITER_NEEDS))
        somebody.place.publish([message_value(), b"garbage"])
        assert "state of the log unknown" not in somebody.place.drain(AUDIT_DATABASE_URL=somebody.url)
        assert (somebody.place.books()["written"], somebody.place.books()["quarantined"]) == (1, 1)


_ASKS = ("GRANT USAGE ON SCHEMA audit TO {role}", "GRANT SELECT ON audit.alembic_version TO {role}")


def _grant(needed: str) -> str:
    return f"GRANT {needed.replace('EXECUTE on', 'EXECUTE ON FUNCTION')} TO {{role}}"
