{#- What finance last knew on each tenant-day: the newest month that had ended by then, while it is recent enough. -#}
with months as (
    select
        finance.tenant_id,
        finance.month_end_date,
        lead(finance.month_end_date, 1, 'infinity') over months as next_month_end_date,
        finance.headcount_fte,
        {{ converted('finance.cash_balance', 'finance.currency') }} as cash_balance,
        finance.net_burn is not null as has_net_burn,
        avg({{ converted('finance.net_burn', 'finance.currency') }}) over last_three as mean_net_burn,
        count(finance.net_burn) over last_three as burn_months
    from {{ ref('stg_spine__finance_inputs') }} as finance
    {{ fx_join('finance', 'currency', 'finance.month_start_date') }}
    where {{ in_scope('finance.tenant_id') }}
    window
        months as (partition by finance.tenant_id order by finance.month_start_date),
        last_three as (
            partition by finance.tenant_id order by finance.month_start_date
            range between interval '2 months' preceding and current row
        )
),

days as (
    select tenant_id, metric_date
    from {{ ref('int_tenant_days') }}
    where metric_date >= {{ window_start() }} - 29
)

select
    days.tenant_id,
    days.metric_date,
    months.month_end_date,
    -- Two months and a day or so: the month after it should have been closed by then.
    case
        when months.month_end_date is null then 'undefined'
        when days.metric_date - months.month_end_date > 62 then 'stale_source'
        else 'ok'
    end as finance_status,
    months.headcount_fte,
    months.cash_balance,
    case when months.has_net_burn then months.mean_net_burn end as net_burn,
    months.burn_months
from days
left join months
    on months.tenant_id = days.tenant_id
    and days.metric_date >= months.month_end_date
    and days.metric_date < months.next_month_end_date
