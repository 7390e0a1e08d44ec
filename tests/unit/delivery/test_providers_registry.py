"""Accounts and providers: what an account needs, that none is forgotten, and what the reference says of them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kernel.delivery import providers
from kernel.delivery.providers import registry
from kernel.delivery.providers.adapter import Adapter
from kernel.errors import RefusedError
from models.delivery import PROVIDERS as NAMES

REFERENCE = Path(__file__).resolve().parents[3] / "docs/reference/providers.md"
CONFIGS: dict[str, dict[str, Any]] = {
    "smtp": {"host": "mail.example.com"},
    "resend": {},
    "twilio": {"account_sid": "AC0123"},
    "vapi": {"assistant_id": "a", "phone_number_id": "p"},
    "webhook": {"url": "https://example.com/hook"},
    "file": {"folder": "/var/lib/messages"},
    "simulator": {"base_url": "http://127.0.0.1:8025"},
    "memory": {},
}
ENVIRON = {"KEY": "s3cret-key", "HOOK": "whsec_aGVsbG8=", "BROKEN": "whsec_?", "LINES": "a\nb", "EMPTY": " "}


@dataclass(frozen=True)
class Account:
    provider: str
    config: dict[str, Any] = field(default_factory=dict)
    channel: str = "email"
    sender: str | None = "Acme <news@acme.example>"
    secret_env: str | None = "KEY"


def account(name: str, **changes: Any) -> Account:
    channel = registry.PROVIDERS[name].channels[0]
    sender = "+15550000000" if channel != "email" else "Acme <news@acme.example>"
    config = CONFIGS[name] | changes.pop("config", {})
    return Account(name, config, **({"channel": channel, "sender": sender} | changes))


def adapters() -> set[type[Adapter]]:
    """Every adapter that stands in a file of the package, whether or not it is registered."""
    found = set()
    for module in pkgutil.iter_modules(providers.__path__):
        content = importlib.import_module(f"{providers.__name__}.{module.name}")
        found |= {
            kind
            for _, kind in inspect.getmembers(content, inspect.isclass)
            if issubclass(kind, Adapter) and kind is not Adapter and kind.__module__ == content.__name__
        }
    return found


def test_every_adapter_is_registered_under_a_name_of_the_model():
    assert set(registry.PROVIDERS.values()) == adapters()
    assert tuple(registry.PROVIDERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_complete_account_becomes_its_provider(name: str):
    assert registry.problems(account(name), ENVIRON) == []
    made = registry.make(account(name), ENVIRON)
    assert type(made) is registry.PROVIDERS[name]
    assert made.capabilities.wave >= 1
    made.close()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (Account("pigeon"), ["provider"]),
        (account("resend", channel="sms"), ["channel"]),
        (account("resend", sender=None), ["sender"]),
        (account("resend", sender="nobody"), ["sender"]),
        (account("smtp", sender="a@b.c\r\nBcc: d@e.f"), ["sender"]),
        (account("twilio", sender="Acme"), ["sender"]),
        (account("resend", secret_env=None), ["credentials"]),
        (account("resend", secret_env="NOT_SET"), ["credentials"]),
        (account("resend", secret_env="EMPTY"), ["credentials"]),
        (account("resend", secret_env="LINES"), ["credentials"]),
        (account("smtp", secret_env="NOT_SET"), ["credentials"]),
        (account("resend", config={"callback_secret_env": "NOT_SET"}), ["callback_credentials"]),
        (account("resend", config={"callback_secret_env": "BROKEN"}), ["callback_credentials"]),
        (account("resend", config={"base_url": "resend.com"}), ["base_url"]),
        (account("resend", config={"base_url": "https://me:pass@resend.com"}), ["base_url"]),
        (account("resend", config={"base_url": "https://h:port/"}), ["base_url"]),
        (account("resend", config={"colour": "red"}), ["config.colour"]),
        (account("resend", config={"timeout_seconds": 0}), ["timeout_seconds"]),
        (account("resend", config={"timeout_seconds": float("nan")}), ["timeout_seconds"]),
        (account("memory", config={"unsubscribe_base": "https://acme.example/u"}), []),
        (account("memory", config={"unsubscribe_base": "https://acme.example/u>,<x"}), ["unsubscribe_base"]),
        (account("twilio", config={"account_sid": "AC/../x"}), ["account_sid"]),
        (account("twilio", config={"callback_url": "https://x/c?y=1"}), ["callback_url"]),
        (account("webhook", config={"url": "file:///etc"}), ["url"]),
        (account("webhook", config={"lookup_url": "nowhere"}), ["lookup_url"]),
        (account("file", config={"folder": "messages"}), ["folder"]),
        (account("smtp", config={"tls": "none"}), ["tls"]),
        (account("smtp", config={"tls": "none"}, secret_env=None), []),
        (account("simulator", config={"account": "a/b"}), ["account"]),
        (Account("vapi", {}, "sms", secret_env=None), ["channel", "credentials", "assistant_id", "phone_number_id"]),
    ],
)  # fmt: skip
def test_what_an_account_lacks_is_named(given: Account, found: list[str]):
    assert registry.problems(given, ENVIRON) == found
    if found:
        with pytest.raises(RefusedError) as refused:
            registry.make(given, ENVIRON)
        assert all(name in str(refused.value) for name in found)
        assert "pass" not in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_an_account_made_into_a_provider_shows_no_secret(name: str):
    made = registry.make(account(name, config={"callback_secret_env": "HOOK"}), ENVIRON)
    assert not any(
        secret in f"{made!r}{made.capabilities!r}{made!s}" for secret in (ENVIRON["KEY"], ENVIRON["HOOK"])
    )


@pytest.mark.parametrize(
    ("config", "keys", "lookup"),
    [
        ({}, False, False),
        ({"honours_keys": True, "key_hours": 48}, True, False),
        ({"lookup_url": "https://example.com/messages"}, False, True),
    ],
)
def test_a_webhook_can_do_what_its_owner_says(config: dict[str, Any], keys: bool, lookup: bool):
    can = registry.make(account("webhook", config=config), ENVIRON).capabilities
    assert (can.key_window is not None, can.lookup) == (keys, lookup)


def test_callbacks_are_promised_only_where_they_can_be_checked():
    assert not registry.make(account("resend"), ENVIRON).capabilities.callback
    with_secret = account("resend", config={"callback_secret_env": "HOOK"})
    assert registry.make(with_secret, ENVIRON).capabilities.callback


# The reference ---------------------------------------------------------------------------------------------------


def rows(title: str) -> dict[str, list[str]]:
    table = REFERENCE.read_text(encoding="utf-8").split(title)[1].split("\n\n")[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "`" in line
    ]
    return {re.findall("`([a-z]+)`", line[0])[0]: line[1:] for line in lines}


def test_the_table_of_capabilities_is_what_the_adapters_say():
    found = {}
    for name, kind in registry.PROVIDERS.items():
        can = kind.capabilities
        hours = can.key_window.total_seconds() / 3600 if can.key_window else 0
        keys = "-" if not hours else "for ever" if hours > 24 * 365 else f"{hours:.0f} h"
        found[name] = [
            ", ".join(kind.channels) if len(kind.channels) < 3 else "all",
            keys,
            "yes" if can.lookup else "-",
            "yes" if can.callback else "-",
            *(str(number) for number in (can.batch, can.wave, can.concurrency)),
        ]
    assert rows("| Provider | Channels |") == found


def test_every_key_of_a_config_is_described():
    text = REFERENCE.read_text(encoding="utf-8")
    for name, kind in registry.PROVIDERS.items():
        section = text.split(f"### {name}\n")[1].split("\n#")[0]
        own = set(kind.Config.model_fields) - set(Adapter.Config.model_fields)
        described = set(re.findall(r"^\| `([a-z_]+)` \|", section, flags=re.MULTILINE))
        assert described == own, name
    common = text.split("## Config keys")[1].split("\n###")[0]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", common, flags=re.MULTILINE)) == set(
        Adapter.Config.model_fields
    )
