{{ config(group='warehouse', meta={'dagster': {'ref': {'name': 'int_contacts_spined_daily'}}}) }}

-- The running sums against plain counts, on the last day.
with last_days as (
    select distinct on (tenant_id) *
    from {{ ref('int_contacts_spined_daily') }}
    order by tenant_id, metric_date desc
)

select
    last_days.tenant_id,
    last_days.metric_date,
    last_days.contacts,
    last_days.identities,
    count(contacts.contact_id) as counted_contacts,
    count(distinct coalesce(
        'email:' || contacts.normalized_email, 'phone:' || contacts.normalized_phone, 'contact:' || contacts.contact_id
    )) as counted_identities
from last_days
left join {{ ref('stg_spine__contacts') }} as contacts
    on contacts.tenant_id = last_days.tenant_id
    and contacts.created_date <= last_days.metric_date
    and coalesce(contacts.merged_date, 'infinity') > last_days.metric_date
group by last_days.tenant_id, last_days.metric_date, last_days.contacts, last_days.identities
having last_days.contacts <> count(contacts.contact_id)
    or last_days.identities <> count(distinct coalesce(
        'email:' || contacts.normalized_email, 'phone:' || contacts.normalized_phone, 'contact:' || contacts.contact_id
    ))
