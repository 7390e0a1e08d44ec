select
    activities.tenant_id,
    activities.id as activity_id,
    activities.contact_id,
    activities.activity_type,
    activities.direction,
    activities.outcome,
    activities.occurred_at,
    (activities.occurred_at at time zone tenants.time_zone)::date as occurred_date
from {{ source('spine', 'spine_crm_activities') }} as activities
inner join {{ ref('stg_spine__tenants') }} as tenants using (tenant_id)
