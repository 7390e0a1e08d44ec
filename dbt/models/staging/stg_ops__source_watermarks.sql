select
    tenant_id,
    source_system,
    fact,
    ingested_date,
    last_ingested_at
from {{ source('ops', 'source_watermarks') }}
