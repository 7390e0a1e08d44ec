{#- Revenue events in the reporting currency, with what each counts for. -#}
select
    events.tenant_id,
    events.revenue_event_id,
    events.source_system,
    events.source_key,
    events.account_id,
    events.opportunity_id,
    events.revenue_type,
    events.effective_date,
    events.campaign_id,
    events.attributed_channel,
    events.refunds_booking,
    events.cost_class,
    {{ converted('events.amount', 'events.currency') }} as amount,
    case events.revenue_type
        when 'new_booking' then 1 when 'expansion' then 1 when 'other_revenue' then 1
        when 'refund' then -1 when 'discount' then -1 else 0
    end * {{ converted('events.amount', 'events.currency') }} as net_revenue,
    -- A refund takes back what its booking counted.
    case when events.revenue_type = 'new_booking' then 1 when events.refunds_booking then -1 end
    * {{ converted('events.amount', 'events.currency') }}
    * 12 / case when tenants.bookings_basis = 'acv' then greatest(events.contract_months, 12) else 12 end
        as booking_amount,
    events.revenue_type in ('cogs', 'marketing_spend', 'sales_comp', 'other_cost') as is_cost,
    events.revenue_type in ('marketing_spend', 'sales_comp')
        or (events.revenue_type = 'other_cost' and events.cost_function = 'sales_marketing')
        as is_sales_marketing_cost
from {{ ref('stg_spine__revenue_events') }} as events
{{ fx_join('events', 'currency', 'events.effective_date') }}
where {{ in_scope('events.tenant_id') }}
