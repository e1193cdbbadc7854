"""The client's errors as the worker knows them: what is wrong, and the remedy. By code, never by text; the client's text is passed on."""

import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation

from consumer.core.errors import Cause, ConfigurationError, MissingRightError, TransientError

UNANSWERED = "Kafka: no broker answers"
GRANT = "; grant it: "
"""Between what is missing and the command that grants it."""
MISSING_RIGHT = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_LOGIN, _TLS = KafkaError._AUTHENTICATION, KafkaError._SSL  # noqa: SLF001 - the client's own codes begin so
_UNREACHED = (KafkaError._TRANSPORT, KafkaError._RESOLVE)  # noqa: SLF001 - as above


class Rights:
    """What a principal may do: the rights that are missing, and the commands that grant them.

    Args:
        client: settings of the connection.
    """

    def __init__(self, client: Mapping[str, Any]) -> None:
        self._client = dict(client)

    def missing(self, kind: str, name: str) -> MissingRightError:
        """The right to read is not there. It is the only one that a worker needs, since Describe comes with it."""
        return MissingRightError(f"Kafka: no right to read {kind} {name}{GRANT}{self.grant(kind, name)}", Cause.KAFKA)

    def grant(self, kind: str, name: str) -> str:
        """The command, to be run by somebody who may."""
        words = ["kafka-acls.sh", "--bootstrap-server", str(self._client.get("bootstrap.servers")), "--add", "--allow-principal"]
        return shlex.join([*words, f"User:{principal_of(self._client)}", "--operation", "Read", f"--{kind}", name])

    def refused(self, kind: str, name: str, operations: Iterable[AclOperation] | None) -> str | None:
        """Why it can't be read; None where it can, or where the broker does not say."""
        if operations is None or AclOperation.READ in operations:
            return None
        return str(self.missing(kind, name))

    def failure(self, error: KafkaError, kind: str, name: str) -> TransientError:
        """The error of a question about a topic or a group."""
        code = error.code()
        if code in MISSING_RIGHT:
            return self.missing(kind, name)
        if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):  # noqa: SLF001 - as above
            return ConfigurationError(f"Kafka: {kind} {name} does not exist", Cause.KAFKA)
        return TransientError(f"Kafka: {kind} {name}: {error.name()}", Cause.KAFKA)


class Silence:
    """Why no broker answers, from what the client says of its connections. Never raises.

    Args:
        client: settings of the connection.
    """

    def __init__(self, client: Mapping[str, Any]) -> None:
        self.client = client
        self._refused = ""  # by a login or a certificate
        self._unreached = ""

    def hear(self, error: KafkaError) -> bool:
        """Takes note; true where no broker can be asked any more."""
        code = error.code()
        if code == _LOGIN:
            name = "OAUTH_CLIENT_ID and _SECRET" if self.client.get("sasl.mechanisms") == "OAUTHBEARER" else "SASL_USERNAME and _PASSWORD"
            self._refused = f"{error.str()}; check AUDIT_KAFKA_SECURITY_{name}"
        elif code == _TLS:
            self._refused = (
                f"{error.str()}; check AUDIT_KAFKA_SECURITY_CA_FILE, and that the broker's certificate names its host and has not expired"
            )
        elif code in _UNREACHED:
            self._unreached = error.str()
        return code in (_LOGIN, _TLS, KafkaError._ALL_BROKERS_DOWN)  # noqa: SLF001 - as above

    def end(self) -> None:
        """A broker has answered."""
        self._refused = self._unreached = ""

    @property
    def heard(self) -> bool:
        """Whether the client said anything."""
        return bool(self._refused or self._unreached)

    @property
    def text(self) -> str:
        """The reason."""
        why = [each for each in (expiry_of(self.client), self._refused or self._unreached) if each]
        return f"{UNANSWERED}: {'; '.join(why)}" if why else UNANSWERED


def principal_of(client: Mapping[str, Any]) -> str:
    """Who we are in the broker's ACLs, if it has no mapping of its own."""
    if "sasl.mechanisms" in client:
        return str(client.get("sasl.oauthbearer.client.id") or client.get("sasl.username"))
    certificate = _certificate(client)
    return "ANONYMOUS" if certificate is None else str(certificate.subject.rfc4514_string())


def expiry_of(client: Mapping[str, Any]) -> str | None:
    """Says that our certificate has expired; None where it has not, or there is none. The broker does not tell."""
    certificate = _certificate(client)
    if certificate is None or certificate.not_valid_after_utc > datetime.now(UTC):
        return None
    return f"the certificate of AUDIT_KAFKA_SECURITY_CERTIFICATE_FILE expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%SZ}"


def _certificate(client: Mapping[str, Any]) -> Any:
    """Our own certificate, for mutual TLS; None where there is none that can be read."""
    place = client.get("ssl.certificate.location")
    if place is None:
        return None
    from cryptography import x509  # noqa: PLC0415 - most workers have no certificate

    try:
        return x509.load_pem_x509_certificate(Path(place).read_bytes())
    except (OSError, ValueError):
        return None


def refused_settings(error: KafkaException) -> ConfigurationError:
    """The client refuses its settings, such as a certificate that it can't read."""
    return ConfigurationError(f"the Kafka client refuses its settings: {error.args[0].str()}", Cause.KAFKA)
