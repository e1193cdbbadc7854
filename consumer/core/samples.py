"""Realistic events of every change type, the same for the same seed."""

from collections.abc import Iterator
from random import Random
from typing import Any

from consumer.core.actions import ACTIONS, RESULTS, TARGETS
from consumer.core.canonical import timestamp_text

_TENANTS = ("acme", "globex", "initech", "hoshi-shoji")
_ACTORS = ("sato", "suzuki", "tanaka", "m.garcia", "j.doe", "admin@example.com")
_CLIENTS = ("Reporting", "Payroll sync", "Expense bot", "Data warehouse", "経費精算")
_SERVICES = ("Box", "Slack", "Microsoft Teams", "Google Workspace", "Zendesk")
_SCOPES = ("k:app_record:read", "k:app_record:write", "k:app_settings:read", "k:file:write")
_TOKEN_SCOPES = ("Read", "Read and Write")
_ERRORS = ("CB_NO02", "CB_IJ01", "GAIA_IL26")
_MINUTE = 60_000_000
_YEAR = 365 * 24 * 60 * _MINUTE


def sample_events(count: int, *, seed: int, now: int) -> Iterator[dict[str, Any]]:
    """`count` events in the contract's JSON form, each type in its turn, all before `now` (microseconds since 1970)."""
    random = Random(seed)  # noqa: S311 - samples, not secrets
    for number in range(count):
        moment = now - (count - number) * random.randint(1_000, 5_000)
        result = random.choices(list(RESULTS), (18, 1, 1))[0]
        event: dict[str, Any] = {
            "event_id": _uuid7(random, moment),
            "occurred_at": timestamp_text(moment),
            "tenant": random.choice(_TENANTS),
            "actor": random.choice((*_ACTORS, None)),
            "source_ip": random.choice((f"192.0.2.{random.randint(1, 254)}", f"2001:db8::{random.randint(1, 65535):x}", None)),
            "result": result,
            "change": _change(ACTIONS[number % len(ACTIONS)].change_type, random, moment),
        }
        if result != "SUCCESS":
            event["error_code"] = random.choice(_ERRORS)
        yield event


def _uuid7(random: Random, micros: int) -> str:
    value = (micros // 1000) << 80 | 0x7 << 76 | random.getrandbits(12) << 64 | 0b10 << 62 | random.getrandbits(62)
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _change(kind: str, random: Random, moment: int) -> dict[str, Any]:
    change: dict[str, Any] = {"type": kind}
    if kind.startswith("OAuthClient"):
        change |= {"client_name": random.choice(_CLIENTS), "client_id": _identifier(random)}
    elif kind == "SlackSettingUpdated":
        change["enabled"] = random.random() < 0.5
    elif kind.startswith("ApiToken"):
        change["token_id"] = str(random.randint(1, 9_999))
        if kind == "ApiTokenGenerated":
            end = None if random.random() < 0.3 else timestamp_text(moment + _YEAR)
            change |= {
                "scope": [random.choice(_TOKEN_SCOPES)],
                "validity": {"start": timestamp_text(moment), "end": end},
            }
    else:
        variant = random.choice(list(TARGETS))
        name = random.choice(_SERVICES if variant == "ExternalService" else _CLIENTS)
        change["target"] = {"type": variant, "name": name, "id": _identifier(random)}
        if kind == "IntegrationAuthorized":
            change["scopes"] = random.sample(_SCOPES, random.randint(1, len(_SCOPES)))
    return change


def _identifier(random: Random) -> str:
    return f"l.1.{random.getrandbits(64):016x}"
