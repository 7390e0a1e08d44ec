select
    jobs.tenant_id,
    jobs.id as job_id,
    jobs.run_id,
    jobs.status,
    jobs.scheduled_for as scheduled_at,
    jobs.created_at,
    jobs.started_at,
    jobs.completed_at,
    tenants.time_zone
from {{ source('delivery', 'job_queue') }} as jobs
inner join {{ ref('stg_delivery__tenants') }} as tenants on tenants.tenant_id = jobs.tenant_id
