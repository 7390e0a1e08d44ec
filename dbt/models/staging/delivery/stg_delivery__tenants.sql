{#- Whose deliveries count. Every other model of deliveries begins here, so that no test and no demonstration is among
    the numbers. -#}
select
    tenants.tenant_id,
    tenants.slug,
    tenants.time_zone
from {{ ref('stg_spine__tenants') }} as tenants
inner join {{ source('spine', 'tenants') }} as modes on modes.id = tenants.tenant_id
where tenants.status <> 'test' and modes.metrics_mode = 'real'
