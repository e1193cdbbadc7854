"""Settings: where they come from, what is refused and how it is said, what the Kafka client is given."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from consumer.setting_values import masked, parse_duration, parse_size, show_duration
from consumer.settings import SettingsError, load_settings, settings_table

SECRET = "hunter2"  # noqa: S105 - what must never be shown


def refused(**environ: str) -> str:
    """The text of the error."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    text = str(caught.value)
    assert SECRET not in text
    return text


def test_the_defaults_are_those_of_the_contract() -> None:
    """Nothing set."""
    settings = load_settings({})
    assert settings.kafka_topics == ("integration-changes",)
    assert settings.kafka_group_id == "integration-audit"
    assert settings.kafka_group_protocol == "classic"
    assert settings.kafka_session_timeout == timedelta(seconds=45)
    assert settings.batch_max_messages == 2000
    assert settings.max_message_bytes == 1024 * 1024
    assert settings.metrics_port is None
    assert settings.retention == timedelta(days=1096)
    assert settings.shutdown_grace == timedelta(seconds=30)
    assert settings.kafka_client_config()["security.protocol"] == "PLAINTEXT"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("6s", timedelta(seconds=6)),
        ("2 min", timedelta(minutes=2)),
        ("1.5 h", timedelta(minutes=90)),
        ("1 day", timedelta(days=1)),
        ("45 days", timedelta(days=45)),
        ("6 Weeks", timedelta(weeks=6)),
        ("4 years", timedelta(days=1461)),
    ],
)
def test_durations_have_a_unit(text: str, value: timedelta) -> None:
    """As people write them."""
    assert parse_duration(text) == value
    assert parse_duration(show_duration(value)) == value


@pytest.mark.parametrize("text", ["", "6", "s", "-6s", "6 fortnights", "6ss", "5 mss", "1e3s", "\u0663s", "9" * 400 + "years"])
def test_other_durations_are_refused(text: str) -> None:
    """Above all a bare number, whose unit nobody knows."""
    with pytest.raises(ValueError, match=r"number and a unit|longer than"):
        parse_duration(text)


def test_sizes() -> None:
    """Bytes, with or without a unit."""
    assert [parse_size(text) for text in ("17", "17 B", "100 KiB", "1MiB")] == [17, 17, 102_400, 1_048_576]
    for text in ("", "1 GB!", "-1", "1.5 MiB"):
        with pytest.raises(ValueError, match="needs a number of bytes"):
            parse_size(text)


def test_all_problems_are_told_at_once() -> None:
    """Single values, contradictions and unknown names in one text, a line each."""
    text = refused(
        AUDIT_BATCH_MAX_MESSAGES="many",
        AUDIT_RETENTION="5 weeks",
        AUDIT_LOG_LEVEL="loud",
        AUDIT_KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        AUDIT_KAFKA_TOPICS="a",
        AUDIT_DATABASE_PASSWORD_FILE="/nowhere/password",  # noqa: S106 - a path
    ).splitlines()
    assert [line.split(":")[0].split("=")[0] for line in text] == [
        "AUDIT_BATCH_MAX_MESSAGES",
        "AUDIT_DATABASE_PASSWORD_FILE",
        "AUDIT_KAFKA_SECURITY_SASL_MECHANISM",
        "AUDIT_KAFKA_TOPICS",
        "AUDIT_LOG_LEVEL",
        "AUDIT_RETENTION",
    ]
    assert "many" in text[0]
    assert "No such file" in text[1]
    assert "AUDIT_KAFKA_TOPIC?" in text[3]
    assert "'warning'" in text[4]
    assert "5 weeks" in text[5]
    assert "42 days" in text[5]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("AUDIT_DATABASE_URL", f"mysql://u:{SECRET}@h/d"),
        ("AUDIT_DATABASE_URL", f"mysql://h/d?password={SECRET}&x=1"),
        ("AUDIT_DATABASE_URL", f"host=h password='a {SECRET}'"),
        ("AUDIT_DATABASE_URL", f"u:{SECRET}@h"),
        ("AUDIT_METRICS_PORT", f"http://u:a@{SECRET}@h"),
        ("AUDIT_SCHEMA_REGISTRY_URL", f"https://u:{SECRET}@h"),
        ("AUDIT_DATABASE_PASWORD", SECRET),
    ],
)
def test_no_secret_is_shown(variable: str, text: str) -> None:
    """In no error, however the value was mistaken; `refused` looks for it."""
    assert refused(**{variable: text}).startswith(variable)


def test_secrets_hide_in_the_settings_too() -> None:
    """A settings object may be printed."""
    settings = load_settings({"AUDIT_DATABASE_URL": f"postgresql://u:{SECRET}@h/d", "AUDIT_DATABASE_PASSWORD": SECRET})
    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    """Without the line end that editors write; inner spaces stay."""
    (tmp_path / "url").write_text("postgresql://audit@db/audit\n")
    (tmp_path / "password").write_text(f" {SECRET} \r\n")
    settings = load_settings({"AUDIT_DATABASE_URL_FILE": f"{tmp_path}/url", "AUDIT_DATABASE_PASSWORD_FILE": f"{tmp_path}/password"})
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://audit@db/audit"
    assert settings.database_password is not None
    assert settings.database_password.get_secret_value() == f" {SECRET} "


def test_every_secret_may_come_from_a_file(tmp_path: Path) -> None:
    """None is forgotten: each field that hides its value has its file."""
    file = tmp_path / "value"
    file.write_text("")
    names = [
        "DATABASE_URL",
        "DATABASE_PASSWORD",
        "KAFKA_SECURITY_SASL_PASSWORD",
        "KAFKA_SECURITY_KEY_PASSWORD",
        "KAFKA_SECURITY_OAUTH_CLIENT_SECRET",
        "SCHEMA_REGISTRY_PASSWORD",
        "SCHEMA_REGISTRY_TOKEN",
        "SCHEMA_REGISTRY_KEY_PASSWORD",
    ]
    text = refused(**{f"AUDIT_{name}_FILE": str(file) for name in names})
    assert text.splitlines() == sorted(f"AUDIT_{name}_FILE={file}: is empty" for name in names)


def test_a_secret_and_its_file_are_one_too_many(tmp_path: Path) -> None:
    """Nobody could know which one counts."""
    (tmp_path / "password").write_text("other")
    text = refused(AUDIT_DATABASE_PASSWORD=SECRET, AUDIT_DATABASE_PASSWORD_FILE=f"{tmp_path}/password")
    assert text == "AUDIT_DATABASE_PASSWORD_FILE: AUDIT_DATABASE_PASSWORD is set too; keep one of them"


def test_bytes_of_a_broken_secret_are_not_shown(tmp_path: Path) -> None:
    """A file that is not UTF-8."""
    (tmp_path / "password").write_bytes(b"\xff" + SECRET.encode())
    text = refused(AUDIT_DATABASE_PASSWORD_FILE=f"{tmp_path}/password")
    assert text == f"AUDIT_DATABASE_PASSWORD_FILE={tmp_path}/password: is not UTF-8"


TOML = """
kafka_topic = ["one", "two"]
AUDIT_BATCH_MAX_MESSAGES = 17
Retention = "45 days"
"""
LINES = """
# comment
export AUDIT_KAFKA_TOPIC = "one,two"
AUDIT_BATCH_MAX_MESSAGES=17

AUDIT_RETENTION='45 days'
"""


@pytest.mark.parametrize(("name", "content"), [("audit.toml", TOML), ("audit.env", LINES)])
def test_a_file_and_the_environment_wins(tmp_path: Path, name: str, content: str) -> None:
    """Both forms of file say the same."""
    (tmp_path / name).write_text(content)
    settings = load_settings({"AUDIT_CONFIG_FILE": str(tmp_path / name), "AUDIT_BATCH_MAX_MESSAGES": "18", "AUDIT_LOG_LEVEL": ""})
    assert settings.kafka_topics == ("one", "two")
    assert settings.retention == timedelta(days=45)
    assert settings.batch_max_messages == 18
    assert settings.log_level == "info"


def test_a_secret_file_of_the_environment_wins_over_the_secret_in_the_file(tmp_path: Path) -> None:
    """The source decides, not the form."""
    (tmp_path / "audit.env").write_text("AUDIT_DATABASE_PASSWORD=old")
    (tmp_path / "password").write_text("new")
    settings = load_settings({"AUDIT_CONFIG_FILE": f"{tmp_path}/audit.env", "AUDIT_DATABASE_PASSWORD_FILE": f"{tmp_path}/password"})
    assert settings.database_password is not None
    assert settings.database_password.get_secret_value() == "new"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.toml", "= 3", "is not TOML"),
        ("b.toml", "[kafka]\ntopic = 'a'", "has a table kafka"),
        ("c.env", f"AUDIT_LOG_LEVEL=info\n{SECRET}", "line 2 that is not NAME=value"),
        ("d.env", b"\xff", "is not UTF-8"),
        ("e.env", "AUDIT_LOG_LEVL=info", "did you mean AUDIT_LOG_LEVEL?"),
        ("none.env", None, "can't be read: No such file"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, name: str, content: str | bytes | None, said: str) -> None:
    """The error names the file."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    text = refused(AUDIT_CONFIG_FILE=str(path))
    assert said in text
    assert str(path) in text


def test_unknown_names() -> None:
    """The nearest known one is named; what is not ours is not looked at."""
    assert "did you mean AUDIT_KAFKA_GROUP_ID?" in refused(AUDIT_KAFKA_GROUPID="x")
    assert "did you mean AUDIT_DATABASE_PASSWORD_FILE?" in refused(AUDIT_DATABASE_PASSWORT_FILE="x")
    assert "did you mean AUDIT_CONFIG_FILE?" in refused(AUDIT_CONFIGFILE="x")
    load_settings({"PATH": "x", "AUDITOR": "x"})


@pytest.mark.parametrize("service", ["AUDIT", "AUDIT_METRICS", "AUDIT_DB"])
def test_what_kubernetes_injects_is_ignored(service: str) -> None:
    """For a Service of any name that begins with ours, also where it has the name of a setting."""
    settings = load_settings(
        {
            f"{service}_SERVICE_HOST": "10.0.0.1",
            f"{service}_SERVICE_PORT": "5432",
            f"{service}_SERVICE_PORT_HTTP": "5432",
            f"{service}_PORT": "tcp://10.0.0.1:5432",
            f"{service}_PORT_5432_TCP": "tcp://10.0.0.1:5432",
            f"{service}_PORT_5432_TCP_PROTO": "tcp",
            f"{service}_PORT_5432_TCP_PORT": "5432",
            f"{service}_PORT_5432_TCP_ADDR": "10.0.0.1",
        }
    )
    assert settings.metrics_port is None


def test_a_port_that_is_no_address_is_not_ignored() -> None:
    """Only what looks like an injected one is."""
    assert "is no setting" in refused(AUDIT_DB_PORT="5432")


@pytest.mark.parametrize(("text", "good"), [("6 weeks", True), ("41 days", False), ("10 years", True), ("3654 days", False)])
def test_the_bounds_of_the_retention(text: str, *, good: bool) -> None:
    """6 weeks to 10 years."""
    if good:
        assert load_settings({"AUDIT_RETENTION": text}).retention == parse_duration(text)
    else:
        assert f"AUDIT_RETENTION={text}: must be at" in refused(AUDIT_RETENTION=text)


@pytest.mark.parametrize("text", ["^all.*", "a b", ",", "a" * 250])
def test_topics_are_names(text: str) -> None:
    """The client would read ^ as the begin of a pattern."""
    assert "AUDIT_KAFKA_TOPIC" in refused(AUDIT_KAFKA_TOPIC=text)


def test_a_topic_named_twice_is_one() -> None:
    """In the order in which they are named."""
    assert load_settings({"AUDIT_KAFKA_TOPIC": "b, a,b"}).kafka_topics == ("b", "a")


OAUTH = {
    "AUDIT_KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
    "AUDIT_KAFKA_SECURITY_SASL_MECHANISM": "OAUTHBEARER",
    "AUDIT_KAFKA_SECURITY_OAUTH_TOKEN_URL": "http://127.0.0.1:9/token",
    "AUDIT_KAFKA_SECURITY_OAUTH_CLIENT_ID": "us",
    "AUDIT_KAFKA_SECURITY_OAUTH_CLIENT_SECRET": SECRET,
    "AUDIT_KAFKA_SECURITY_OAUTH_SCOPE": "kafka",
}
SCRAM = {
    "AUDIT_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "AUDIT_KAFKA_SECURITY_SASL_MECHANISM": "scram-sha-512",
    "AUDIT_KAFKA_SECURITY_SASL_USERNAME": "us",
    "AUDIT_KAFKA_SECURITY_SASL_PASSWORD": SECRET,
}


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ({}, {"security.protocol": "PLAINTEXT"}),
        (
            SCRAM,
            {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanisms": "SCRAM-SHA-512",
                "sasl.username": "us",
                "sasl.password": SECRET,
            },
        ),
        (
            OAUTH,
            {
                "security.protocol": "SASL_SSL",
                "sasl.mechanisms": "OAUTHBEARER",
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.token.endpoint.url": "http://127.0.0.1:9/token",
                "sasl.oauthbearer.client.id": "us",
                "sasl.oauthbearer.client.secret": SECRET,
                "sasl.oauthbearer.scope": "kafka",
            },
        ),
    ],
)
def test_the_clients_connection(security: dict[str, str], expected: dict[str, Any]) -> None:
    """Exactly these settings, and the real client takes them."""
    config = load_settings({"AUDIT_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", **security}).kafka_client_config()
    assert config == {"bootstrap.servers": "127.0.0.1:9", "client.id": "integration-audit", "log_level": 2, **expected}
    Producer(config)  # refuses a name or a value that it does not know


def test_files_of_mutual_tls(tmp_path: Path) -> None:
    """Their paths go to the client; they must exist."""
    names = {"CA": "ssl.ca.location", "CERTIFICATE": "ssl.certificate.location", "KEY": "ssl.key.location"}
    environ = {"AUDIT_KAFKA_SECURITY_PROTOCOL": "SSL", "AUDIT_KAFKA_SECURITY_KEY_PASSWORD": SECRET}
    for name in names:
        (tmp_path / name).touch()
        environ[f"AUDIT_KAFKA_SECURITY_{name}_FILE"] = str(tmp_path / name)
    config = load_settings(environ).kafka_client_config()
    assert {key: config[key] for key in names.values()} == {key: str(tmp_path / name) for name, key in names.items()}
    assert config["ssl.key.password"] == SECRET
    (tmp_path / "CA").unlink()
    assert "AUDIT_KAFKA_SECURITY_CA_FILE=" in refused(**environ)


@pytest.mark.parametrize("variable", [each for each in {**OAUTH, **SCRAM} if each != "AUDIT_KAFKA_SECURITY_PROTOCOL"])
def test_what_belongs_together(variable: str) -> None:
    """Each part that is missing is named, but for the scope, which is optional."""
    for whole in (OAUTH, SCRAM):
        environ = {name: text for name, text in whole.items() if name != variable}
        if variable.endswith("_SCOPE") or variable not in whole:
            load_settings(environ)
        else:
            assert refused(**environ).startswith(f"{variable}: must be set for ")


def test_authentication_and_encryption_are_never_dropped_silently(tmp_path: Path) -> None:
    """A password without SASL, a certificate authority without TLS."""
    (tmp_path / "ca.pem").touch()
    text = refused(**{**SCRAM, "AUDIT_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, AUDIT_KAFKA_SECURITY_CA_FILE=str(tmp_path / "ca.pem"))
    assert [line.split(":")[0].removeprefix("AUDIT_KAFKA_SECURITY_") for line in text.splitlines()] == [
        "CA_FILE",
        "SASL_MECHANISM",
        "SASL_PASSWORD",
        "SASL_USERNAME",
    ]
    (tmp_path / "cert.pem").touch()
    text = refused(AUDIT_KAFKA_SECURITY_PROTOCOL="SSL", AUDIT_KAFKA_SECURITY_CERTIFICATE_FILE=str(tmp_path / "cert.pem"))
    assert text.startswith("AUDIT_KAFKA_SECURITY_KEY_FILE: must be set with")


def test_what_a_command_needs() -> None:
    """The error names the variable and shows an example."""
    settings = load_settings({})
    with pytest.raises(SettingsError, match=r"AUDIT_KAFKA_BOOTSTRAP_SERVERS.*localhost:9092"):
        settings.require_kafka()
    with pytest.raises(SettingsError, match=r"AUDIT_DATABASE_URL.*postgresql://"):
        settings.require_database()
    settings = load_settings({"AUDIT_KAFKA_BOOTSTRAP_SERVERS": "k:1", "AUDIT_DATABASE_URL": "postgres://h/d"})
    settings.require_kafka()
    settings.require_database()


def test_the_table_is_whole_and_its_defaults_are_true() -> None:
    """Each default, set by hand, changes nothing."""
    rows = {variable: (default, meaning) for variable, default, meaning in settings_table()}
    assert all(meaning.endswith(".") for _, meaning in rows.values())
    given = {variable: default for variable, (default, _) in rows.items() if default != "unset"}
    assert load_settings(given) == load_settings({})
    assert rows["AUDIT_KAFKA_SESSION_TIMEOUT"][0] == "45s"
    assert "AUDIT_DATABASE_URL_FILE" in rows["AUDIT_DATABASE_URL"][1]


REGISTRY = {"AUDIT_SCHEMA_REGISTRY_URL": "https://one:8081/api, https://two:8081"}


def test_the_registry_s_client_is_told_what_is_set(tmp_path: Path) -> None:
    """Under the client's names; nothing that is not set."""
    assert load_settings({}).schema_registry_url is None
    assert load_settings(REGISTRY).schema_registry_config() == {"url": "https://one:8081/api,https://two:8081"}
    file = tmp_path / "pem"
    file.touch()
    files = {f"AUDIT_SCHEMA_REGISTRY_{name}_FILE": str(file) for name in ("CA", "CERTIFICATE", "KEY")}
    basic = {"AUDIT_SCHEMA_REGISTRY_USERNAME": "audit", "AUDIT_SCHEMA_REGISTRY_PASSWORD": SECRET}
    settings = load_settings({**REGISTRY, **files, **basic, "AUDIT_SCHEMA_REGISTRY_KEY_PASSWORD": "k"})
    assert SECRET not in repr(settings)
    assert settings.schema_registry_config() == {
        "url": "https://one:8081/api,https://two:8081",
        "basic.auth.user.info": f"audit:{SECRET}",
        "ssl.ca.location": str(file),
        "ssl.certificate.location": str(file),
        "ssl.key.location": str(file),
        "ssl.key.password": "k",
    }
    bearer = load_settings({**REGISTRY, "AUDIT_SCHEMA_REGISTRY_TOKEN": SECRET}).schema_registry_config()
    assert bearer == {
        "url": "https://one:8081/api,https://two:8081",
        "bearer.auth.credentials.source": "STATIC_TOKEN",
        "bearer.auth.token": SECRET,
        "bearer.auth.logical.cluster": "",
    }


@pytest.mark.parametrize("url", ["registry:8081", "ftp://h", "https://", "https://u@h", "https://h?x=1", "https://h,", "mock://h"])
def test_addresses_of_no_registry(url: str) -> None:
    """Said before the client would."""
    assert "needs http or https URLs" in refused(AUDIT_SCHEMA_REGISTRY_URL=url)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"USERNAME": "u"}, "AUDIT_SCHEMA_REGISTRY_PASSWORD: must be set with AUDIT_SCHEMA_REGISTRY_USERNAME"),
        ({"PASSWORD": SECRET}, "AUDIT_SCHEMA_REGISTRY_USERNAME: must be set with AUDIT_SCHEMA_REGISTRY_PASSWORD"),
        ({"USERNAME": "u:v", "PASSWORD": SECRET}, "AUDIT_SCHEMA_REGISTRY_USERNAME=u:v: String should match pattern '^[^:]+$'"),
        ({"CLUSTER": "lsrc-1"}, "AUDIT_SCHEMA_REGISTRY_CLUSTER: has no use without AUDIT_SCHEMA_REGISTRY_TOKEN"),
        (
            {"USERNAME": "u", "PASSWORD": SECRET, "TOKEN": SECRET},
            "AUDIT_SCHEMA_REGISTRY_TOKEN: AUDIT_SCHEMA_REGISTRY_USERNAME is set too; keep one of them",
        ),
        ({"KEY_FILE": __file__}, "AUDIT_SCHEMA_REGISTRY_CERTIFICATE_FILE: must be set with AUDIT_SCHEMA_REGISTRY_KEY_FILE"),
        ({"KEY_PASSWORD": SECRET}, "AUDIT_SCHEMA_REGISTRY_KEY_PASSWORD: has no use without AUDIT_SCHEMA_REGISTRY_KEY_FILE"),
        (
            {"URL": "http://h", "CA_FILE": __file__},
            "AUDIT_SCHEMA_REGISTRY_CA_FILE: has no use without TLS; let AUDIT_SCHEMA_REGISTRY_URL begin with https",
        ),
        *(
            (
                {"TOKEN": text},
                "AUDIT_SCHEMA_REGISTRY_TOKEN: holds white space, the end of a line, or what is no ASCII; a token is one word",
            )
            for text in (f" {SECRET}", f"{SECRET}\r{SECRET}", f"{SECRET}\n{SECRET}", f"{SECRET}é")
        ),
        ({"URL": "", "TOKEN": SECRET}, "AUDIT_SCHEMA_REGISTRY_TOKEN: has no use without AUDIT_SCHEMA_REGISTRY_URL"),
    ],
)
def test_contradictions_about_the_registry(names: dict[str, str], problem: str) -> None:
    """Each with the variable to change."""
    assert refused(**{**REGISTRY, **{f"AUDIT_SCHEMA_REGISTRY_{name}": text for name, text in names.items()}}) == problem


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://h/?token={SECRET}", "http://h/?token=********"),
        (f"a:9092,u:{SECRET}@h:9092", "a:9092,u:********@h:9092"),
        (f"postgresql://u:{SECRET}@h/db?sslmode=require&sslkey=/k", "postgresql://u:********@h/db?sslmode=require&sslkey=/k"),
        ("h:9092,i:9092", "h:9092,i:9092"),
    ],
)
def test_what_is_shown_of_an_address(text: str, shown: str) -> None:
    """All but a secret, wherever somebody has put it."""
    assert masked(text, secret=False) == shown
