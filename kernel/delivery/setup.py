"""What a tenant sets before it can send: workspaces, rules of channels, provider accounts, suppressions, consents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kernel import tenancy
from kernel.errors import RefusedError
from models.delivery import (
    CHANNELS,
    CONSENT_BASES,
    SUPPRESSIONS,
    channel_policies,
    consents,
    provider_accounts,
    suppressions,
    workspaces,
)

# Of a new workspace. Whoever sends more says so.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "email": {"hourly_cap": 100, "daily_cap": 1000, "needs_unsubscribe": True},
    "sms": {"hourly_cap": 100, "daily_cap": 1000, "needs_consent": True},
    "voice": {"hourly_cap": 15, "daily_cap": 60, "needs_consent": True},
}
_RULES = (
    "hourly_cap", "daily_cap", "person_cap", "person_cap_days", "needs_consent", "needs_unsubscribe", "quiet_from",
    "quiet_until", "time_zone",
)  # fmt: skip


def workspace(connection: sa.Connection, tenant_id: UUID, name: str = "default") -> UUID:
    """The workspace of that name, made with the default rules of each channel when there is none."""
    tenancy.service(connection, tenant_id)
    row = pg.insert(workspaces).values(tenant_id=tenant_id, name=name)
    connection.execute(row.on_conflict_do_nothing())
    query = sa.select(workspaces.c.id).where(workspaces.c.tenant_id == tenant_id, workspaces.c.name == name)
    found = connection.execute(query).scalar_one()
    for channel, rules in _DEFAULTS.items():
        default = pg.insert(channel_policies).values(
            tenant_id=tenant_id, workspace_id=found, channel=channel, **rules
        )
        connection.execute(default.on_conflict_do_nothing())
    return found


def policy(
    connection: sa.Connection, tenant_id: UUID, channel: str, workspace_name: str = "default", **rules: Any
) -> None:
    """Changes rules of a channel; None takes a cap or the quiet hours away. Raises RefusedError for what cannot stand."""
    _expect_channel(channel)
    for name, value in rules.items():
        if name not in _RULES:
            raise RefusedError(f"{name} is no rule of a channel: use {', '.join(_RULES)}")
        if name.endswith("_cap") and value is not None and value < 0:
            raise RefusedError(f"{name} {value} is no cap: give a number from 0 on")
    if rules.get("time_zone", "UTC") not in available_timezones():
        raise RefusedError(f"time zone {rules['time_zone']!r} is unknown: use a name such as Europe/Berlin")
    if ("quiet_from" in rules) != ("quiet_until" in rules):
        raise RefusedError("quiet hours need both ends: give quiet_from and quiet_until")
    of = workspace(connection, tenant_id, workspace_name)
    connection.execute(
        channel_policies.update()
        .where(
            channel_policies.c.tenant_id == tenant_id, channel_policies.c.workspace_id == of,
            channel_policies.c.channel == channel,
        )
        .values(**rules, updated_at=sa.func.now())
    )  # fmt: skip


def account(
    connection: sa.Connection,
    tenant_id: UUID,
    name: str,
    *,
    channel: str,
    provider: str,
    sender: str | None = None,
    config: Mapping[str, Any] | None = None,
    secret_env: str | None = None,
    is_connected: bool = False,
    workspace_name: str = "default",
) -> UUID:
    """Adds or changes an account with a provider. The secret itself is never stored, only where to read it."""
    _expect_channel(channel)
    of = workspace(connection, tenant_id, workspace_name)
    values = {
        "sender": sender, "config": dict(config or {}), "secret_env": secret_env, "is_connected": is_connected,
        "channel": channel, "provider": provider,
    }  # fmt: skip
    row = pg.insert(provider_accounts).values(tenant_id=tenant_id, workspace_id=of, name=name, **values)
    stored = row.on_conflict_do_update(
        index_elements=["tenant_id", "name"], set_=values | {"updated_at": sa.func.now()}
    )
    return connection.execute(stored.returning(provider_accounts.c.id)).scalar_one()


def suppress(
    connection: sa.Connection,
    tenant_id: UUID,
    addresses: Iterable[str],
    *,
    reason: str,
    source: str,
    channel: str = "all",
) -> int:
    """Nobody of `addresses` is contacted on the channel any more; how many are new."""
    if reason not in SUPPRESSIONS:
        raise RefusedError(f"{reason!r} is no reason to suppress: use {', '.join(SUPPRESSIONS)}")
    if channel != "all":
        _expect_channel(channel)
    tenancy.service(connection, tenant_id)
    rows = [
        {"tenant_id": tenant_id, "channel": channel, "address": address, "reason": reason, "source": source}
        for address in sorted({normal(address) for address in addresses})
    ]  # fmt: skip
    if not rows:
        return 0
    stored = pg.insert(suppressions).on_conflict_do_nothing().returning(suppressions.c.address)
    return len(connection.execute(stored, rows).all())


def consent(
    connection: sa.Connection,
    tenant_id: UUID,
    addresses: Iterable[str],
    *,
    channel: str,
    basis: str,
    source: str,
    at: datetime,
) -> int:
    """Keeps on which basis people are contacted; how many that are."""
    _expect_channel(channel)
    if basis not in CONSENT_BASES:
        raise RefusedError(f"{basis!r} is no basis of consent: use {', '.join(CONSENT_BASES)}")
    tenancy.service(connection, tenant_id)
    rows = [
        {
            "tenant_id": tenant_id, "channel": channel, "address": address, "basis": basis, "source": source,
            "recorded_at": at,
        }
        for address in sorted({normal(address) for address in addresses})
    ]  # fmt: skip
    if not rows:
        return 0
    stored = pg.insert(consents)
    said = {name: stored.excluded[name] for name in ("basis", "source", "recorded_at")}
    keys = ["tenant_id", "channel", "address"]
    connection.execute(stored.on_conflict_do_update(index_elements=keys, set_=said), rows)
    return len(rows)


def normal(address: str) -> str:
    """An address or number as `delivery.normal_address` in the database writes it."""
    text = address.strip()
    if "@" in text:
        return text.lower()
    digits = "".join(character for character in text if character not in "().-" and not character.isspace())
    return f"+{digits[2:]}" if digits.startswith("00") else digits


def _expect_channel(channel: str) -> None:
    if channel not in CHANNELS:
        raise RefusedError(f"channel {channel!r} cannot be sent on: use {', '.join(CHANNELS)}")
