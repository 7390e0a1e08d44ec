select
    history.tenant_id,
    history.opportunity_id,
    history.changed_at,
    (history.changed_at at time zone tenants.time_zone)::date as changed_date,
    history.stage,
    history.amount,
    history.currency,
    history.win_probability,
    history.expected_close_date
from {{ source('spine', 'opportunity_stage_history') }} as history
inner join {{ ref('stg_spine__tenants') }} as tenants using (tenant_id)
