select
    cases.tenant_id,
    cases.id as case_id,
    cases.item_id,
    cases.attempt_id,
    cases.opened_at,
    cases.resolved_at,
    cases.resolution
from {{ source('delivery', 'reconciliation_cases') }} as cases
inner join {{ ref('stg_delivery__tenants') }} as tenants on tenants.tenant_id = cases.tenant_id
