{#- Ledger entries in the reporting currency, one row per account, day and reason. An entry takes the rate of the
    account's first entry in its currency: what was gained and later lost cancels, whatever rates did meanwhile. -#}
with ledger as (
    select
        *,
        min(effective_date) over (partition by tenant_id, account_id, currency) as rate_date
    from {{ ref('stg_spine__subscription_ledger') }}
    where {{ in_scope() }}
)

select
    ledger.tenant_id,
    ledger.account_id,
    ledger.effective_date,
    ledger.reason,
    count(*) as entries,
    sum({{ converted('ledger.mrr_delta', 'ledger.currency') }}) as mrr_delta
from ledger
{{ fx_join('ledger', 'currency', 'ledger.rate_date') }}
group by ledger.tenant_id, ledger.account_id, ledger.effective_date, ledger.reason
