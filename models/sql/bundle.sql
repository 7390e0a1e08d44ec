-- What a cycle reads, for many tenants at once. `scope` is one row per tenant: the last day it may know of and the
-- currency it reports in. Amounts are converted as the metrics convert them; without a rate an amount is null.

-- tenants --
-- Flags, and the configuration in force at the instant.
select tenants.id as tenant_id, tenants.slug, tenants.cfo_expansion_enabled, tenants.revenue_os_activated_at,
    tenants.default_currency, version.config_version_id, coalesce(version.payload, '{}'::jsonb) as payload
from spine.tenants
left join lateral (
    select config_version_id, payload from spine.config_versions
    where config_versions.tenant_id = tenants.id and valid_from <= :at
    order by valid_from desc limit 1
) as version on true
where tenants.id = any(cast(:tenant_ids as uuid[]))

-- newest_days --
-- The newest computed day of each tenant that is not later than the day asked for.
select tenant_id, max(date) as day
from analytics.metric_snapshots_daily
where tenant_id = any(cast(:tenant_ids as uuid[])) and metric_id = 'data_coverage_pct' and dimension_key = ''
    and date <= :as_of
group by tenant_id

-- readings --
-- The totals of the days up to each tenant's last one: a tenant's in one text, since there are a thousand times more
-- of them than of anything else. Values are text, so that no digit is lost on the way.
with scope as (
    select * from unnest(cast(:tenant_ids as uuid[]), cast(:last_days as date[])) as scope (tenant_id, last_day)
)

select snapshots.tenant_id, json_agg(
    json_build_object(
        'metric_id', snapshots.metric_id,
        'value', trim_scale(snapshots.value)::text,
        'date', snapshots.date,
        'value_status', snapshots.value_status,
        'is_final', snapshots.is_final,
        'snapshot_id', format('%s@%s@%s', snapshots.metric_id, snapshots.date, snapshots.run_id)
    ) order by snapshots.metric_id, snapshots.date
)::text as readings
from scope
inner join analytics.metric_snapshots_daily as snapshots
    on snapshots.tenant_id = scope.tenant_id
    and snapshots.date between scope.last_day - :days + 1 and scope.last_day
    and snapshots.dimension_key = ''
    and (cast(:metric_ids as text[]) is null or snapshots.metric_id = any(:metric_ids))
group by snapshots.tenant_id

-- revenue_events --
-- What was booked, refunded and spent over the last 30 days.
with scope as (
    select * from unnest(cast(:tenant_ids as uuid[]), cast(:last_days as date[]), cast(:currencies as text[]))
        as scope (tenant_id, last_day, currency)
)

select * from (
    select events.tenant_id, events.id, events.type,
        trim_scale(case when events.currency = scope.currency then events.amount else events.amount * fx.rate end)
            as amount,
        events.effective_date, events.attributed_campaign_id, events.attributed_channel
    from scope
    inner join spine.revenue_events as events
        on events.tenant_id = scope.tenant_id
        and events.effective_date between scope.last_day - 29 and scope.last_day
    left join lateral (
        select rate from spine.fx_rates
        where events.currency <> scope.currency and fx_rates.tenant_id = events.tenant_id
            and base_currency = events.currency and quote_currency = scope.currency
            and rate_date between events.effective_date - 10 and events.effective_date
        order by rate_date desc limit 1
    ) as fx on true
) as converted
where amount is not null
order by tenant_id, effective_date, id

-- campaigns --
-- Campaigns that may still be changed, with what they spent so far. One whose budget is in foreign money is left
-- out: its budget is written in that money, and the kernel weighs levers in one.
with scope as (
    select * from unnest(cast(:tenant_ids as uuid[]), cast(:last_days as date[]), cast(:currencies as text[]))
        as scope (tenant_id, last_day, currency)
)

select campaigns.tenant_id, campaigns.id, campaigns.name, campaigns.status, campaigns.objective,
    trim_scale(campaigns.budget_total) as budget_total, trim_scale(coalesce(spent.amount, 0)) as budget_spent,
    campaigns.start_date, campaigns.end_date
from scope
inner join spine.spine_campaigns as campaigns
    on campaigns.tenant_id = scope.tenant_id and campaigns.budget_currency = scope.currency
    and campaigns.status in ('draft', 'running', 'paused')
left join lateral (
    select sum(case when spend.currency = scope.currency then spend.spend else spend.spend * fx.rate end) as amount
    from spine.spine_campaign_channels as channels
    inner join spine.channel_spend_daily as spend
        on spend.tenant_id = channels.tenant_id and spend.channel_id = channels.id and spend.date <= scope.last_day
    left join lateral (
        select rate from spine.fx_rates
        where spend.currency <> scope.currency and fx_rates.tenant_id = spend.tenant_id
            and base_currency = spend.currency and quote_currency = scope.currency
            and rate_date between spend.date - 10 and spend.date
        order by rate_date desc limit 1
    ) as fx on true
    where channels.tenant_id = campaigns.tenant_id and channels.campaign_id = campaigns.id
) as spent on true
order by campaigns.tenant_id, campaigns.id

-- channels --
-- The levers of those campaigns, with what each spent and earned over the window and the pipeline it feeds.
with scope as (
    select * from unnest(cast(:tenant_ids as uuid[]), cast(:last_days as date[]), cast(:currencies as text[]))
        as scope (tenant_id, last_day, currency)
),

spend as (
    select daily.tenant_id, daily.channel_id, sum(daily.leads) as leads,
        sum(case when daily.currency = scope.currency then daily.spend else daily.spend * fx.rate end) as spend
    from scope
    inner join spine.channel_spend_daily as daily
        on daily.tenant_id = scope.tenant_id
        and daily.date between scope.last_day - :days + 1 and scope.last_day
    left join lateral (
        select rate from spine.fx_rates
        where daily.currency <> scope.currency and fx_rates.tenant_id = daily.tenant_id
            and base_currency = daily.currency and quote_currency = scope.currency
            and rate_date between daily.date - 10 and daily.date
        order by rate_date desc limit 1
    ) as fx on true
    group by daily.tenant_id, daily.channel_id
),

-- A customer is won by the first booking of an account; of several on one day the lowest source key counts.
customers as (
    select attribution.tenant_id, attribution.channel_id, sum(attribution.weight) as customers
    from (
        select distinct on (events.tenant_id, events.account_id)
            events.tenant_id, events.opportunity_id, events.effective_date, scope.last_day
        from scope
        inner join spine.revenue_events as events
            on events.tenant_id = scope.tenant_id and events.effective_date <= scope.last_day
        where events.type = 'new_booking' and events.account_id is not null
        order by events.tenant_id, events.account_id, events.effective_date,
            events.source_system collate "C", events.source_key collate "C"
    ) as first_bookings
    inner join spine.opportunity_channel_attribution as attribution using (tenant_id, opportunity_id)
    where first_bookings.effective_date > first_bookings.last_day - :days
    group by attribution.tenant_id, attribution.channel_id
),

pipeline as (
    select attribution.tenant_id, attribution.channel_id,
        sum(attribution.weight * case when deals.currency = deals.reporting_currency then deals.amount
            else deals.amount * fx.rate end) as pipeline
    from (
        select distinct on (history.tenant_id, history.opportunity_id)
            history.tenant_id, history.opportunity_id, history.stage, history.amount, history.currency,
            history.changed_at::date as changed_date, scope.currency as reporting_currency
        from scope
        inner join spine.opportunity_stage_history as history
            on history.tenant_id = scope.tenant_id and history.changed_at < :at
        order by history.tenant_id, history.opportunity_id, history.changed_at desc
    ) as deals
    inner join spine.opportunity_channel_attribution as attribution using (tenant_id, opportunity_id)
    left join lateral (
        select rate from spine.fx_rates
        where deals.currency <> deals.reporting_currency and fx_rates.tenant_id = deals.tenant_id
            and base_currency = deals.currency and quote_currency = deals.reporting_currency
            and rate_date between deals.changed_date - 10 and deals.changed_date
        order by rate_date desc limit 1
    ) as fx on true
    where deals.stage not in ('closed_won', 'closed_lost')
    group by attribution.tenant_id, attribution.channel_id
)

select channels.tenant_id, channels.id, channels.campaign_id, channels.channel, channels.status, channels.is_paid,
    trim_scale(channels.daily_budget) as daily_budget, trim_scale(coalesce(spend.spend, 0)) as spend,
    coalesce(spend.leads, 0)::bigint as leads, trim_scale(coalesce(customers.customers, 0)) as new_customers,
    trim_scale(coalesce(pipeline.pipeline, 0)) as pipeline
from scope
inner join spine.spine_campaigns as campaigns
    on campaigns.tenant_id = scope.tenant_id and campaigns.budget_currency = scope.currency
    and campaigns.status in ('draft', 'running', 'paused')
inner join spine.spine_campaign_channels as channels
    on channels.tenant_id = campaigns.tenant_id and channels.campaign_id = campaigns.id
    and channels.status <> 'completed'
left join spend on spend.tenant_id = channels.tenant_id and spend.channel_id = channels.id
left join customers on customers.tenant_id = channels.tenant_id and customers.channel_id = channels.id
left join pipeline on pipeline.tenant_id = channels.tenant_id and pipeline.channel_id = channels.id
order by channels.tenant_id, channels.id

-- opportunities --
-- The deals that are open at the instant, from their history.
with scope as (
    select * from unnest(cast(:tenant_ids as uuid[]), cast(:last_days as date[]), cast(:currencies as text[]))
        as scope (tenant_id, last_day, currency)
)

select deals.tenant_id, deals.opportunity_id as id, deals.stage,
    trim_scale(case when deals.currency = deals.reporting_currency then deals.amount else deals.amount * fx.rate end)
        as amount,
    deals.expected_close_date, trim_scale(deals.win_probability) as win_probability
from (
    select distinct on (history.tenant_id, history.opportunity_id)
        history.*, history.changed_at::date as changed_date, scope.currency as reporting_currency
    from scope
    inner join spine.opportunity_stage_history as history
        on history.tenant_id = scope.tenant_id and history.changed_at < :at
    order by history.tenant_id, history.opportunity_id, history.changed_at desc
) as deals
left join lateral (
    select rate from spine.fx_rates
    where deals.currency <> deals.reporting_currency and fx_rates.tenant_id = deals.tenant_id
        and base_currency = deals.currency and quote_currency = deals.reporting_currency
        and rate_date between deals.changed_date - 10 and deals.changed_date
    order by rate_date desc limit 1
) as fx on true
where deals.stage not in ('closed_won', 'closed_lost')
order by deals.tenant_id, deals.opportunity_id

-- settings --
select tenant_id, subsystem, entity_type, entity_id, field, value
from spine.subsystem_settings
where tenant_id = any(cast(:tenant_ids as uuid[]))
order by tenant_id, subsystem, entity_type, entity_id, field

-- live_actions --
-- What is proposed, under way or being observed, and what a person rejected lately: the kernel leaves it alone.
select tenant_id, family, entity_type, entity_id, execution_status,
    coalesce((attributes ->> 'daily_spend_change')::numeric, 0) as daily_spend_change,
    case when execution_status = 'rejected' then coalesce(reason, '') else '' end as why
from spine.optimization_actions
where tenant_id = any(cast(:tenant_ids as uuid[]))
    and (
        not execution_status = any(cast(:dead as text[]))
        or (execution_status = 'rejected' and closed_at > :rejected_since and closed_at <= :at)
    )
order by tenant_id, family, entity_type, entity_id, created_at, id

-- committed --
-- What changes add to this month's spend, and a day from now on, whichever month they were made in.
select tenant_id, trim_scale(sum(daily_amount)) as daily,
    trim_scale(coalesce(
        sum(month_amount) filter (where month = date_trunc('month', cast(:at as timestamptz) at time zone 'UTC')::date), 0
    )) as month
from spine.budget_entries
where tenant_id = any(cast(:tenant_ids as uuid[]))
group by tenant_id

-- weights --
-- Each tenant's own newest version; a tenant without one decides by the defaults.
select distinct on (tenant_id) tenant_id, version, payload
from spine.decision_weights
where tenant_id = any(cast(:tenant_ids as uuid[])) and valid_from <= :at
order by tenant_id, version desc
