"""The way to the database: TLS that is checked, passwords and certificates, a pooler in between, a primary that fails over."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from consumer.postgres.migrate import HEAD_REVISION, migrate
from tests.bed.certificates import Certificates
from tests.bed.events import encoded, events, message_value
from tests.bed.fault_proxy import FaultProxy
from tests.bed.health import Health
from tests.bed.kafka import KafkaBroker
from tests.bed.postgres import PostgresServer, running_postgres
from tests.bed.worker import Workplace, wait_until

ACCESS = """
hostssl all +by_password 127.0.0.1/32 scram-sha-256
hostssl all +by_certificate 127.0.0.1/32 cert
host all +by_password 127.0.0.1/32 reject
host all +by_certificate 127.0.0.1/32 reject
"""


class Secured:
    """A server that wants TLS, and either a password or a certificate."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.server = server
        self.certificates = Certificates(folder)
        certificate, key = self.certificates.issue("database")
        server.configure(
            "ssl = on\nssl_ca_file = 'root.crt'",
            ACCESS,
            server_crt=certificate.read_text(),
            server_key=key.read_text(),
            root_crt=self.certificates.authority.read_text(),
        )

    def role(self, kind: str) -> str:
        """Makes a worker's role."""
        name = f"worker_{uuid.uuid4().hex[:8]}"
        self.run(f"CREATE ROLE {name} LOGIN; GRANT audit_writer, {kind} TO {name}")
        return name

    def run(self, statement: str) -> None:
        """As the superuser."""
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type] # put together here

    def url(self, database: str, role: str, **parameters: object) -> str:
        """A URL by which the server must prove who it is."""
        given = {"sslmode": "verify-full", "sslrootcert": self.certificates.authority, **parameters}
        query = "&".join(f"{name}={value}" for name, value in given.items())
        return f"postgresql://{role}@localhost:{self.server.port}/{database.rpartition('/')[2]}?hostaddr=127.0.0.1&{query}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Debian's PostgreSQL: the wheel's knows no TLS."""
    with running_postgres(15) as server:
        secured = Secured(server, tmp_path_factory.mktemp("pki"))
        server.restart()
        secured.run("CREATE ROLE by_password; CREATE ROLE by_certificate")
        yield secured


@pytest.fixture
def place(kafka_broker: KafkaBroker, secured: Secured, topic: str) -> Workplace:
    """A workplace with a database on the secured server."""
    return Workplace(kafka_broker, secured.server.new_database(), topic)


@pytest.fixture
def health() -> Health:
    """Where a worker's health is served."""
    return Health()


class TestLogin:
    """Who the worker is, and whether it is the right server."""

    def test_a_password_that_is_changed(self, place: Workplace, secured: Secured, health: Health, tmp_path: Path) -> None:
        """SCRAM over checked TLS. Each new connection reads the file again; until that is changed too, the worker waits for it."""
        role = secured.role("by_password")
        secured.run(f"ALTER ROLE {role} PASSWORD 'first'")
        file = tmp_path / "password"
        file.write_text("first\n")
        del place.environment["AUDIT_DATABASE_PASSWORD"]  # a password is given once
        settings = {"AUDIT_DATABASE_URL": secured.url(place.database, role), "AUDIT_DATABASE_PASSWORD_FILE": str(file)}
        with place.worker(**settings, **health.settings) as process:
            expected = events(20)
            place.publish(encoded(expected[:10]))
            wait_until(lambda: place.written() == 10 and health.ready, "it works")
            assert place.value("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = %s", role)
            secured.run(f"ALTER ROLE {role} PASSWORD 'second'")
            place.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", role)
            place.publish(encoded(expected[10:]))
            wait_until(lambda: f'password authentication failed for user "{role}"' in health.reasons, "not ready, with the reason")
            assert health.live == 200
            file.write_text("")
            wait_until(lambda: "PASSWORD_FILE" in health.reasons and "is empty" in health.reasons, "the file is being written")
            file.write_text("second\n")
            wait_until(lambda: place.written() == 20 and health.ready, "it works again")
            assert process.poll() is None
        place.assert_complete(expected)

    def test_a_certificate(self, place: Workplace, secured: Secured) -> None:
        """The role is the certificate's name."""
        role = secured.role("by_certificate")
        certificate, key = secured.certificates.issue(role)
        expected = events(5)
        place.publish(encoded(expected))
        place.drain(AUDIT_DATABASE_URL=secured.url(place.database, role, sslcert=certificate, sslkey=key))
        place.assert_complete(expected)

    def test_the_wrong_server(self, place: Workplace, secured: Secured, tmp_path: Path) -> None:
        """An authority that we don't trust, a name that is not the server's, and no TLS at all; `check` says which."""
        role = secured.role("by_certificate")
        certificate, key = secured.certificates.issue(role)
        good = secured.url(place.database, role, sslcert=certificate, sslkey=key)
        stranger = Certificates(tmp_path).authority
        for url, reason in (
            (good.replace(str(secured.certificates.authority), str(stranger)), "certificate verify failed"),
            (good.replace("@localhost", "@elsewhere"), 'does not match host name "elsewhere"'),
            (good.replace("verify-full", "disable"), "pg_hba.conf rejects connection"),
        ):
            done = place.command("check", AUDIT_DATABASE_URL=url)
            assert done.returncode == 9
            assert reason in done.stdout.replace("\n", " "), done.stdout
        assert place.command("check", AUDIT_DATABASE_URL=good).returncode == 0


class TestPooler:
    """PgBouncer in transaction mode: no server is ours for longer than a transaction."""

    @pytest.fixture
    def pooled(self, kafka_broker: KafkaBroker, database: str, topic: str, postgres: PostgresServer, pgbouncer: int) -> Workplace:
        """A workplace whose worker goes by the pooler."""
        through = database.replace(f":{postgres.port}/", f":{pgbouncer}/")
        return Workplace(kafka_broker, database, topic, AUDIT_DATABASE_URL=through, AUDIT_BATCH_MAX_MESSAGES="50")

    def test_every_way_of_a_batch(self, pooled: Workplace) -> None:
        """COPY, the careful way, quarantine, settings of one transaction; the commands too."""
        expected = events(300)
        pooled.publish([*encoded(expected), *encoded(expected[:5]), b"garbage", None])
        pooled.publish([message_value(occurred_at="1999-01-01T00:00:00Z")])
        pooled.drain()
        pooled.assert_complete(expected, duplicates=5, quarantined=2, tombstones=1)
        for command in (["check"], ["quarantine", "list"], ["quarantine", "retry", "--all"]):
            done = pooled.command(*command)
            assert done.returncode in (0, 9), done.stderr
        assert "Traceback" not in done.stderr

    def test_a_worker_that_holds_its_positions_for_ever(self, pooled: Workplace) -> None:
        """Its backend is the pooler's; the successor ends it all the same, and goes on."""
        expected = events(20)
        pooled.publish(encoded(expected[:10]))
        pooled.drain()
        with psycopg.connect(pooled.environment["AUDIT_DATABASE_URL"], prepare_threshold=None) as frozen:
            frozen.execute("SELECT * FROM audit.consumer_position FOR UPDATE")
            pooled.publish(encoded(expected[10:]))
            pooled.drain()
            with pytest.raises(psycopg.OperationalError):
                frozen.execute("SELECT 1")
        pooled.assert_complete(expected)

    def test_a_migration(self, postgres: PostgresServer, pgbouncer: int) -> None:
        """All in one transaction, the advisory lock too: so it works, though the straight way is advised."""
        url = postgres.new_database(migrated=False).replace(f":{postgres.port}/", f":{pgbouncer}/")
        assert migrate(url) == (None, HEAD_REVISION)


class TestFailover:
    """Two servers, of which one is the primary; the URL names both."""

    def test_the_primary_is_lost(self, kafka_broker: KafkaBroker, topic: str, health: Health) -> None:
        """What was committed is on the standby, for commits wait for it; the worker holds until there is a primary, and goes on there."""
        with running_postgres(18) as primary:
            name = primary.new_database().rpartition("/")[2]
            standby = primary.standby()
            try:
                url = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/{name}?target_session_attrs=read-write"
                place = Workplace(kafka_broker, standby.url(name), topic, AUDIT_BATCH_MAX_MESSAGES="50")
                expected = events(600)
                with place.worker(AUDIT_DATABASE_URL=url, **health.settings) as process:
                    place.publish(encoded(expected[:400]))
                    wait_until(lambda: place.written() > 50, "it works")
                    primary.stop("immediate")
                    place.publish(encoded(expected[400:]))
                    wait_until(lambda: "PostgreSQL" in health.reasons, "not ready, with the reason")
                    assert health.live == 200
                    standby.promote()
                    wait_until(lambda: place.written() == 600 and health.ready, "it goes on there")
                    assert process.poll() is None
                place.assert_complete(expected)
            finally:
                standby.remove()

    def test_a_host_that_never_answers(self, database: str, postgres: PostgresServer, postgres_proxy: FaultProxy) -> None:
        """The time-out is for each host, so the second one has its turn."""
        postgres_proxy.freeze()
        both = f"postgresql://postgres@127.0.0.1:{postgres_proxy.port},127.0.0.1:{postgres.port}/{database.rpartition('/')[2]}"
        assert migrate(f"{both}?target_session_attrs=read-write") == (HEAD_REVISION, HEAD_REVISION)
