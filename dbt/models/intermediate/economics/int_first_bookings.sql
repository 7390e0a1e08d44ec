{#- How each customer was won: the first booking of an account. Of several on one day the lowest source key counts. -#}
select distinct on (tenant_id, account_id)
    tenant_id,
    account_id,
    revenue_event_id,
    effective_date,
    opportunity_id,
    attributed_channel
from {{ ref('int_revenue_events') }}
where revenue_type = 'new_booking' and account_id is not null
order by tenant_id, account_id, effective_date, source_system collate "C", source_key collate "C"
