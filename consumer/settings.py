"""Every knob: its environment variable, unit, default and meaning; all validation; secrets masked."""

import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

from consumer.setting_values import parse_duration, parse_size

PREFIX = "AUDIT_"
CONFIG_FILE = "AUDIT_CONFIG_FILE"

_SIX_WEEKS = timedelta(weeks=6)
_TEN_YEARS = timedelta(days=3653)


class SettingsError(ValueError):
    """Settings that can't be used; the text names every variable, its value (masked where secret) and the remedy."""


def _when_text(parse: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _names(value: Any) -> Any:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


Duration = Annotated[timedelta, _when_text(parse_duration)]
Size = Annotated[int, _when_text(parse_size)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]


class Settings(BaseModel):
    """The settings of a process, read once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka_bootstrap_servers: str | None = Field(None, description="Kafka brokers, `host:port` by comma.")
    kafka_topic: Names = Field(("integration-changes",), description="Topics, by comma.")
    kafka_group_id: str = Field("integration-audit", min_length=1, description="Consumer group.")
    kafka_group_protocol: Literal["classic", "consumer"] = Field(
        "classic", description="`classic` (cooperative-sticky) or `consumer` (KIP-848, brokers from 4.0)."
    )
    kafka_session_timeout: Duration = Field(
        timedelta(seconds=45), gt=timedelta(0), description="How long a silent worker keeps its partitions (classic only)."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to."
    )
    kafka_security_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="SASL mechanism."
    )
    kafka_security_sasl_username: str | None = Field(None, description="SASL user.")
    kafka_security_sasl_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_security_ca_file: Path | None = Field(None, description="CA certificates of the brokers (PEM).")
    kafka_security_certificate_file: Path | None = Field(None, description="Our certificate for mutual TLS (PEM).")
    kafka_security_key_file: Path | None = Field(None, description="Its private key (PEM).")
    kafka_security_key_password: SecretStr | None = Field(None, description="The private key's password.")
    kafka_security_oauth_token_url: str | None = Field(None, description="Token endpoint for OAUTHBEARER (OIDC).")
    kafka_security_oauth_client_id: str | None = Field(None, description="Client id for the token endpoint.")
    kafka_security_oauth_client_secret: SecretStr | None = Field(None, description="Client secret for the token endpoint.")
    kafka_security_oauth_scope: str | None = Field(None, description="Scope asked of the token endpoint.")
    database_url: SecretStr | None = Field(None, description="libpq URL of the database.")
    database_password: SecretStr | None = Field(None, description="Its password, where the URL has none.")
    schema_registry_url: str | None = Field(None, description="Schema registry; not used yet.")
    schema_registry_username: str | None = Field(None, description="User at the registry.")
    schema_registry_password: SecretStr | None = Field(None, description="Password at the registry.")
    batch_max_messages: int = Field(2000, ge=1, le=100_000, description="Most messages in one transaction.")
    max_message_bytes: Size = Field(1_048_576, ge=1, description="A longer value is quarantined unread.")
    metrics_port: int | None = Field(None, ge=1, le=65_535, description="Port of metrics and health; unset: off.")
    retention: Duration = Field(
        timedelta(days=1096), ge=_SIX_WEEKS, le=_TEN_YEARS, description="How far back the log reaches: 6 weeks to 10 years."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error.")
    log_format: Literal["json", "console"] = Field("json", description="json (one object a line) or console.")
    shutdown_grace: Duration = Field(
        timedelta(seconds=30), gt=timedelta(0), description="How long a graceful stop may take before the watchdog ends it."
    )
    schema_dir: Path | None = Field(None, description="Folder with further writer schemas (*.avsc).")

    @property
    def kafka_topics(self) -> tuple[str, ...]:
        """The topics' names."""
        return self.kafka_topic

    @model_validator(mode="after")
    def _security_is_complete(self) -> "Settings":
        if self.kafka_security_protocol.startswith("SASL"):
            mechanism = self.kafka_security_sasl_mechanism
            if mechanism is None:
                raise ValueError(f"{PREFIX}KAFKA_SECURITY_SASL_MECHANISM: must be set for {self.kafka_security_protocol}")
            if mechanism == "OAUTHBEARER":
                wanted: tuple[str, ...] = (
                    "kafka_security_oauth_token_url",
                    "kafka_security_oauth_client_id",
                    "kafka_security_oauth_client_secret",
                )
            else:
                wanted = ("kafka_security_sasl_username", "kafka_security_sasl_password")
            missing = [PREFIX + name.upper() for name in wanted if getattr(self, name) is None]
            if missing:
                raise ValueError(f"{', '.join(missing)}: must be set for {mechanism}")
        return self

    def require_kafka(self) -> None:
        """Raises SettingsError unless brokers are named."""
        if not self.kafka_bootstrap_servers:
            raise SettingsError(f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS is not set: name the brokers, such as localhost:9092")

    def require_database(self) -> None:
        """Raises SettingsError unless a database is named."""
        if self.database_url is None:
            raise SettingsError(f"{PREFIX}DATABASE_URL is not set: name the database, such as postgresql://audit@localhost/audit")

    def kafka_client_config(self) -> dict[str, str | int]:
        """Librdkafka's settings of the connection, the same for consumer, producer and admin."""
        oauth = self.kafka_security_sasl_mechanism == "OAUTHBEARER"
        pairs: dict[str, Any] = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "client.id": "integration-audit",
            "log_level": 2,  # what matters comes by callbacks; its own lines would not be JSON
            "security.protocol": self.kafka_security_protocol,
            "sasl.mechanisms": self.kafka_security_sasl_mechanism,
            "sasl.username": self.kafka_security_sasl_username,
            "sasl.password": self.kafka_security_sasl_password,
            "ssl.ca.location": self.kafka_security_ca_file,
            "ssl.certificate.location": self.kafka_security_certificate_file,
            "ssl.key.location": self.kafka_security_key_file,
            "ssl.key.password": self.kafka_security_key_password,
            "sasl.oauthbearer.method": "oidc" if oauth else None,
            "sasl.oauthbearer.token.endpoint.url": self.kafka_security_oauth_token_url if oauth else None,
            "sasl.oauthbearer.client.id": self.kafka_security_oauth_client_id if oauth else None,
            "sasl.oauthbearer.client.secret": self.kafka_security_oauth_client_secret if oauth else None,
            "sasl.oauthbearer.scope": self.kafka_security_oauth_scope if oauth else None,
        }
        return {key: _plain(value) for key, value in pairs.items() if value is not None}


def _plain(value: Any) -> str | int:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, int) else str(value)


_VARIABLES = {PREFIX + name.upper(): name for name in Settings.model_fields}
_SECRETS = {variable for variable, name in _VARIABLES.items() if "SecretStr" in str(Settings.model_fields[name].annotation)}
_SECRET_FILES = {f"{variable}_FILE": variable for variable in _SECRETS}

# What Kubernetes puts into the environment for a Service whose name begins with "audit".
_KUBERNETES = re.compile(r"AUDIT_.*(_SERVICE_HOST|_SERVICE_PORT(_.*)?|_PORT_\d+_.*)")
_KUBERNETES_PORT = re.compile(r"(tcp|udp)://")


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of this environment and of the file it names; the environment wins.

    Raises:
        SettingsError: with all problems at once.
    """
    problems: list[str] = []
    texts = _own(environ)
    file = texts.pop(CONFIG_FILE, None)
    if file:
        try:
            texts = {**_read_file(Path(file)), **texts}
        except (OSError, ValueError) as error:
            problems.append(f"{CONFIG_FILE}={file}: {error}")
    for variable in texts.keys() - _VARIABLES.keys() - _SECRET_FILES.keys():
        near = get_close_matches(variable, [*_VARIABLES, *_SECRET_FILES, CONFIG_FILE], n=1, cutoff=0.5)
        problems.append(f"{variable} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    values = {_VARIABLES[variable]: text for variable, text in texts.items() if variable in _VARIABLES and text != ""}
    for file_variable, variable in _SECRET_FILES.items():
        if file_variable in texts and _VARIABLES[variable] not in values:
            try:
                values[_VARIABLES[variable]] = Path(texts[file_variable]).read_text().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{file_variable}={texts[file_variable]}: can't be read: {getattr(error, 'strerror', 'not UTF-8')}")
    try:
        settings = Settings(**values)  # type: ignore[arg-type] # texts, which the model parses
    except ValidationError as error:
        problems += [_problem(dict(each)) for each in error.errors()]
    if problems:
        raise SettingsError("\n".join(sorted(problems)))
    return settings


def _own(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text
        for name, text in environ.items()
        if name.startswith(PREFIX) and not _KUBERNETES.fullmatch(name) and not (name.endswith("_PORT") and _KUBERNETES_PORT.match(text))
    }


def _read_file(path: Path) -> dict[str, str]:
    """NAME=value lines, or TOML by its ending; names with or without the prefix there."""
    if path.suffix == ".toml":
        content = tomllib.loads(path.read_text())
        return {PREFIX + key.upper().removeprefix(PREFIX): str(value) for key, value in content.items()}
    pairs = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"line {number}: expected NAME=value")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        pairs[name.strip()] = value
    return pairs


def _problem(error: dict[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    variable = PREFIX + str(error["loc"][0]).upper()
    shown = "********" if variable in _SECRETS else repr(error["input"])
    return f"{variable}={shown}: {message}"


def settings_table() -> list[tuple[str, str, str]]:
    """Variable, default and meaning of each setting, for the documentation."""
    return [
        (variable, _default(Settings.model_fields[name].default), str(Settings.model_fields[name].description))
        for variable, name in _VARIABLES.items()
    ]


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, timedelta):
        return f"{value.days} days" if value.days else f"{int(value.total_seconds())}s"
    return ",".join(value) if isinstance(value, tuple) else str(value)
