"""Secrets that change: what is noticed, what a running client can take over, and what the reasons say."""

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from consumer.core.errors import ConfigurationError
from consumer.kafka.credentials import Credentials
from consumer.kafka.failures import UNANSWERED, Rights, Silence, expiry_of, principal_of
from consumer.settings import load_settings
from tests.bed.certificates import Certificates

USER = {"bootstrap.servers": "k:1", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "audit", "sasl.password": "one"}


class Clock:
    """Each look comes late enough."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        self.now += 2.0
        return self.now


class Told:
    """What was reported."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def __call__(self, _name: str, **fields: Any) -> None:
        """As an observer's event."""
        self.errors.append(fields["error"])


def test_a_password_is_taken_in_place_and_a_file_is_not(tmp_path: Path) -> None:
    """Each change is told once."""
    authority = tmp_path / "ca.pem"
    authority.write_text("one")
    client = {**USER, "ssl.ca.location": str(authority)}
    credentials = Credentials(dict(client), lambda: client, Clock(), Told())
    assert credentials.change() is None
    client["sasl.password"] = "two"
    change = credentials.change()
    assert change is not None
    assert change.in_place
    assert change.client["sasl.password"] == "two"
    assert credentials.change() is None
    authority.write_text("two")
    change = credentials.change()
    assert change is not None
    assert not change.in_place
    assert credentials.change() is None


def test_what_can_not_be_read_is_said_once_and_changes_nothing() -> None:
    """And is tried again."""
    told, readable = Told(), [False, False, True]

    def read() -> dict[str, str]:
        if not readable.pop(0):
            raise ConfigurationError("is empty")
        return {**USER, "sasl.password": "two"}

    credentials = Credentials(USER, read, Clock(), told)
    assert credentials.change() is None
    assert credentials.change() is None
    assert told.errors == ["is empty"]
    assert credentials.change() is not None


def test_settings_are_read_again(tmp_path: Path) -> None:
    """With the files as they are now; a problem is one line, without the secret."""
    file = tmp_path / "password"
    file.write_text("one\n")
    settings = load_settings({"AUDIT_DATABASE_URL": "postgresql://db/audit", "AUDIT_DATABASE_PASSWORD_FILE": str(file)})
    file.write_text("two\n")
    password = settings.again().again().database_password
    assert password is not None
    assert password.get_secret_value() == "two"
    file.write_text("")
    with pytest.raises(ConfigurationError, match=r"^settings: AUDIT_DATABASE_PASSWORD_FILE=.*: is empty$"):
        settings.again()


def test_the_command_names_who_we_are(tmp_path: Path) -> None:
    """By user, client or certificate; names that a shell would read otherwise are quoted."""
    certificate, _ = Certificates(tmp_path).issue("worker")
    oauth = {"sasl.mechanisms": "OAUTHBEARER", "sasl.oauthbearer.client.id": "client"}
    assert [principal_of(each) for each in (USER, oauth, {"ssl.certificate.location": str(certificate)}, {})] == [
        "audit",
        "client",
        "CN=worker",
        "ANONYMOUS",
    ]
    command = Rights({**USER, "sasl.username": "a b"}).grant("topic", "t")
    assert command == "kafka-acls.sh --bootstrap-server k:1 --add --allow-principal 'User:a b' --operation Read --topic t"


def test_only_an_expired_certificate_has_expired(tmp_path: Path) -> None:
    """One that can't be read is left to the client, which says so better."""
    authority = Certificates(tmp_path)
    good, bad = authority.issue("good")[0], authority.issue("bad", days=0)[0]
    assert expiry_of({"ssl.certificate.location": str(good)}) is None
    assert "expired at" in str(expiry_of({"ssl.certificate.location": str(bad)}))
    assert expiry_of({"ssl.certificate.location": str(tmp_path / "none")}) is None


def test_a_refusal_outlives_the_broken_connections_that_follow_it() -> None:
    """Until a broker answers; after that, silence has no reason."""
    silence = Silence(USER)
    assert silence.hear(KafkaError(KafkaError._AUTHENTICATION, "refused"))
    assert not silence.hear(KafkaError(KafkaError._TRANSPORT, "broken"))
    assert silence.text == f"{UNANSWERED}: refused; check AUDIT_KAFKA_SECURITY_SASL_USERNAME and _PASSWORD"
    silence.end()
    assert silence.text == UNANSWERED
