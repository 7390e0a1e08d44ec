select
    runs.tenant_id,
    runs.id as run_id,
    runs.root_run_id,
    runs.retry_of_run_id,
    runs.campaign_id,
    runs.channel,
    runs.step,
    runs.occurrence,
    runs.status,
    runs.scheduled_for as scheduled_at,
    runs.created_at as launched_at,
    (runs.created_at at time zone tenants.time_zone)::date as launch_date,
    runs.started_at,
    runs.completed_at
from {{ source('delivery', 'campaign_runs') }} as runs
inner join {{ ref('stg_delivery__tenants') }} as tenants on tenants.tenant_id = runs.tenant_id
