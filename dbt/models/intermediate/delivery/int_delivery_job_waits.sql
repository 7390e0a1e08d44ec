{{ config(materialized='view') }}
{#- How long jobs waited for their first worker: until it began, or until now. The rule is the database's, so that live
    figures and the certification have the same. -#}
-- depends_on: {{ source('delivery', 'job_queue') }}, {{ source('delivery', 'campaign_runs') }}
select
    waits.tenant_id,
    waits.job_id,
    waits.channel,
    waits.due_at,
    (waits.due_at at time zone tenants.time_zone)::date as due_date,
    waits.started_at is not null as is_begun,
    waits.wait_seconds,
    waits.work_seconds
from delivery.job_waits({{ as_of() }}) as waits
inner join {{ ref('stg_delivery__tenants') }} as tenants on tenants.tenant_id = waits.tenant_id
