"""Every setting of the program, read once from the environment and from `.env` beside the repository's files.

Code that needs a value asks `settings()`; nothing else reads the environment. The table for people is
docs/reference/settings.md.
"""

from __future__ import annotations

import os
import re
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.errors import RevenueOsError

if TYPE_CHECKING:
    from kernel.books.llm import Labeller
    from kernel.books.llm_budget import Limits
    from kernel.usage.telling import Teller

REPOSITORY = Path(__file__).resolve().parent.parent
PREFIX = "REVENUE_OS_"


class SettingsError(RevenueOsError):
    """A setting is unknown or has a value that cannot be used."""


def _anchored(path: Path) -> Path:
    # Every process of the program must mean the same folder, whatever its working directory is.
    return (REPOSITORY / path.expanduser()).resolve()


def _with_driver(url: str) -> str:
    from models.address import normalise

    return normalise(url)


# A folder or a file.
Place = Annotated[Path, AfterValidator(_anchored)]


class Settings(BaseSettings):
    """The settings, each under the name it has in the environment. Frozen."""

    model_config = SettingsConfigDict(
        env_file=REPOSITORY / ".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,  # compose files pass unset variables on as empty ones
        case_sensitive=True,
        extra="ignore",  # .env may speak to other programs too; our own prefix is checked in settings()
        frozen=True,
    )

    database_url: Annotated[str, AfterValidator(_with_driver)] | None = Field(
        None, validation_alias="DATABASE_URL", repr=False
    )
    home: Place = Field(Path(".revenue-os"), validation_alias="REVENUE_OS_HOME", validate_default=True)
    landing_dir: Place = Field(
        default_factory=lambda given: given["home"] / "landing", validation_alias="REVENUE_OS_LANDING_DIR"
    )
    usage_inbox: Place = Field(
        default_factory=lambda given: given["home"] / "usage" / "inbox",
        validation_alias="REVENUE_OS_USAGE_INBOX",
    )
    usage_events: Place = Field(
        default_factory=lambda given: given["home"] / "usage" / "events",
        validation_alias="REVENUE_OS_USAGE_EVENTS",
    )
    usage_archive: Place = Field(
        default_factory=lambda given: given["home"] / "usage" / "archive",
        validation_alias="REVENUE_OS_USAGE_ARCHIVE",
    )
    books_inbox: Place = Field(
        default_factory=lambda given: given["home"] / "books" / "inbox",
        validation_alias="REVENUE_OS_BOOKS_INBOX",
    )
    books_models: Place = Field(
        default_factory=lambda given: given["home"] / "books" / "models",
        validation_alias="REVENUE_OS_BOOKS_MODELS",
    )
    books_exports: Place = Field(
        default_factory=lambda given: given["home"] / "books" / "exports",
        validation_alias="REVENUE_OS_BOOKS_EXPORTS",
    )
    books_reports: Place = Field(
        default_factory=lambda given: given["home"] / "books" / "reports",
        validation_alias="REVENUE_OS_BOOKS_REPORTS",
    )
    env: Literal["local", "test", "production"] = Field("local", validation_alias="REVENUE_OS_ENV")
    app_executor: Literal["in_process", "multiprocess", "celery", "k8s"] = Field(
        "in_process", validation_alias="APP_EXECUTOR"
    )
    restate_days: int = Field(7, ge=0, le=90, validation_alias="REVENUE_OS_RESTATE_DAYS")
    partition_start: date = Field(date(2024, 1, 1), validation_alias="REVENUE_OS_PARTITION_START")

    user: str | None = Field(None, validation_alias="REVENUE_OS_USER")
    evidence_key: Place | None = Field(None, validation_alias="REVENUE_OS_EVIDENCE_KEY")
    live_email: Place | None = Field(None, validation_alias="REVENUE_OS_LIVE_EMAIL")
    live_voice: Place | None = Field(None, validation_alias="REVENUE_OS_LIVE_VOICE")

    tell_webhook: str | None = Field(None, validation_alias="REVENUE_OS_TELL_WEBHOOK", repr=False)
    tell_webhook_secret: str | None = Field(
        None, validation_alias="REVENUE_OS_TELL_WEBHOOK_SECRET", repr=False
    )
    tell_email: str | None = Field(None, validation_alias="REVENUE_OS_TELL_EMAIL")
    tell_from: str | None = Field(None, validation_alias="REVENUE_OS_TELL_FROM")
    tell_smtp: str | None = Field(None, validation_alias="REVENUE_OS_TELL_SMTP", repr=False)
    tell_smtp_password: str | None = Field(None, validation_alias="REVENUE_OS_TELL_SMTP_PASSWORD", repr=False)

    llm_url: str | None = Field(None, validation_alias="REVENUE_OS_LLM_URL")
    llm_model: str | None = Field(None, validation_alias="REVENUE_OS_LLM_MODEL")
    llm_key: str | None = Field(None, validation_alias="REVENUE_OS_LLM_KEY", repr=False)
    llm_global_cap_usd: Decimal = Field(
        Decimal(1000), ge=0, le=10**9, allow_inf_nan=False, validation_alias="REVENUE_OS_LLM_GLOBAL_CAP_USD"
    )
    llm_calls_per_line: Decimal = Field(
        Decimal("0.30"), ge=0, le=10, allow_inf_nan=False, validation_alias="REVENUE_OS_LLM_CALLS_PER_LINE"
    )

    idempotency_version: Literal["1", "2", "3"] = Field("1", validation_alias="OPSMANTIK_IDEMPOTENCY_VERSION")

    @model_validator(mode="after")
    def _telling_is_whole(self) -> Settings:
        if any(value for name, value in self if name.startswith("tell_")):
            self.tellers()
        return self

    def tellers(self) -> list[Teller]:
        """The ways by which people are told of usage. Raises ValueError for one that is half there or cannot be used."""
        from kernel.usage.tellers import Mail, Webhook

        found: list[Teller] = []
        if self.tell_webhook and self.tell_webhook_secret:
            found.append(Webhook(self.tell_webhook, self.tell_webhook_secret))
        elif self.tell_webhook or self.tell_webhook_secret:
            raise ValueError("REVENUE_OS_TELL_WEBHOOK and REVENUE_OS_TELL_WEBHOOK_SECRET are set together")
        if self.tell_email and self.tell_from and self.tell_smtp:
            to = tuple(address.strip() for address in self.tell_email.split(","))
            found.append(Mail(self.tell_smtp, self.tell_from, to, self.tell_smtp_password or ""))
        elif self.tell_email or self.tell_from or self.tell_smtp or self.tell_smtp_password:
            raise ValueError(
                "REVENUE_OS_TELL_EMAIL, REVENUE_OS_TELL_FROM and REVENUE_OS_TELL_SMTP are set together"
            )
        return found

    @model_validator(mode="after")
    def _language_model_is_whole(self) -> Settings:
        if self.llm_url or self.llm_model or self.llm_key:
            self.labeller()
        return self

    def labeller(self) -> Labeller | None:
        """The language model that may be asked about bank lines; None when nobody is. Raises ValueError as `tellers`."""
        from kernel import http
        from kernel.books.llm_openai import OpenAi

        if not self.llm_url and not self.llm_model and not self.llm_key:
            return None
        if not self.llm_url or not self.llm_model:
            raise ValueError("REVENUE_OS_LLM_URL and REVENUE_OS_LLM_MODEL are set together, and before a key")
        if not http.is_address(self.llm_url):
            raise ValueError(
                "REVENUE_OS_LLM_URL is no address of a service: write https://host/v1, without a password"
            )
        if self.llm_key and not re.fullmatch("[!-~]+", self.llm_key):
            raise ValueError("REVENUE_OS_LLM_KEY has a space or a letter in it that no key has")
        return OpenAi(self.llm_url, self.llm_model, self.llm_key or "")

    @property
    def llm_limits(self) -> Limits:
        from kernel.books.llm_budget import Limits

        return Limits(self.llm_calls_per_line, self.llm_global_cap_usd)

    @property
    def data_dir(self) -> Path:
        """Where the embedded server keeps its data; unused when DATABASE_URL is set."""
        return self.home / "postgres"


def names() -> list[str]:
    """Every setting under its name in the environment, in the order of the reference table."""
    return [str(field.validation_alias) for field in Settings.model_fields.values()]


@cache
def settings() -> Settings:
    """The settings of this process. Raises SettingsError."""
    known = names()
    given = {*os.environ, *dotenv_values(Settings.model_config["env_file"])}
    if unknown := sorted(name for name in given if name.startswith(PREFIX) and name not in known):
        raise SettingsError(
            f"There is no setting {', '.join(unknown)}: remove it, or choose among {', '.join(known)}."
        )
    try:
        return Settings()
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # What is wrong with several of them together names them itself.
        said = "; ".join(": ".join([*map(str, item["loc"]), item["msg"]]) for item in found)
        raise SettingsError(
            f"A setting in the environment or in .env cannot be used: {said}; see docs/reference/settings.md."
        ) from None
