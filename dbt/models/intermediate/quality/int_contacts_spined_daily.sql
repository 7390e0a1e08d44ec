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
    where {{ in_scope() }} and created_date < coalesce(merged_date, 'infinity'::date)
),

-- The days on which an identity has a contact. One contact may be gone long before the next comes.
identities as (
    select tenant_id, unnest(range_agg(daterange(created_date, ended_date))) as present_dates
    from contacts
    group by tenant_id, identity
),

spans as (
    select tenant_id, created_date, ended_date, 1 as contacts, 0 as identities from contacts
    union all
    select tenant_id, lower(present_dates), upper(present_dates), 0, 1 from identities
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
    where edge.edge_date < {{ window_end() }}
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
