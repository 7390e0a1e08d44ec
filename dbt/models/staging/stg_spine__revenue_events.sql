select
    tenant_id,
    id as revenue_event_id,
    source_system,
    source_key,
    account_id,
    opportunity_id,
    type as revenue_type,
    amount,
    currency,
    effective_date,
    attributed_campaign_id as campaign_id,
    attributed_channel,
    contract_months,
    refunds_booking,
    cost_class,
    cost_function
from {{ source('spine', 'revenue_events') }}
