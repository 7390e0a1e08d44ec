select
    tenant_id,
    opportunity_id,
    channel_id,
    weight
from {{ source('spine', 'opportunity_channel_attribution') }}
