{#- Contacts and identities that exist at the end of each tenant-day. -#}
with days as (
    select tenant_id, metric_date from {{ ref('int_tenant_days') }}
),

first_days as (
    select tenant_id, min(metric_date) as first_date from days group by tenant_id
),

contacts as (
    select
        tenant_id,
        coalesce('email:' || normalized_email, 'phone:' || normalized_phone, 'contact:' || contact_id) as identity,
        created_date,
        coalesce(merged_date, 'infinity'::date) as ended_date
    from {{ ref('stg_spine__contacts') }}
    where {{ in_scope() }}
),

spans as (
    select tenant_id, created_date, ended_date, 1 as contacts, 0 as identities from contacts
    union all
    select tenant_id, min(created_date), max(ended_date), 0, 1 from contacts group by tenant_id, identity
),

changes as (
    select
        spans.tenant_id,
        greatest(edge.edge_date, first_days.first_date) as metric_date,
        sum(edge.sign * spans.contacts) as contacts,
        sum(edge.sign * spans.identities) as identities
    from spans
    inner join first_days using (tenant_id)
    cross join lateral (values (spans.created_date, 1), (spans.ended_date, -1)) as edge (edge_date, sign)
    where edge.edge_date < {{ window_end() }} and spans.created_date < spans.ended_date
    group by spans.tenant_id, greatest(edge.edge_date, first_days.first_date)
)

select
    days.tenant_id,
    days.metric_date,
    coalesce(sum(changes.contacts) over since_ever, 0) as contacts,
    coalesce(sum(changes.identities) over since_ever, 0) as identities
from days
left join changes using (tenant_id, metric_date)
window since_ever as (partition by days.tenant_id order by days.metric_date)
