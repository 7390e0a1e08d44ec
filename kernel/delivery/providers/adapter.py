"""What every adapter is made of: its settings, its secrets, and answers for what a provider cannot do."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from kernel.delivery.providers import signatures
from kernel.delivery.providers.base import BadCallback, Capabilities, Event, LookupFailed, Message, Outcome
from kernel.http import is_address
from models.delivery import CHANNELS

# What people may be shown as the sender: an address, also behind a name, or a number with its country.
EMAIL_SENDER = re.compile(r"(?:[^<>\r\n]{0,200}<)?[^\s@<>]+@[^\s@<>]+\.[^\s@<>]+>?")
PHONE = re.compile(r"\+[1-9][0-9]{6,14}")


def is_plain(secret: str) -> bool:
    return re.fullmatch("[ -~]*", secret) is not None and secret == secret.strip()


def utc_now() -> datetime:
    return datetime.now(UTC)


class Config(BaseModel):
    """The keys of an account's `config`. Secrets are never among them; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_seconds: float = Field(30, gt=0, le=120, allow_inf_nan=False)
    # The environment variable with the secret of callbacks, where it is another one than that of calls.
    callback_secret_env: str | None = None
    # Of the account, not of the provider: where a link to unsubscribe leads, without a query.
    unsubscribe_base: str | None = Field(None, pattern=r"^https?://[^\s?#<>]+$")

    @property
    def timeout(self) -> timedelta:
        return timedelta(seconds=self.timeout_seconds)


class Adapter(ABC):
    """The base of providers. A provider that looks up or takes callbacks says so in `capabilities` and overrides it."""

    Config: ClassVar[type[Config]] = Config
    channels: ClassVar[tuple[str, ...]] = CHANNELS
    needs_secret: ClassVar[bool] = False
    sender: ClassVar[re.Pattern[str] | None] = None

    capabilities: Capabilities

    def __init__(
        self,
        config: Any,
        *,
        secret: str = "",
        callback_secret: str = "",
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Raises ValueError for an address of a service, or for a secret, that cannot be used."""
        if not (is_plain(secret) and is_plain(callback_secret)):
            raise ValueError("a secret holds characters that no header takes")
        self._config, self._clock = config, clock
        self._secret, self._callback_secret = secret, callback_secret

    @abstractmethod
    def send(self, messages: Sequence[Message], key: str) -> Sequence[Outcome]:
        """As the port's."""

    def lookup(self, message: Message, key: str) -> Outcome | None:
        raise LookupFailed("this provider cannot be asked for a message by our reference")

    def events(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Sequence[Event]:
        raise BadCallback("this account takes no callbacks")

    def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Lets go of connections."""

    @classmethod
    def wants(cls, config: Any, secret: str, callback_secret: str) -> list[str]:
        """Reasons, beyond wrong keys, why an account cannot be used with these settings."""
        found = []
        if (url := getattr(config, "base_url", None)) is not None and not is_address(url):
            found.append("base_url")
        if callback_secret and not signatures.is_usable(callback_secret):
            found.append("callback_credentials")
        return found
