-- Each statement lists the tenants whose facts would give wrong numbers, with the reason and the remedy.

-- deals_attributed_above_one --
-- Weights above 1 would count a deal twice.
select tenant_id, format(
    'attribution weights of %s deals add up to more than 1: load corrected opportunity_channel_attribution rows',
    count(*)
) as reason
from (
    select tenant_id, opportunity_id
    from spine.opportunity_channel_attribution
    group by tenant_id, opportunity_id
    having sum(weight) > 1.0001
) as deals
group by tenant_id

-- amounts_without_a_rate --
-- A foreign amount that cannot be converted would drop out of every sum.
with tenants as (
    select
        tenants.id as tenant_id,
        coalesce(latest.payload ->> 'reporting_currency', tenants.default_currency) as reporting_currency
    from spine.tenants
    left join lateral (
        select payload from spine.config_versions
        where config_versions.tenant_id = tenants.id order by valid_from desc limit 1
    ) as latest on true
),

amounts as (
    select tenant_id, currency, effective_date as day from spine.revenue_events
    union
    select tenant_id, currency, effective_date from spine.subscription_ledger
    union
    select tenant_id, currency, date from spine.channel_spend_daily
    union
    select tenant_id, currency, month from spine.finance_inputs_monthly
    union
    select tenant_id, currency, changed_at::date from spine.opportunity_stage_history where amount is not null
)

select tenant_id, format(
    'no %s to %s rate within 10 days before %s: load fx_rates', min(currency), min(reporting_currency), min(day)
) as reason
from amounts
inner join tenants using (tenant_id)
where currency <> reporting_currency
    and not exists (
        select from spine.fx_rates
        where fx_rates.tenant_id = amounts.tenant_id
            and base_currency = amounts.currency
            and quote_currency = tenants.reporting_currency
            and rate_date between amounts.day - 10 and amounts.day
    )
group by tenant_id

-- unknown_time_zones --
-- Without a known time zone there is no business day.
select config.tenant_id, format('time zone %s is not known: set it with revenue-os tenant config', config.time_zone)
    as reason
from (
    select distinct on (tenant_id) tenant_id, payload ->> 'time_zone' as time_zone
    from spine.config_versions order by tenant_id, valid_from desc
) as config
left join pg_timezone_names on pg_timezone_names.name = config.time_zone
where config.time_zone is not null and pg_timezone_names.name is null
