{#- The rate of every day: the newest one not later than the day and at most 10 days old, which bridges
    weekends and long holidays and nothing more. -#}
with rates as (
    select
        fx_rates.tenant_id,
        fx_rates.base_currency,
        fx_rates.rate_date,
        fx_rates.rate,
        lead(fx_rates.rate_date) over (
            partition by fx_rates.tenant_id, fx_rates.base_currency order by fx_rates.rate_date
        ) as next_rate_date
    from {{ ref('stg_spine__fx_rates') }} as fx_rates
    inner join {{ ref('stg_spine__tenants') }} as tenants
        on tenants.tenant_id = fx_rates.tenant_id and tenants.reporting_currency = fx_rates.quote_currency
    where {{ in_scope('fx_rates.tenant_id') }}
)

select
    rates.tenant_id,
    rates.base_currency as currency,
    day::date as rate_date,
    rates.rate
from rates
cross join generate_series(
    rates.rate_date, least(rates.rate_date + 10, rates.next_rate_date - 1), interval '1 day'
) as day
