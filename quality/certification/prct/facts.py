"""Facts and metrics of a company, written as loading and the nightly run would leave them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa

from kernel import members, tenancy
from models.actions import subsystem_settings
from models.spine import spine_campaign_channels, spine_campaigns
from quality.certification.prct.companies import AS_OF, DAYS, MORNING, Company, Figure

# Who speaks for every company: what one of them proposes, the other one agrees to.
ANA, BEN, MIA = (UUID(int=number) for number in (0xA1, 0xB1, 0xC1))
_PEOPLE = ((ANA, "Ana", "owner"), (BEN, "Ben", "approver"), (MIA, "Mia", "member"))
# Days are a little above or below the figure, so that there is noise to measure against; never on a day that is decided
# on, and those are a multiple of five days apart.
_WOBBLE = tuple(map(Decimal, ("1", "1.003", "0.998", "1.002", "0.997")))


def found(connection: sa.Connection, company: Company) -> None:
    """The company with its people, configuration, settings and channels."""
    tenancy.service(connection)
    activated = None if company.activated is None else MORNING - timedelta(days=company.activated)
    tenancy.create(
        connection, company.slug, company.slug, "USD", company.id, revenue_os_enabled=company.enabled,
        cfo_expansion_enabled=company.gates_on, revenue_os_activated_at=activated,
        config={"kernel_mode": company.kernel_mode},
    )  # fmt: skip
    tenancy.set_config(
        connection, company.id, dict(company.config), author="prct", reason="the certification's targets",
        valid_from=MORNING - timedelta(days=300),
    )  # fmt: skip
    for user_id, name, role in _PEOPLE:
        members.add(connection, company.id, user_id, name, role)
    tenant = {"tenant_id": company.id}
    campaign = tenant | {"id": uuid5(company.id, "campaign"), "name": "Always on", "status": "running"}
    connection.execute(spine_campaigns.insert().values(campaign | {"budget_total": 90_000}))
    channels = [
        tenant | {"id": company.channel_id(each.name), "campaign_id": campaign["id"], "channel": each.name,
                  "status": "active", "is_paid": each.is_paid, "daily_budget": each.daily_budget}
        for each in company.channels
    ]  # fmt: skip
    settings = [
        tenant | {"subsystem": subsystem, "field": name, "value": value}
        for subsystem, name, value in company.settings
    ]
    for table, rows in ((spine_campaign_channels, channels), (subsystem_settings, settings)):
        if rows:
            connection.execute(table.insert(), rows)


def trade(connection: sa.Connection, company: Company, first: date, last: date) -> None:
    """Channels that run spend what they may now, and win their customers evenly over the days."""
    tenancy.service(connection, company.id)
    days = (last - first).days + 1
    ids, on, shares = [], [], []
    for channel in company.channels:
        count = Decimal(channel.customers) * days / DAYS
        for number in range(math.ceil(count)):
            ids.append(company.channel_id(channel.name))
            on.append(first + timedelta(days=number * days // math.ceil(count)))
            shares.append(max(round(min(count - number, Decimal(1)), 3), Decimal("0.001")))
    connection.execute(_SPEND, {"tenant_id": company.id, "first": first, "last": last})
    connection.execute(
        _CUSTOMERS, {"tenant_id": company.id, "channel_ids": ids, "days": on, "shares": shares}
    )


def days(
    connection: sa.Connection,
    company: Company,
    first: date,
    last: date,
    figures: Mapping[str, Figure],
    *,
    at: datetime,
    final_to: date,
    steady: bool,
) -> None:
    """The metrics of each day as a run leaves them: the company's own, with `figures` in their place.

    Days to `final_to` are final; `steady` days have no noise.
    """
    tenancy.service(connection, company.id)
    rows: dict[str, list[Any]] = {name: [] for name in ("day", "metric_id", "value", "status", "final")}
    for metric_id, figure in {**company.figures, **figures}.items():
        for number in range((last - first).days + 1):
            on = first + timedelta(days=number)
            value, status = _known(figure, (last - on).days)
            wobble = Decimal(1) if steady else _WOBBLE[(on - AS_OF).days % len(_WOBBLE)]
            rows["day"].append(on)
            rows["metric_id"].append(metric_id)
            rows["value"].append(None if value is None else value * wobble)
            rows["status"].append(status)
            rows["final"].append(on <= final_to)
    connection.execute(_DAYS, rows | {"tenant_id": company.id, "at": at})


def _known(figure: Figure, back: int) -> tuple[Decimal | None, str]:
    word = figure if isinstance(figure, str) else figure[max(0, len(figure) - 1 - back)]
    return (None, word) if word[0].isalpha() else (Decimal(word), "ok")


_SPEND = sa.text(
    """
    insert into spine.channel_spend_daily (tenant_id, channel_id, date, spend, leads)
    select tenant_id, id, day::date, daily_budget, 4
    from spine.spine_campaign_channels
    cross join generate_series(cast(:first as date), cast(:last as date), interval '1 day') as day
    where tenant_id = :tenant_id and status = 'active'
    """
)
# A customer is an account, its deal, its first booking, and the share of it that the channel has.
_CUSTOMERS = sa.text(
    """
    with won as (
        select channels.tenant_id, gen_random_uuid() as id, channels.id as channel_id, won.day, won.share
        from unnest(cast(:channel_ids as uuid[]), cast(:days as date[]), cast(:shares as numeric[]))
            as won (channel_id, day, share)
        inner join spine.spine_campaign_channels as channels
            on channels.tenant_id = :tenant_id and channels.id = won.channel_id and channels.status = 'active'
    ),

    customers as (
        insert into spine.accounts (tenant_id, id, name) select tenant_id, id, 'Customer' from won
    ),

    deals as (
        insert into spine.opportunities (tenant_id, id, account_id, name, stage, amount)
        select tenant_id, id, id, 'Deal', 'closed_won', 3000 from won
    ),

    bookings as (
        insert into spine.revenue_events (tenant_id, account_id, opportunity_id, type, amount, effective_date)
        select tenant_id, id, id, 'new_booking', 3000, day from won
    )

    insert into spine.opportunity_channel_attribution (tenant_id, opportunity_id, channel_id, weight)
    select tenant_id, id, channel_id, share from won
    """
)
_DAYS = sa.text(
    """
    insert into analytics.metric_snapshots_daily
        (tenant_id, date, metric_id, dimension, dimension_key, value, value_status, sample_size, window_days,
        computed_at, run_id, is_final)
    select :tenant_id, day, metric_id, '{}', '', value, status, 100, 30, :at, 'prct', final
    from unnest(cast(:day as date[]), cast(:metric_id as text[]), cast(:value as numeric[]), cast(:status as text[]),
        cast(:final as boolean[])) as days (day, metric_id, value, status, final)
    on conflict (tenant_id, date, metric_id, dimension_key) do update set
        value = excluded.value, value_status = excluded.value_status, is_final = excluded.is_final
    """
)
