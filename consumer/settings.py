"""Every knob: its environment variable, unit, default and meaning; all validation; secrets masked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    DirectoryPath,
    Field,
    FilePath,
    PrivateAttr,
    SecretStr,
    ValidationError,
)

from consumer.core.errors import ConfigurationError
from consumer.setting_rules import contradictions
from consumer.setting_sources import PREFIX, from_environment, from_file
from consumer.setting_values import masked, parse_duration, parse_registry, parse_size, parse_topics, show_duration

CONFIG_FILE = "AUDIT_CONFIG_FILE"

_SIX_WEEKS = timedelta(weeks=6)
_TEN_YEARS = timedelta(days=3653)
_DATABASE = re.compile(r"postgres(ql)?://.+")


class SettingsError(ValueError):
    """Settings that can't be used; the text names every variable, its value (masked where secret) and the remedy."""


def _when_text(parse: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _database(url: SecretStr) -> SecretStr:
    if not _DATABASE.fullmatch(url.get_secret_value()):
        raise ValueError("needs a libpq URL, such as postgresql://audit@localhost:5432/audit")
    # libpq would take what follows the first @ for the host, and its error would show it: the rest of the password.
    if url.get_secret_value().partition("://")[2].partition("?")[0].count("@") > 1:
        raise ValueError("holds an @ that is not escaped: in a password, write %40")
    return url


Duration = Annotated[timedelta, _when_text(parse_duration)]
Size = Annotated[int, _when_text(parse_size)]
Topics = Annotated[tuple[str, ...], _when_text(parse_topics)]
RegistryUrl = Annotated[str, AfterValidator(parse_registry)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
_LOWER = _when_text(str.lower)
_UPPER = _when_text(str.upper)


@dataclass
class _Origin:
    """Where settings come from, which is no part of what they say: settings that say the same are equal."""

    environ: Mapping[str, str] = field(default_factory=dict, compare=False)


class Settings(BaseModel):
    """The settings of a process, read once, by `load_settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka_bootstrap_servers: str | None = Field(None, description="Kafka brokers, `host:port` by comma.")
    kafka_topic: Topics = Field(("integration-changes",), description="Topics, by comma.")
    kafka_group_id: str = Field("integration-audit", min_length=1, description="Consumer group.")
    kafka_group_protocol: Annotated[Literal["classic", "consumer"], _LOWER] = Field(
        "classic", description="`classic` (cooperative-sticky) or `consumer` (KIP-848, brokers from 4.0)."
    )
    kafka_session_timeout: Duration = Field(
        timedelta(seconds=45),
        ge=timedelta(seconds=1),
        le=timedelta(hours=1),
        description="How long a silent worker keeps its partitions (classic only; brokers want 6s or more).",
    )
    kafka_security_protocol: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], _UPPER] = Field(
        "PLAINTEXT", description="How brokers are spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    kafka_security_sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"], _UPPER] | None = Field(
        None, description="SASL mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER."
    )
    kafka_security_sasl_username: str | None = Field(None, description="SASL user.")
    kafka_security_sasl_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_security_ca_file: FilePath | None = Field(None, description="CA certificates of the brokers (PEM).")
    kafka_security_certificate_file: FilePath | None = Field(None, description="Our certificate for mutual TLS (PEM).")
    kafka_security_key_file: FilePath | None = Field(None, description="Its private key (PEM).")
    kafka_security_key_password: SecretStr | None = Field(None, description="The private key's password.")
    kafka_security_oauth_token_url: str | None = Field(None, description="Token endpoint for OAUTHBEARER (OIDC).")
    kafka_security_oauth_client_id: str | None = Field(None, description="Client id for the token endpoint.")
    kafka_security_oauth_client_secret: SecretStr | None = Field(None, description="Client secret for the token endpoint.")
    kafka_security_oauth_scope: str | None = Field(None, description="Scope asked of the token endpoint.")
    database_url: DatabaseUrl | None = Field(None, description="libpq URL of the database.")
    database_password: SecretStr | None = Field(None, description="Its password, where the URL has none.")
    schema_registry_url: RegistryUrl | None = Field(None, description="Schema registry (Confluent's API), URLs of replicas by comma.")
    schema_registry_username: str | None = Field(None, pattern="^[^:]+$", description="User at the registry (basic authentication).")
    schema_registry_password: SecretStr | None = Field(None, description="Password at the registry.")
    schema_registry_token: SecretStr | None = Field(None, description="Bearer token, instead of user and password.")
    schema_registry_cluster: str | None = Field(
        None, description="Logical cluster that the token is for, such as lsrc-…, where one is wanted."
    )
    schema_registry_ca_file: FilePath | None = Field(None, description="CA certificates of the registry (PEM); unset: the public ones.")
    schema_registry_certificate_file: FilePath | None = Field(None, description="Our certificate for mutual TLS (PEM).")
    schema_registry_key_file: FilePath | None = Field(None, description="Its private key (PEM).")
    schema_registry_key_password: SecretStr | None = Field(None, description="The private key's password.")
    batch_max_messages: int = Field(2000, ge=1, le=100_000, description="Most messages in one transaction.")
    max_message_bytes: Size = Field(1_048_576, ge=1, description="A longer value is quarantined unread (bytes, KiB or MiB).")
    quarantine_limit: int = Field(
        1000, ge=0, description="Hold a topic when this many of its latest messages went into quarantine, and more would; 0: never."
    )
    quarantine_limit_share: int = Field(80, ge=1, le=100, description="… if they are at least this percentage of them.")
    metrics_port: int | None = Field(None, ge=1, le=65_535, description="Port of metrics and health; unset: off.")
    retention: Duration = Field(
        timedelta(days=1096),
        ge=_SIX_WEEKS,
        le=_TEN_YEARS,
        description="How far back the log reaches: 6 weeks to 10 years.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _LOWER] = Field("info", description="debug, info, warning or error.")
    log_format: Annotated[Literal["json", "console"], _LOWER] = Field("json", description="json (one object a line) or console.")
    shutdown_grace: Duration = Field(
        timedelta(seconds=30),
        gt=timedelta(0),
        description="How long a graceful stop may take before the watchdog ends it.",
    )
    schema_dir: DirectoryPath | None = Field(None, description="Folder with further writer schemas (*.avsc).")

    _origin: _Origin = PrivateAttr(default_factory=_Origin)

    def from_environ(self, environ: Mapping[str, str]) -> Self:
        """Remembers where they come from."""
        self._origin.environ = dict(environ)
        return self

    def again(self) -> "Settings":
        """The settings as they are now: the files that they come from may have changed.

        Raises:
            ConfigurationError: they can't be used any more.
        """
        try:
            return load_settings(self._origin.environ)
        except SettingsError as error:
            raise ConfigurationError("settings: " + "; ".join(str(error).splitlines())) from error

    @property
    def kafka_topics(self) -> tuple[str, ...]:
        """The topics' names."""
        return self.kafka_topic

    def require_kafka(self) -> None:
        """Raises SettingsError unless brokers are named."""
        if not self.kafka_bootstrap_servers:
            raise SettingsError(f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS is not set: name the brokers, such as localhost:9092")

    def require_database(self) -> None:
        """Raises SettingsError unless a database is named."""
        if self.database_url is None:
            raise SettingsError(f"{PREFIX}DATABASE_URL is not set: name the database, such as postgresql://audit@localhost:5432/audit")

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

    def schema_registry_config(self) -> dict[str, str]:
        """Settings of the registry's client, as confluent-kafka names them."""
        token, password = self.schema_registry_token, self.schema_registry_password
        pairs: dict[str, Any] = {
            "url": self.schema_registry_url,
            "basic.auth.user.info": f"{self.schema_registry_username}:{password.get_secret_value()}" if password is not None else None,
            "bearer.auth.credentials.source": "STATIC_TOKEN" if token is not None else None,
            "bearer.auth.token": token,
            "bearer.auth.logical.cluster": (self.schema_registry_cluster or "") if token is not None else None,
            "ssl.ca.location": self.schema_registry_ca_file,
            "ssl.certificate.location": self.schema_registry_certificate_file,
            "ssl.key.location": self.schema_registry_key_file,
            "ssl.key.password": self.schema_registry_key_password,
        }
        return {key: str(_plain(value)) for key, value in pairs.items() if value is not None}


def _plain(value: Any) -> str | int:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, int) else str(value)


_VARIABLES = {PREFIX + name.upper(): name for name in Settings.model_fields}
_SECRETS = {variable for variable, name in _VARIABLES.items() if "SecretStr" in str(Settings.model_fields[name].annotation)}
_SECRET_FILES = {f"{variable}_FILE": variable for variable in _SECRETS}


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of this environment and of the file it names; the environment wins.

    Raises:
        SettingsError: with all problems at once.
    """
    problems: list[str] = []
    own = from_environment(environ)
    file = own.pop(CONFIG_FILE, "")
    texts: dict[str, str] = {}
    if file:
        try:
            texts = _resolved(from_file(Path(file)), f" (in {file})", problems)
        except UnicodeDecodeError:
            problems.append(f"{CONFIG_FILE}={file}: is not UTF-8")
        except OSError as error:
            problems.append(f"{CONFIG_FILE}={file}: can't be read: {error.strerror}")
        except ValueError as error:
            problems.append(f"{CONFIG_FILE}={file}: {error}")
    texts |= _resolved(own, "", problems)
    settings = None
    try:
        settings = Settings(**{_VARIABLES[variable]: text for variable, text in texts.items()})  # type: ignore[arg-type] # texts, which the model parses
    except ValidationError as error:
        problems += [_problem(dict(each), texts) for each in error.errors()]
    problems += contradictions(texts)
    if settings is None or problems:
        raise SettingsError("\n".join(sorted(problems)))
    return settings.from_environ(environ)


def _resolved(source: Mapping[str, str], place: str, problems: list[str]) -> dict[str, str]:
    """The texts of one source by variable, secrets read from their files; empty is not set."""
    texts = {}
    for variable, text in source.items():
        if variable not in _VARIABLES and variable not in _SECRET_FILES:
            near = get_close_matches(variable.upper(), [*_VARIABLES, *_SECRET_FILES, CONFIG_FILE], n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]}?" if near else "take it away"
            problems.append(f"{variable}{place}: is no setting; {remedy}")
        elif not text.strip():
            continue
        elif variable in _VARIABLES:
            texts[variable] = text if variable in _SECRETS else text.strip()
        elif source.get(_SECRET_FILES[variable]):
            problems.append(f"{variable}{place}: {_SECRET_FILES[variable]} is set too; keep one of them")
        else:
            try:
                texts[_SECRET_FILES[variable]] = _secret(Path(text.strip()))
            except OSError as error:
                problems.append(f"{variable}={text}{place}: can't be read: {error.strerror}")
            except ValueError as error:
                problems.append(f"{variable}={text}{place}: {error}")
    return texts


def _secret(path: Path) -> str:
    """The file's content without the line end that editors and `echo` put after it."""
    try:
        content = path.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        # Its text would show a byte of the secret.
        raise ValueError("is not UTF-8") from None
    if not content:
        raise ValueError("is empty")
    return content


_BOUNDS = {
    "greater_than_equal": ("ge", "must be at least"),
    "less_than_equal": ("le", "must be at most"),
    "greater_than": ("gt", "must be more than"),
}


def _problem(error: dict[str, Any], texts: Mapping[str, str]) -> str:
    variable = PREFIX + str(error["loc"][0]).upper()
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    if error["type"] in _BOUNDS:
        name, words = _BOUNDS[error["type"]]
        bound = error["ctx"][name]
        message = f"{words} {show_duration(bound) if isinstance(bound, timedelta) else bound}"
    return f"{variable}={masked(texts[variable], secret=variable in _SECRETS)}: {message}"


def settings_table() -> list[tuple[str, str, str]]:
    """Variable, default and meaning of each setting, for the documentation."""
    rows = [(CONFIG_FILE, "unset", "File with further settings: TOML by its ending, else NAME=value lines.")]
    for variable, name in _VARIABLES.items():
        field = Settings.model_fields[name]
        also = f" Also as `{variable}_FILE`." if variable in _SECRETS else ""
        rows.append((variable, _default(field.default), f"{field.description}{also}"))
    return rows


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, timedelta):
        return show_duration(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)
