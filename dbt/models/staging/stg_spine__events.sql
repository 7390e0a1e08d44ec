select
    events.tenant_id,
    events.id as event_id,
    events.event_type,
    events.occurred_at,
    (events.occurred_at at time zone tenants.time_zone)::date as occurred_date,
    events.account_id,
    events.contact_id,
    events.campaign_id,
    events.properties,
    events.source_system,
    events.idempotency_key
from {{ source('spine', 'events_raw') }} as events
inner join {{ ref('stg_spine__tenants') }} as tenants using (tenant_id)
