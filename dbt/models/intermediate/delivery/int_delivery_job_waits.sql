{{ config(materialized='view') }}
{#- How long jobs waited for their first worker: until it began, or until now. A job that was put off after it began
    tells no more when it was due; then its run does. Jobs that were never due have no wait. -#}
with due as (
    select
        jobs.tenant_id,
        jobs.job_id,
        runs.channel,
        jobs.time_zone,
        case
            when jobs.scheduled_at <= coalesce(jobs.started_at, {{ as_of() }}) then jobs.scheduled_at
            when jobs.started_at is not null then greatest(runs.scheduled_at, jobs.created_at)
        end as due_at,
        jobs.started_at,
        jobs.completed_at
    from {{ ref('stg_delivery__jobs') }} as jobs
    inner join {{ ref('stg_delivery__runs') }} as runs
        on runs.tenant_id = jobs.tenant_id and runs.run_id = jobs.run_id
    where jobs.started_at is not null or jobs.status = 'queued'
)

select
    tenant_id,
    job_id,
    channel,
    due_at,
    (due_at at time zone time_zone)::date as due_date,
    started_at is not null as is_begun,
    extract(epoch from coalesce(started_at, {{ as_of() }}) - due_at)::numeric(18, 3) as wait_seconds,
    extract(epoch from completed_at - started_at)::numeric(18, 3) as work_seconds
from due
where due_at is not null
