select
    opportunities.tenant_id,
    opportunities.id as opportunity_id,
    opportunities.account_id,
    opportunities.contact_id,
    opportunities.created_at,
    (opportunities.created_at at time zone tenants.time_zone)::date as created_date
from {{ source('spine', 'opportunities') }} as opportunities
inner join {{ ref('stg_spine__tenants') }} as tenants using (tenant_id)
