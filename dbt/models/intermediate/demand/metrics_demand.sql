{{ config(materialized='view') }}

select
    days.tenant_id,
    days.metric_date,
    metric.*
from {{ ref('int_tenant_days') }} as days
cross join lateral (values
    {{ metric('x', 'null', "'undefined'") }}
) as {{ metric_columns() }}
where false
