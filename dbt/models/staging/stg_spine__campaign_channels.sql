select
    tenant_id,
    id as channel_id,
    campaign_id,
    channel,
    is_paid,
    source_system
from {{ source('spine', 'spine_campaign_channels') }}
