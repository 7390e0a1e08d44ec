select
    tenant_id,
    source_system,
    fact,
    covered_from as covered_from_date,
    covered_to as covered_to_date,
    is_required
from {{ source('ops', 'source_coverage') }}
