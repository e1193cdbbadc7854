"""Settings that contradict each other. By their texts, so that this is said beside the errors in single values."""

import re
from collections.abc import Iterator, Mapping

from consumer.setting_sources import PREFIX

_PROTOCOL = f"{PREFIX}KAFKA_SECURITY_PROTOCOL"
_MECHANISM = f"{PREFIX}KAFKA_SECURITY_SASL_MECHANISM"
_PASSWORD = (f"{PREFIX}KAFKA_SECURITY_SASL_USERNAME", f"{PREFIX}KAFKA_SECURITY_SASL_PASSWORD")
_OAUTH = tuple(f"{PREFIX}KAFKA_SECURITY_OAUTH_{name}" for name in ("TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET"))
_CERTIFICATE, _KEY = f"{PREFIX}KAFKA_SECURITY_CERTIFICATE_FILE", f"{PREFIX}KAFKA_SECURITY_KEY_FILE"
_TLS = (f"{PREFIX}KAFKA_SECURITY_CA_FILE", _CERTIFICATE, _KEY)
_REGISTRY = f"{PREFIX}SCHEMA_REGISTRY_URL"
_USER, _USER_PASSWORD, _TOKEN, _CLUSTER = (f"{PREFIX}SCHEMA_REGISTRY_{name}" for name in ("USERNAME", "PASSWORD", "TOKEN", "CLUSTER"))
_REGISTRY_CA, _REGISTRY_CERTIFICATE, _REGISTRY_KEY, _REGISTRY_KEY_PASSWORD = (
    f"{PREFIX}SCHEMA_REGISTRY_{name}" for name in ("CA_FILE", "CERTIFICATE_FILE", "KEY_FILE", "KEY_PASSWORD")
)
_ONE_WORD = re.compile(r"[\x21-\x7e]+").fullmatch
_REGISTRY_TLS = (_REGISTRY_CA, _REGISTRY_CERTIFICATE, _REGISTRY_KEY, _REGISTRY_KEY_PASSWORD)


def contradictions(texts: Mapping[str, str]) -> Iterator[str]:
    """Each with the variable to change; `texts` are those that are set."""
    protocol = texts.get(_PROTOCOL, "PLAINTEXT").upper()
    yield from _sasl(texts, protocol)
    yield from _tls(texts, protocol)
    yield from _schema_registry(texts)


def _sasl(texts: Mapping[str, str], protocol: str) -> Iterator[str]:
    mechanism = texts.get(_MECHANISM, "").upper()
    if protocol.startswith("SASL_"):
        if not mechanism:
            yield f"{_MECHANISM}: must be set for {protocol}, such as to SCRAM-SHA-512"
            return
        for variable in _OAUTH if mechanism == "OAUTHBEARER" else _PASSWORD:
            if variable not in texts:
                yield f"{variable}: must be set for {mechanism}"
    elif protocol in ("PLAINTEXT", "SSL"):
        # Left alone, this would talk to the broker without the authentication that was meant.
        for variable in (_MECHANISM, *_PASSWORD, *_OAUTH):
            if variable in texts:
                yield f"{variable}: has no use without SASL; set {_PROTOCOL} to SASL_SSL"


def _tls(texts: Mapping[str, str], protocol: str) -> Iterator[str]:
    if protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
        # Left alone, this would talk in the clear where encryption was meant.
        for variable in _TLS:
            if variable in texts:
                yield f"{variable}: has no use without TLS; set {_PROTOCOL} to SSL or SASL_SSL"
    yield from _together(texts, _CERTIFICATE, _KEY)


def _schema_registry(texts: Mapping[str, str]) -> Iterator[str]:
    if _REGISTRY not in texts:
        for variable in (_USER, _USER_PASSWORD, _TOKEN, _CLUSTER, *_REGISTRY_TLS):
            if variable in texts:
                yield f"{variable}: has no use without {_REGISTRY}"
        return
    if texts[_REGISTRY].lower().startswith("http:"):
        # Left alone, this would talk in the clear where encryption was meant.
        for variable in _REGISTRY_TLS:
            if variable in texts:
                yield f"{variable}: has no use without TLS; let {_REGISTRY} begin with https"
    yield from _together(texts, _USER, _USER_PASSWORD)
    yield from _together(texts, _REGISTRY_CERTIFICATE, _REGISTRY_KEY)
    if _TOKEN in texts:
        yield from _token(texts)
    for needed, variable in ((_TOKEN, _CLUSTER), (_REGISTRY_KEY, _REGISTRY_KEY_PASSWORD)):
        if variable in texts and needed not in texts:
            yield f"{variable}: has no use without {needed}"


def _token(texts: Mapping[str, str]) -> Iterator[str]:
    if not _ONE_WORD(texts[_TOKEN]):
        yield f"{_TOKEN}: holds white space, the end of a line, or what is no ASCII; a token is one word"
    if _USER in texts:
        yield f"{_TOKEN}: {_USER} is set too; keep one of them"


def _together(texts: Mapping[str, str], first: str, second: str) -> Iterator[str]:
    for one, other in ((first, second), (second, first)):
        if one in texts and other not in texts:
            yield f"{other}: must be set with {one}"
