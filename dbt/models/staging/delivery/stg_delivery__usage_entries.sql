select
    entries.tenant_id,
    entries.attempt_id,
    entries.meter,
    entries.kind,
    entries.units
from {{ source('delivery', 'usage_entries') }} as entries
inner join {{ ref('stg_delivery__tenants') }} as tenants on tenants.tenant_id = entries.tenant_id
