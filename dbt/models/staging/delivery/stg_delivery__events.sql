select
    events.tenant_id,
    events.id as event_id,
    events.attempt_id,
    events.kind,
    events.provider_message_id,
    (events.occurred_at at time zone tenants.time_zone)::date as event_date
from {{ source('delivery', 'provider_events') }} as events
inner join {{ ref('stg_delivery__tenants') }} as tenants on tenants.tenant_id = events.tenant_id
