{#- One row per lead: the surviving contact of its first lead_created event, else the lead id the event carries,
    else the event itself. Merged duplicates are one lead. -#}
with lead_events as (
    select
        events.tenant_id,
        contacts.surviving_contact_id,
        coalesce(
            contacts.surviving_contact_id::text,
            'lead:' || (events.properties ->> 'lead_id'),
            'event:' || events.source_system || ':' || events.idempotency_key
        ) as lead_id,
        events.event_type,
        events.occurred_at,
        events.occurred_date
    from {{ ref('stg_spine__events') }} as events
    left join {{ ref('stg_spine__contacts') }} as contacts using (tenant_id, contact_id)
    where events.event_type in ('lead_created', 'mql_reached') and {{ in_scope('events.tenant_id') }}
)

select
    tenant_id,
    lead_id,
    -- One lead has one survivor, or none at all.
    (array_agg(surviving_contact_id))[1] as surviving_contact_id,
    min(occurred_at) filter (where event_type = 'lead_created') as created_at,
    min(occurred_date) filter (where event_type = 'lead_created') as created_date,
    min(occurred_date) filter (where event_type = 'mql_reached') as mql_date
from lead_events
group by tenant_id, lead_id
