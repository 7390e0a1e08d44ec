"""Providers by name, and an account made into one. A new provider is one file, one line here, and a word in the model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from pydantic import ValidationError

from kernel.delivery.providers.adapter import Adapter, Config, is_plain, utc_now
from kernel.delivery.providers.file import File
from kernel.delivery.providers.memory import Memory
from kernel.delivery.providers.resend import Resend
from kernel.delivery.providers.simulated import Simulated
from kernel.delivery.providers.smtp import Smtp
from kernel.delivery.providers.twilio import Twilio
from kernel.delivery.providers.vapi import Vapi
from kernel.delivery.providers.webhook import Webhook
from kernel.errors import RefusedError

PROVIDERS: dict[str, type[Adapter]] = {
    "smtp": Smtp,
    "resend": Resend,
    "twilio": Twilio,
    "vapi": Vapi,
    "webhook": Webhook,
    "file": File,
    "simulator": Simulated,
    "memory": Memory,
}


class Account(Protocol):
    """A row of delivery.provider_accounts, as far as a provider is concerned."""

    @property
    def provider(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def sender(self) -> str | None: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def secret_env(self) -> str | None: ...


def make(
    account: Account, environ: Mapping[str, str] = os.environ, clock: Callable[[], datetime] = utc_now
) -> Adapter:  # fmt: skip
    """The account as a provider, to be closed after use. Raises RefusedError naming what `problems` finds."""
    if found := problems(account, environ):
        raise RefusedError(
            f"the {account.provider} account cannot be used: {', '.join(found)};"
            " see docs/reference/providers.md for what each of them wants"
        )
    kind = PROVIDERS[account.provider]
    config, _ = _config(kind, account.config)
    secret, callback_secret = _secrets(account, config, environ)
    return kind(config, secret=secret, callback_secret=callback_secret, clock=clock)


def problems(account: Account, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Why the account cannot be used, one word each; empty when it can.

    `provider`, `channel`, `sender`, `credentials`, `callback_credentials`, the key of `config` that is wrong or missing,
    or `config.<key>` for one that is unknown.
    """
    kind = PROVIDERS.get(account.provider)
    if kind is None:
        return ["provider"]
    found = []
    if account.channel not in kind.channels:
        found.append("channel")
    if kind.sender is not None and kind.sender.fullmatch(account.sender or "") is None:
        found.append("sender")
    config, wrong = _config(kind, account.config)
    secret, callback_secret = _secrets(account, config, environ)
    is_wanted = kind.needs_secret or account.secret_env is not None
    if (is_wanted and not secret) or not is_plain(secret):
        found.append("credentials")
    is_wanted = config is not None and config.callback_secret_env is not None
    if (is_wanted and not callback_secret) or not is_plain(callback_secret):
        found.append("callback_credentials")
    found += wrong
    if config is not None and not {"credentials", "callback_credentials"} & set(found):
        found += kind.wants(config, secret, callback_secret)
    return found


def _config(kind: type[Adapter], given: Mapping[str, Any]) -> tuple[Config | None, list[str]]:
    try:
        return kind.Config.model_validate(dict(given)), []
    except ValidationError as error:
        return None, sorted(
            {
                f"config.{at['loc'][0]}" if at["type"] == "extra_forbidden" else str(at["loc"][0])
                for at in error.errors(include_input=False, include_url=False)
            }
        )


def _secrets(account: Account, config: Config | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """The two secrets, without the line break that ends a file they were read from; empty for one that is not there."""
    names = (account.secret_env, config.callback_secret_env if config else None)
    secret, callback_secret = (environ.get(name, "").strip() if name else "" for name in names)
    return secret, callback_secret
