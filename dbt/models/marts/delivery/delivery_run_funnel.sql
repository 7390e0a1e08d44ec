{{ config(materialized='table', post_hook="{{ protect_rows(this) }}", indexes=[{'columns': ['tenant_id', 'launch_date']}]) }}

with items as (
    select
        tenant_id,
        run_id,
        count(*) as items,
        count(*) filter (where status in ('queued', 'dispatching')) as open,
        count(*) filter (where status in ('sent', 'called', 'posted')) as accepted,
        count(*) filter (where status = 'failed') as rejected,
        count(*) filter (where status = 'skipped') as suppressed,
        count(*) filter (where status = 'unknown') as unknown,
        count(*) filter (where status = 'cancelled') as cancelled,
        count(*) filter (where status = 'expired') as expired,
        count(*) filter (where status = 'abandoned') as abandoned,
        count(*) filter (where delivery_status in ('answered', 'delivered', 'opened', 'clicked')) as delivered,
        count(*) filter (where delivery_status in ('opened', 'clicked')) as opened,
        count(*) filter (where delivery_status = 'clicked') as clicked,
        count(*) filter (where delivery_status = 'bounced') as bounced,
        count(*) filter (where delivery_status = 'complained') as complained
    from {{ ref('stg_delivery__items') }}
    group by tenant_id, run_id
)

select
    runs.tenant_id,
    runs.run_id,
    runs.root_run_id,
    runs.campaign_id,
    runs.channel,
    runs.step,
    runs.retry_of_run_id is not null as is_retry,
    runs.status,
    runs.launched_at,
    runs.launch_date,
    runs.started_at,
    runs.completed_at,
    {% for column in ['items', 'open', 'accepted', 'rejected', 'suppressed', 'unknown', 'cancelled', 'expired', 'abandoned',
                      'delivered', 'opened', 'clicked', 'bounced', 'complained'] -%}
    coalesce(items.{{ column }}, 0) as {{ column }}{{ "," if not loop.last }}
    {% endfor %}
from {{ ref('stg_delivery__runs') }} as runs
left join items on items.tenant_id = runs.tenant_id and items.run_id = runs.run_id
