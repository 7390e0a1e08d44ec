select
    tenant_id,
    site_id,
    id as plan_id,
    plan_tier,
    monthly_limit,
    soft_limit_enabled,
    overage_price_per_1k,
    currency,
    valid_from,
    valid_to
from {{ source('usage', 'site_plans') }}
