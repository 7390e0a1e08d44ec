"""What a tenant sets before it can send: workspaces, rules of channels, provider accounts, suppressions, consents,
addresses for tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
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
    seeds,
    suppressions,
    workspaces,
)
from models.spine import spine_contacts, tenants

# Of a new workspace. Whoever sends more says so.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "email": {"hourly_cap": 100, "daily_cap": 1000, "needs_unsubscribe": True},
    "sms": {"hourly_cap": 100, "daily_cap": 1000, "needs_consent": True},
    "voice": {"hourly_cap": 15, "daily_cap": 60, "needs_consent": True},
}
MOST_SEEDS = 20  # of a channel
_DIGITS = (12, 8)  # of a price, before and after the point
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
    unit_price: Decimal | None = None,
    price_currency: str | None = None,
    workspace_name: str = "default",
) -> UUID:
    """Adds or changes an account with a provider. The secret itself is never stored, only where to read it.

    `unit_price` is what one message or call costs, in the tenant's currency unless said otherwise; None where nobody knows.
    """
    _expect_channel(channel)
    if unit_price is not None:
        price_currency = _currency(connection, tenant_id, unit_price, price_currency)
    of = workspace(connection, tenant_id, workspace_name)
    values = {
        "sender": sender, "config": dict(config or {}), "secret_env": secret_env, "is_connected": is_connected,
        "channel": channel, "provider": provider, "unit_price": unit_price,
        "price_currency": None if unit_price is None else price_currency,
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
    """Nobody of `addresses` is contacted on the channel any more; how many are new.

    Raises RefusedError, with none of them kept, for what is no address: it would keep nobody from anything.
    """
    if reason not in SUPPRESSIONS:
        raise RefusedError(f"{reason!r} is no reason to suppress: use {', '.join(SUPPRESSIONS)}")
    if channel != "all":
        _expect_channel(channel)
    rows = [
        {"tenant_id": tenant_id, "channel": channel, "address": address, "reason": reason, "source": source}
        for address in reachable(connection, tenant_id, addresses, channel)
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
    """Keeps on which basis people are contacted; how many that are. Raises RefusedError for what is no address."""
    _expect_channel(channel)
    if basis not in CONSENT_BASES:
        raise RefusedError(f"{basis!r} is no basis of consent: use {', '.join(CONSENT_BASES)}")
    rows = [
        {
            "tenant_id": tenant_id, "channel": channel, "address": address, "basis": basis, "source": source,
            "recorded_at": at,
        }
        for address in reachable(connection, tenant_id, addresses, channel)
    ]  # fmt: skip
    if not rows:
        return 0
    stored = pg.insert(consents)
    said = {name: stored.excluded[name] for name in ("basis", "source", "recorded_at")}
    keys = ["tenant_id", "channel", "address"]
    connection.execute(stored.on_conflict_do_update(index_elements=keys, set_=said), rows)
    return len(rows)


def add_seeds(
    connection: sa.Connection, tenant_id: UUID, addresses: Iterable[str], *, channel: str, actor: str
) -> int:
    """Addresses of the tenant's own that tests may go to; how many are new.

    Raises RefusedError for one that cannot be sent to, for a contact's, as a test is never a message to them, and for
    more of a channel than MOST_SEEDS.
    """
    _expect_channel(channel)
    given = reachable(connection, tenant_id, addresses, channel)
    if theirs := contacts_among(connection, tenant_id, given, channel=channel):
        raise RefusedError(f"{theirs[0]} is a contact of the tenant: a test goes to addresses of your own")
    rows = [
        {"tenant_id": tenant_id, "channel": channel, "address": address, "added_by": actor} for address in given
    ]  # fmt: skip
    if not rows:
        return 0
    one_at_a_time(connection, tenant_id)
    stored = pg.insert(seeds).on_conflict_do_nothing().returning(seeds.c.address)
    new = len(connection.execute(stored, rows).all())
    of = (seeds.c.tenant_id == tenant_id, seeds.c.channel == channel)
    if connection.execute(sa.select(sa.func.count()).select_from(seeds).where(*of)).scalar_one() > MOST_SEEDS:
        raise RefusedError(
            f"the seed list of {channel} takes {MOST_SEEDS} addresses: take some away with campaign seeds --remove"
        )
    return new


def remove_seeds(
    connection: sa.Connection, tenant_id: UUID, addresses: Iterable[str], *, channel: str
) -> int:
    """Takes addresses off the list of those that tests may go to; how many were on it."""
    given = normal(connection, tenant_id, addresses)
    of = (seeds.c.tenant_id == tenant_id, seeds.c.channel == channel, seeds.c.address.in_(given))
    return connection.execute(seeds.delete().where(*of)).rowcount


def contacts_among(
    connection: sa.Connection, tenant_id: UUID, addresses: Iterable[str], *, channel: str
) -> list[str]:
    """Those of `addresses`, which are normal ones, that reach a contact of the tenant, ann+news@x.co as ann@x.co."""
    column = spine_contacts.c.email if channel == "email" else spine_contacts.c.phone
    their = _mailbox(sa.func.delivery.normal_address(column))
    theirs = sa.select(their).where(spine_contacts.c.tenant_id == tenant_id, column.is_not(None))
    each = _column(list(addresses))
    return list(
        connection.execute(sa.select(each).where(_mailbox(each).in_(theirs)).order_by(each)).scalars()
    )


def one_at_a_time(connection: sa.Connection, tenant_id: UUID) -> None:
    """Until the transaction ends nobody else counts the seeds and tests of the tenant."""
    key = sa.func.hashtextextended(f"tests {tenant_id}", 0)
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def normal(connection: sa.Connection, tenant_id: UUID, addresses: Iterable[str]) -> list[str]:
    """Addresses and numbers as they are kept and compared, each once; the database alone knows how that is.

    Raises RefusedError for a domain that mail servers write in another way: nothing would ever be sent to it so.
    """
    tenancy.service(connection, tenant_id)
    # NUL is in no address, and no text of the database holds it.
    each = _column([address.replace("\0", "") for address in addresses])
    of = sa.select(sa.func.delivery.normal_address(each).label("address")).distinct().subquery()
    query = sa.select(of.c.address).where(of.c.address.is_not(None)).order_by(of.c.address)
    found = list(connection.execute(query).scalars())
    for address in found:
        if "@" in address and not address.rpartition("@")[2].isascii():
            raise RefusedError(f"{address} has a domain that mail servers write otherwise: give it as xn--…")
    return found


def reachable(
    connection: sa.Connection, tenant_id: UUID, addresses: Iterable[str], channel: str
) -> list[str]:
    """As `normal`, of the channel. Raises RefusedError for the first that a launch would take for none, as it was given."""
    written = [address.replace("\0", "") for address in addresses]
    given = normal(connection, tenant_id, written)
    each = _column(written)
    kinds = ("email", "sms") if channel == "all" else (channel,)
    are_none = (~sa.func.delivery.is_address(kind, sa.func.delivery.normal_address(each)) for kind in kinds)
    strange = connection.execute(sa.select(each).where(*are_none).order_by(each).limit(1)).scalar()
    if strange is None:
        return given
    how = {
        "email": "the address alone, as ann@x.co",
        "all": "one alone, as ann@x.co, or a number as +4930123456",
    }
    told = how.get(channel, "the number with its country, as +4930123456")
    raise RefusedError(f"{strange} is no address of {channel}: write {told}")


def _mailbox(address: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Without what stands behind a plus: most servers put both into one mailbox. Numbers are left as they are."""
    return sa.func.regexp_replace(address, "^([^@+]+)[+][^@]*@", r"\1@")


def _currency(connection: sa.Connection, tenant_id: UUID, price: Decimal, given: str | None) -> str:
    if not price.is_finite() or price < 0:
        raise RefusedError(f"{price} is no price: give a number from 0 on")
    before, after = _DIGITS
    if price.adjusted() >= before or int(price.as_tuple().exponent) < -after:
        raise RefusedError(
            f"the price is written too long: give at most {before} digits before and {after} after the point"
        )
    if given is not None and re.fullmatch("[A-Z]{3}", given) is None:
        raise RefusedError(f"{given!r} is no currency: write it as EUR")
    tenancy.service(connection, tenant_id)
    of_tenant = sa.select(tenants.c.default_currency).where(tenants.c.id == tenant_id)
    return given or connection.execute(of_tenant).scalar_one()


def _column(texts: list[str]) -> sa.ColumnElement[str]:
    return sa.func.unnest(sa.cast(texts, pg.ARRAY(sa.Text))).column_valued("each")


def _expect_channel(channel: str) -> None:
    if channel not in CHANNELS:
        raise RefusedError(f"channel {channel!r} cannot be sent on: use {', '.join(CHANNELS)}")
