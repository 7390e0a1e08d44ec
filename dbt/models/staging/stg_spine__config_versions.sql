with versions as (
    select tenant_id, config_version_id, valid_from, payload
    from {{ source('spine', 'config_versions') }}
    union all
    -- Until its first version a tenant has the defaults.
    select id, null, '-infinity', '{}'
    from {{ source('spine', 'tenants') }}
)

select
    tenant_id,
    config_version_id,
    valid_from as valid_from_at,
    lead(valid_from) over (partition by tenant_id order by valid_from) as valid_to_at,
    coalesce((payload ->> 'target_bookings')::numeric, 150000) as target_bookings_monthly,
    coalesce((payload ->> 'follow_up_sla_hours')::numeric, 24) as follow_up_sla_hours
from versions
