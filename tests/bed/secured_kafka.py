"""A broker that lets nobody do anything without a right: TLS with client certificates, SCRAM and OAuth over TLS, and ACLs.

The test itself enters by the plain listener as the super user.
"""

import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from tests.bed.certificates import Certificates
from tests.bed.kafka import KafkaBroker, free_port
from tests.bed.needs import missing
from tests.bed.token_server import TokenServer

_MODULE = "org.apache.kafka.common.security"
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
READ, DESCRIBE, WRITE = AclOperation.READ, AclOperation.DESCRIBE, AclOperation.WRITE

LOGIN_LASTS = 2.0
"""Seconds after which a connection must log in again (SASL)."""


class SecuredKafka(KafkaBroker):
    """One node with ACLs.

    Args:
        folder: for its data and its certificates.
        tokens: who signs tokens.
    """

    def __init__(self, folder: Path, tokens: TokenServer) -> None:
        self.certificates = Certificates(folder)
        self.tokens = tokens
        certificate, key = self.certificates.issue("broker")
        store = folder / "broker-store.pem"
        store.write_text(key.read_text() + certificate.read_text())
        self._mutual, self._sasl = free_port(), free_port()
        keys = f"{tokens.url}/keys"
        super().__init__(
            folder,
            {
                "listener.security.protocol.map": "STRAIGHT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT,MUTUAL:SSL,SASL:SASL_SSL",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(store),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self.certificates.authority),
                "listener.name.mutual.ssl.client.auth": "required",
                "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
                "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{_MODULE}.scram.ScramLoginModule required;",
                "listener.name.sasl.oauthbearer.sasl.jaas.config": f"{_MODULE}.oauthbearer.OAuthBearerLoginModule required;",
                "listener.name.sasl.oauthbearer.sasl.server.callback.handler.class": (
                    f"{_MODULE}.oauthbearer.OAuthBearerValidatorCallbackHandler"
                ),
                "listener.name.sasl.oauthbearer.sasl.oauthbearer.jwks.endpoint.url": keys,
                "listener.name.sasl.oauthbearer.sasl.oauthbearer.expected.audience": "kafka",
                "listener.name.sasl.connections.max.reauth.ms": str(int(LOGIN_LASTS * 1000)),
            },
            listeners={"MUTUAL": self._mutual, "SASL": self._sasl},
            java=[f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}"],
        )

    @property
    def mutual(self) -> dict[str, str]:
        """Settings of a worker that shows its certificate, but for the certificate."""
        return {**self._tls("SSL"), "AUDIT_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self._mutual}"}

    @property
    def sasl(self) -> dict[str, str]:
        """Settings of a worker that logs in, but for who it is."""
        return {**self._tls("SASL_SSL"), "AUDIT_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self._sasl}"}

    def _tls(self, protocol: str) -> dict[str, str]:
        return {"AUDIT_KAFKA_SECURITY_PROTOCOL": protocol, "AUDIT_KAFKA_SECURITY_CA_FILE": str(self.certificates.authority)}

    def user(self, password: str, name: str | None = None) -> str:
        """Makes a user with a password for SCRAM-SHA-512, or changes its password; its name."""
        name = name or f"user-{uuid.uuid4().hex[:8]}"
        self._alter(UserScramCredentialUpsertion(name, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), password.encode()))
        return name

    def forget(self, name: str) -> None:
        """Removes a user."""
        self._alter(UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_512))

    def _alter(self, change: UserScramCredentialUpsertion | UserScramCredentialDeletion) -> None:
        for future in self.admin.alter_user_scram_credentials([change]).values():
            future.result(30)

    def allow(self, principal: str, kind: ResourceType, name: str, operations: Sequence[AclOperation] = (READ,)) -> None:
        """Grants operations on a topic or a group."""
        bindings = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{principal}", "*", operation, AclPermissionType.ALLOW)
            for operation in operations
        ]
        for future in self.admin.create_acls(bindings).values():
            future.result(30)

    def run_acls(self, command: str) -> None:
        """Runs a `kafka-acls.sh` command to the letter, but by the super user's listener."""
        program, option, _, *words = shlex.split(command)
        assert (program, option) == ("kafka-acls.sh", "--bootstrap-server")
        tool = self._java("org.apache.kafka.tools.AclCommand", option, self.bootstrap_servers, *words)
        done = subprocess.run(tool, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def disallow(self, principal: str, kind: ResourceType = ResourceType.ANY, name: str | None = None) -> None:
        """Takes rights away: all that fit."""
        wanted = AclBindingFilter(kind, name, ResourcePatternType.ANY, f"User:{principal}", None, AclOperation.ANY, AclPermissionType.ANY)
        for future in self.admin.delete_acls([wanted]).values():
            future.result(30)


@pytest.fixture(scope="session")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One for the whole run."""
    if shutil.which("openssl") is None:
        missing("openssl, for certificates")
    folder = tmp_path_factory.mktemp("secured-kafka")
    with TokenServer(folder) as tokens:
        broker = SecuredKafka(folder, tokens)
        broker.start()
        yield broker
        broker.stop()
