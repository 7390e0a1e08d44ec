-- An amount without a rate counts nothing. The loader refuses such rows; a changed reporting currency, or rates
-- taken away, bring them about afterwards.
{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'int_fx_daily'}}}) }}

with amounts as (
    select tenant_id, 'revenue_events' as fact, currency, effective_date as rate_date
    from {{ ref('stg_spine__revenue_events') }}
    union all
    select tenant_id, 'subscription_ledger', currency, min(effective_date)
    from {{ ref('stg_spine__subscription_ledger') }}
    group by tenant_id, account_id, currency
    union all
    select tenant_id, 'opportunity_stage_history', currency, changed_date
    from {{ ref('stg_spine__opportunity_stage_history') }}
    where amount is not null
    union all
    select tenant_id, 'channel_spend_daily', currency, spend_date
    from {{ ref('stg_spine__channel_spend') }}
    union all
    select tenant_id, 'finance_inputs_monthly', currency, month_start_date
    from {{ ref('stg_spine__finance_inputs') }}
    where cash_balance is not null or net_burn is not null
)

select amounts.tenant_id, amounts.fact, amounts.currency, count(*) as rows_found, min(amounts.rate_date) as first_date
from amounts
inner join {{ ref('stg_spine__tenants') }} as tenants using (tenant_id)
left join {{ ref('int_fx_daily') }} as fx
    on fx.tenant_id = amounts.tenant_id
    and fx.currency = amounts.currency
    and fx.rate_date = amounts.rate_date
where amounts.currency <> tenants.reporting_currency
    and fx.rate is null
    and {{ in_scope('amounts.tenant_id') }}
group by amounts.tenant_id, amounts.fact, amounts.currency
