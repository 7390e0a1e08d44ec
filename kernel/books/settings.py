"""What a tenant may set for its books, in versions that are only ever added to: the newest holds.

Whether lines are posted is no setting: a tenant asks for it here, and earns it in `stages`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kernel import chain, tenancy
from kernel.books import people
from kernel.books.holding import hold
from kernel.errors import RefusedError
from models.books import bank_accounts, books_audit, journal_entries
from models.books_learning import books_settings

_WORD = re.compile(r"[\w.+-]+")


class Settings(BaseModel):
    """Unknown fields are refused. Amounts are in units of the line's currency, whichever it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    autopost_requested: bool = False
    # None: what the certificate proves decides alone.
    threshold: Decimal | None = Field(Decimal("0.90"), ge=Decimal("0.80"), le=Decimal("0.98"))
    coldstart_min_labels: int = Field(3, ge=1, le=50)
    large_amount: Decimal = Field(Decimal(5000), ge=0, le=10**15)
    # Above it two people approve; None: one is enough for any amount.
    four_eyes_above: Decimal | None = Field(None, ge=0, le=10**15)
    llm_enabled: bool = False
    llm_tenant_cap_usd: Decimal = Field(Decimal(50), ge=0, le=10_000)
    audit_percent: Decimal = Field(Decimal(2), ge=0, le=100)
    precision_target: Decimal = Field(Decimal("0.94"), ge=Decimal("0.80"), lt=1)
    # Tenants of one pool learn together; None: from nobody else.
    pool: str | None = Field(None, min_length=1, max_length=64)


@dataclass(frozen=True, slots=True)
class Held:
    """The settings that hold, and which version of them it is; 0 while nobody set any."""

    settings: Settings
    number: int

    @property
    def version(self) -> str:
        return f"v{self.number}"


def current(connection: sa.Connection, tenant_id: UUID) -> Held:
    tenancy.service(connection, tenant_id)
    columns = books_settings.c
    newest = sa.select(columns.version, columns.payload).where(columns.tenant_id == tenant_id)
    found = connection.execute(newest.order_by(columns.version.desc()).limit(1)).one_or_none()
    return Held(Settings(**found.payload), found.version) if found else Held(Settings(), 0)


def keepers(connection: sa.Connection) -> list[tenancy.Tenant]:
    """Tenants that keep books here: those with a bank account."""
    tenancy.service(connection)
    keeping = set(connection.scalars(sa.select(bank_accounts.c.tenant_id).distinct()))
    return [tenant for tenant in tenancy.all_tenants(connection) if tenant.id in keeping]


def change(
    connection: sa.Connection,
    tenant_id: UUID,
    changes: Mapping[str, Any],
    *,
    author: str,
    reason: str,
    at: datetime,
) -> Held:
    """Adds a version with these fields changed. The author is an approver, an owner, or the platform's operator.

    Raises RefusedError, by the name of the setting and what was given, for one that is not there and a value that it does
    not take; and for fewer amounts that need two people while an entry waits for the second one.
    """
    if author != people.OPERATOR:
        author = people.approver(connection, tenant_id, author)
    hold(connection, tenant_id)
    held = current(connection, tenant_id)
    try:
        made = Settings(**(held.settings.model_dump() | dict(changes)))
    except ValidationError as error:
        raise RefusedError(_why(error, changes)) from None
    _refuse_fewer_eyes(connection, tenant_id, held.settings, made)
    payload = json.loads(made.model_dump_json())
    row = {
        "tenant_id": tenant_id, "version": held.number + 1, "payload": payload, "author": author, "reason": reason,
        "created_at": at,
    }  # fmt: skip
    connection.execute(books_settings.insert().values(row))
    changed = {name: payload[name] for name in changes}
    chain.append(
        connection, books_audit, tenant_id, "settings_changed",
        actor=author, at=at, version=held.number + 1, changed=changed, reason=reason,
    )  # fmt: skip
    return Held(made, held.number + 1)


def _refuse_fewer_eyes(connection: sa.Connection, tenant_id: UUID, before: Settings, after: Settings) -> None:
    """Who approved an entry may not do away with the second person that it waits for."""
    limit, wider = before.four_eyes_above, after.four_eyes_above
    if limit is None or (wider is not None and wider <= limit):
        return
    columns = journal_entries.c
    query = sa.select(sa.func.count()).where(columns.tenant_id == tenant_id, columns.status == "approved")
    if waiting := connection.scalar(query):
        raise RefusedError(
            f"four_eyes_above stays at {limit:f} while {waiting} {'entry waits' if waiting == 1 else 'entries wait'} for a second"
            " person: countersign or correct first (revenue-os books countersign)"
        )


def takes(name: str) -> str:
    """What a setting takes, in words such as "0.80 to 0.98"."""
    given = Settings.model_fields[name]
    if given.annotation is bool:
        return "true or false"
    bounds = {
        bound: getattr(each, bound)
        for each in given.metadata
        for bound in ("ge", "le", "lt", "min_length", "max_length")
        if hasattr(each, bound)
    }
    if "max_length" in bounds:
        told = f"{bounds['min_length']} to {bounds['max_length']} characters"
    else:
        most = _told(bounds["le"]) if "le" in bounds else f"less than {_told(bounds['lt'])}"
        told = f"{_told(bounds['ge'])} to {most}"
    return f"{told} or none" if type(None) in get_args(given.annotation) else told


def _told(bound: Decimal | int) -> str:
    return "10^15" if bound == 10**15 else f"{bound:,}"


def _why(error: ValidationError, changes: Mapping[str, Any]) -> str:
    name = str(error.errors()[0]["loc"][0])
    if name not in Settings.model_fields:
        near = difflib.get_close_matches(name, Settings.model_fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(Settings.model_fields)}"
        return f"{name!r} is no setting: {hint}"
    words = {True: "true", False: "false", None: "none"}
    given = changes[name]
    typed = words[given] if given is None or isinstance(given, bool) else str(given)
    # What would not be seen as one word is quoted.
    typed = typed if _WORD.fullmatch(typed) else repr(typed)
    return f"{name} takes {takes(name)}, not {typed}: nothing was changed"
