"""`check` as roles that lack something: what it finds, and the very command that mends it."""

import json
import uuid
from typing import NamedTuple

import psycopg
import pytest
from click.testing import CliRunner

from consumer.cli.main import cli
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
