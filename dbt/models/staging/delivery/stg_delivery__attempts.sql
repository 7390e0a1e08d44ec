select
    attempts.tenant_id,
    attempts.id as attempt_id,
    attempts.item_id,
    attempts.account_id,
    attempts.provider,
    attempts.state,
    attempts.started_at,
    (attempts.started_at at time zone tenants.time_zone)::date as attempt_date,
    attempts.replays,
    attempts.error_code,
    attempts.is_retryable,
    attempts.provider_message_id
from {{ source('delivery', 'attempts') }} as attempts
inner join {{ ref('stg_delivery__tenants') }} as tenants on tenants.tenant_id = attempts.tenant_id
