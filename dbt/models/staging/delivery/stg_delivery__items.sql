select
    items.tenant_id,
    items.id as item_id,
    items.run_id,
    items.root_run_id,
    items.channel,
    items.step,
    items.address,
    items.status,
    items.delivery_status
from {{ source('delivery', 'channel_outbox') }} as items
inner join {{ ref('stg_delivery__tenants') }} as tenants on tenants.tenant_id = items.tenant_id
