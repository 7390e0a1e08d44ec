{#- Each lead with the first outbound activity after its creation, when its SLA ran out, and whether a deal came
    of it within 30 days. -#}
with leads as (
    select leads.*, tenants.time_zone
    from {{ ref('int_leads') }} as leads
    inner join {{ ref('stg_spine__tenants') }} as tenants using (tenant_id)
    where leads.created_at is not null
),

outbound as (
    select activities.tenant_id, contacts.surviving_contact_id, activities.occurred_at
    from {{ ref('stg_spine__activities') }} as activities
    inner join {{ ref('stg_spine__contacts') }} as contacts using (tenant_id, contact_id)
    where activities.direction = 'outbound' and {{ in_scope('activities.tenant_id') }}
),

contacted as (
    select leads.tenant_id, leads.lead_id, min(outbound.occurred_at) as first_contact_at
    from leads
    inner join outbound using (tenant_id, surviving_contact_id)
    where outbound.occurred_at >= leads.created_at
    group by leads.tenant_id, leads.lead_id
),

deals as (
    select opportunities.tenant_id, contacts.surviving_contact_id, opportunities.created_at
    from {{ ref('stg_spine__opportunities') }} as opportunities
    inner join {{ ref('stg_spine__contacts') }} as contacts using (tenant_id, contact_id)
    where {{ in_scope('opportunities.tenant_id') }}
),

converted as (
    select distinct leads.tenant_id, leads.lead_id
    from leads
    inner join deals using (tenant_id, surviving_contact_id)
    where deals.created_at between leads.created_at and leads.created_at + interval '720 hours'
),

due as (
    select
        leads.*,
        contacted.first_contact_at,
        converted.lead_id is not null as has_deal,
        -- The SLA in force when the lead came.
        leads.created_at + config.follow_up_sla_hours * interval '1 hour' as due_at
    from leads
    left join contacted using (tenant_id, lead_id)
    left join converted using (tenant_id, lead_id)
    inner join {{ ref('stg_spine__config_versions') }} as config
        on config.tenant_id = leads.tenant_id
        and config.valid_from_at <= leads.created_at
        and coalesce(config.valid_to_at, 'infinity') > leads.created_at
)

select
    tenant_id,
    lead_id,
    created_at,
    created_date,
    first_contact_at,
    (due_at at time zone time_zone)::date as due_date,
    coalesce(first_contact_at <= due_at, false) as is_contacted_in_time,
    has_deal
from due
