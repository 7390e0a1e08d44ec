{#- The days each fact can speak for: from the earliest day any source covers to the earliest end among the
    required sources. -#}
select
    tenant_id,
    fact,
    min(covered_from_date) as covered_from_date,
    coalesce(min(covered_to_date) filter (where is_required), max(covered_to_date)) as covered_to_date
from {{ ref('stg_ops__source_coverage') }}
where {{ in_scope() }}
group by tenant_id, fact
