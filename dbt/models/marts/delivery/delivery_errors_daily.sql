{{ config(materialized='table', post_hook="{{ protect_rows(this) }}") }}

select
    tenant_id,
    attempt_date as date,
    account_id,
    provider,
    state,
    error_code,
    count(*) as attempts,
    count(*) filter (where is_retryable) as retryable
from {{ ref('stg_delivery__attempts') }}
where error_code is not null
group by 1, 2, 3, 4, 5, 6
