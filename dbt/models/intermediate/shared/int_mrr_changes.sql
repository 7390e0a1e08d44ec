{#- Ledger entries in the reporting currency, one row per account, day and reason. -#}
select
    ledger.tenant_id,
    ledger.account_id,
    ledger.effective_date,
    ledger.reason,
    sum({{ converted('ledger.mrr_delta', 'ledger.currency') }}) as mrr_delta
from {{ ref('stg_spine__subscription_ledger') }} as ledger
{{ fx_join('ledger', 'currency', 'ledger.effective_date') }}
where {{ in_scope('ledger.tenant_id') }}
group by ledger.tenant_id, ledger.account_id, ledger.effective_date, ledger.reason
