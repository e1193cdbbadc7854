"""A broker that lets nobody do anything without a right: every way to log in, rights that are missing, secrets that change."""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bed.certificates import Certificates
from tests.bed.events import encoded, events
from tests.bed.health import Health
from tests.bed.secured_kafka import DESCRIBE, GROUP, LOGIN_LASTS, READ, TOPIC, SecuredKafka
from tests.bed.worker import Workplace, wait_until

SECURITY = "AUDIT_KAFKA_SECURITY_"


class Secured(Workplace):
    """A workplace whose worker must log in; `principal` is who it is to the broker."""

    kafka: SecuredKafka

    def __init__(self, kafka: SecuredKafka, database: str, topic: str, folder: Path) -> None:
        super().__init__(kafka, database, topic)
        self.folder = folder
        self.principal = ""
        self.group = self.environment["AUDIT_KAFKA_GROUP_ID"]

    def file(self, name: str, content: str) -> str:
        """A file with a secret."""
        place = self.folder / name
        place.write_text(content + "\n")
        return str(place)

    def by_password(self) -> dict[str, str]:
        """Settings of SCRAM-SHA-512."""
        password = uuid.uuid4().hex
        self.principal = self.kafka.user(password)
        return {
            **self.kafka.sasl,
            f"{SECURITY}SASL_MECHANISM": "SCRAM-SHA-512",
            f"{SECURITY}SASL_USERNAME": self.principal,
            f"{SECURITY}SASL_PASSWORD_FILE": self.file("password", password),
        }

    def by_certificate(self) -> dict[str, str]:
        """Settings of mutual TLS."""
        name = f"worker-{uuid.uuid4().hex[:8]}"
        self.principal = f"CN={name}"
        certificate, key = self.kafka.certificates.issue(name)
        return {
            **self.kafka.mutual,
            f"{SECURITY}CERTIFICATE_FILE": self.file("worker.pem", certificate.read_text()),
            f"{SECURITY}KEY_FILE": self.file("worker.key", key.read_text()),
        }

    def by_token(self) -> dict[str, str]:
        """Settings of OAUTHBEARER."""
        self.principal, secret = f"client-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
        self.kafka.tokens.secrets[self.principal] = secret
        return {
            **self.kafka.sasl,
            f"{SECURITY}SASL_MECHANISM": "OAUTHBEARER",
            f"{SECURITY}OAUTH_TOKEN_URL": self.kafka.tokens.url,
            f"{SECURITY}OAUTH_CLIENT_ID": self.principal,
            f"{SECURITY}OAUTH_CLIENT_SECRET_FILE": self.file("secret", secret),
        }

    def change_secret(self) -> None:
        """Another password, certificate or client's secret, in the file and on the other side."""
        if (self.folder / "password").exists():
            self.file("password", "another")
            self.kafka.user("another", self.principal)
        elif (self.folder / "secret").exists():
            self.kafka.tokens.secrets[self.principal] = "another"
            self.file("secret", "another")
        else:
            certificate, key = self.kafka.certificates.issue(self.principal.removeprefix("CN="))
            self.file("worker.pem", certificate.read_text())
            self.file("worker.key", key.read_text())

    def allow(self) -> None:
        """All the rights that a worker needs."""
        self.kafka.allow(self.principal, TOPIC, self.topic)
        self.kafka.allow(self.principal, GROUP, self.group)

    def send(self, count: int) -> list[dict[str, object]]:
        """Publishes so many events."""
        sent = events(count)
        self.publish(encoded(sent))
        return sent


@pytest.fixture
def place(secured_kafka: SecuredKafka, database: str, tmp_path: Path) -> Secured:
    """A topic of its own on the secured broker."""
    topic = secured_kafka.create_topic(f"topic-{uuid.uuid4().hex[:8]}", 2)
    return Secured(secured_kafka, database, topic, tmp_path)


@pytest.fixture
def health() -> Health:
    """Where a worker's health is served."""
    return Health()


WAYS = [Secured.by_password, Secured.by_certificate, Secured.by_token]
Way = Callable[[Secured], dict[str, str]]


class TestMissingRight:
    """Held, not ready, alive; the reason names the right and the command that grants it; resumes once it is granted."""

    @pytest.mark.parametrize(
        ("lacking", "protocol"),
        [("topic", "classic"), ("topic", "consumer"), ("topic but Describe", "consumer"), ("group", "classic"), ("group", "consumer")],
    )
    def test_from_the_start(self, place: Secured, health: Health, lacking: str, protocol: str) -> None:
        """Nothing at all on the topic, or only Describe, or nothing on the group."""
        settings = place.by_password()
        kind, what, name = (GROUP, "group", place.group) if lacking == "group" else (TOPIC, "topic", place.topic)
        if lacking == "group":
            place.kafka.allow(place.principal, TOPIC, place.topic)
        else:
            place.kafka.allow(place.principal, GROUP, place.group)
        if lacking == "topic but Describe":
            place.kafka.allow(place.principal, TOPIC, place.topic, [DESCRIBE])
        command = f"--add --allow-principal User:{place.principal} --operation Read --{what} {name}"
        expected = place.send(5)
        with place.worker(**settings, **health.settings, AUDIT_KAFKA_GROUP_PROTOCOL=protocol) as process:
            wait_until(lambda: command in health.reasons, "not ready, with the command")
            wait_until(lambda: health.series("missing_rights")[f'kind="{what}"'] == 1, "the metric")
            assert (health.live, health.series("held")['cause="kafka"']) == (200, 1)
            place.kafka.allow(place.principal, kind, name, [READ])
            wait_until(lambda: place.written() == 5 and health.ready, "it works")
            wait_until(lambda: health.metric("missing_rights") == 0, "the right is there")
            assert process.poll() is None
        place.assert_complete(expected)

    @pytest.mark.parametrize("protocol", ["classic", "consumer"])
    @pytest.mark.parametrize("kind", [TOPIC, GROUP])
    def test_taken_away(self, place: Secured, health: Health, protocol: str, kind: object) -> None:
        """While it runs, and granted again; nothing is lost, and it is ready again before anything is published."""
        settings = place.by_password()
        place.allow()
        with place.worker(**settings, **health.settings, AUDIT_KAFKA_GROUP_PROTOCOL=protocol) as process:
            expected = place.send(5)
            wait_until(lambda: place.written() == 5 and health.ready, "it works")
            place.kafka.disallow(place.principal, kind)  # type: ignore[arg-type]
            wait_until(
                lambda: f"--operation Read --{'topic' if kind is TOPIC else 'group'} " in health.reasons, "not ready, with the command"
            )
            assert health.live == 200
            place.allow()
            wait_until(lambda: health.ready, "ready again")
            expected += place.send(5)
            wait_until(lambda: place.written() == 10, "it works again")
            assert process.poll() is None
        place.assert_complete(expected)

    def test_check_says_the_same(self, place: Secured) -> None:
        """The remedies are run as they stand there, and are enough."""
        settings = place.by_password()
        for rights in (2, 1, 0):
            done = place.command("check", "--json", **settings)
            assert done.returncode == (9 if rights else 0)
            lacking = [each for each in json.loads(done.stdout) if each["what"] == "ACL"]
            kind, name = ("topic", place.topic) if rights == 2 else ("group", place.group)
            assert [each["found"] for each in lacking] == [f"Kafka: no right to read {kind} {name}"][:rights]
            for each in lacking:
                place.kafka.run_acls(each["remedy"])


class TestRefused:
    """Alive, not ready, with a reason that says which; recovers once it is mended."""

    def test_a_wrong_password(self, place: Secured, health: Health) -> None:
        """Mended on the broker."""
        settings = place.by_password()
        place.allow()
        password = (place.folder / "password").read_text().strip()
        place.kafka.user("another", place.principal)
        expected = place.send(5)
        with place.worker(**settings, **health.settings) as process:
            wait_until(lambda: "check AUDIT_KAFKA_SECURITY_SASL_USERNAME and _PASSWORD" in health.reasons, "the reason")
            assert password not in health.reasons
            assert health.live == 200
            place.kafka.user(password, place.principal)
            wait_until(lambda: place.written() == 5 and health.ready, "it works")
            assert process.poll() is None
        place.assert_complete(expected)

    def test_an_authority_that_we_do_not_trust(self, place: Secured, health: Health, tmp_path: Path) -> None:
        """Mended in the file, as when the broker's authority has changed."""
        settings = place.by_password()
        place.allow()
        (tmp_path / "other").mkdir()
        settings["AUDIT_KAFKA_SECURITY_CA_FILE"] = place.file("ca.pem", Certificates(tmp_path / "other").authority.read_text())
        expected = place.send(5)
        with place.worker(**settings, **health.settings) as process:
            wait_until(lambda: "check AUDIT_KAFKA_SECURITY_CA_FILE" in health.reasons, "the reason")
            assert "certificate verify failed" in health.reasons
            assert health.live == 200
            done = place.command("check", "--json", **settings)
            assert "check AUDIT_KAFKA_SECURITY_CA_FILE" in done.stdout
            place.file("ca.pem", place.kafka.certificates.authority.read_text())
            wait_until(lambda: place.written() == 5 and health.ready, "it works")
            assert process.poll() is None
        place.assert_complete(expected)

    def test_a_certificate_that_has_expired(self, place: Secured, health: Health) -> None:
        """The broker says only that it knows no such certificate. Mended by new files, of which the key comes last."""
        settings = place.by_certificate()
        place.allow()
        name = place.principal.removeprefix("CN=")
        old, key = place.kafka.certificates.issue(name, days=0)
        place.file("worker.pem", old.read_text())
        place.file("worker.key", key.read_text())
        expected = place.send(5)
        with place.worker(log=place.folder / "log", **settings, **health.settings) as process:
            wait_until(lambda: "the certificate of AUDIT_KAFKA_SECURITY_CERTIFICATE_FILE expired at" in health.reasons, "the reason")
            assert health.live == 200
            certificate, key = place.kafka.certificates.issue(name)
            place.file("worker.pem", certificate.read_text())
            wait_until(lambda: "credentials refused" in (place.folder / "log").read_text(), "a certificate without its key")
            place.file("worker.key", key.read_text())
            wait_until(lambda: place.written() == 5 and health.ready, "it works")
            assert process.poll() is None
        place.assert_complete(expected)


class TestLogin:
    """Every way to log in, with the right to read the topic and the group, and no other."""

    @pytest.mark.parametrize("way", WAYS)
    def test_a_secret_that_is_changed(self, place: Secured, health: Health, way: Way) -> None:
        """While the worker runs, and nobody restarts it; the old one is worth nothing any more."""
        settings = way(place)
        place.allow()
        log = place.folder / "log"
        with place.worker(log=log, **settings, **health.settings) as process:
            expected = place.send(5)
            wait_until(lambda: place.written() == 5 and health.ready, "it works")
            place.change_secret()
            wait_until(lambda: "credentials taken" in log.read_text(), "the worker has read it")
            proven = time.monotonic() + 2 * LOGIN_LASTS  # each connection has had to log in with the new one by then
            while time.monotonic() < proven:
                expected += place.send(1)
                wait_until(lambda: place.written() == len(expected) and health.ready, "messages go on")  # noqa: B023 - called at once
            assert process.poll() is None
            assert ("consumer rebuilt" in log.read_text()) == (way is not Secured.by_password)
        place.assert_complete(expected)
