{#- A merged contact stands for its survivor. Chains are followed three links: no recursion, so that the model
    stays distributable by tenant. -#}
with contacts as (
    select * from {{ source('spine', 'spine_contacts') }}
)

select
    contacts.tenant_id,
    contacts.id as contact_id,
    coalesce(third.merged_into_id, second.merged_into_id, first.merged_into_id, contacts.merged_into_id, contacts.id)
        as surviving_contact_id,
    contacts.account_id,
    nullif(lower(trim(contacts.email)), '') as normalized_email,
    nullif(regexp_replace(contacts.phone, '[^0-9]', '', 'g'), '') as normalized_phone,
    contacts.created_at,
    (contacts.created_at at time zone tenants.time_zone)::date as created_date,
    contacts.merged_at,
    (contacts.merged_at at time zone tenants.time_zone)::date as merged_date
from contacts
inner join {{ ref('stg_spine__tenants') }} as tenants using (tenant_id)
left join contacts as first
    on first.tenant_id = contacts.tenant_id and first.id = contacts.merged_into_id
left join contacts as second
    on second.tenant_id = first.tenant_id and second.id = first.merged_into_id
left join contacts as third
    on third.tenant_id = second.tenant_id and third.id = second.merged_into_id
