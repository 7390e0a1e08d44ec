-- Weights above 1 in sum count parts of a deal twice.
{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'int_deal_channels'}}}) }}

select tenant_id, opportunity_id, sum(weight) as weight
from {{ ref('stg_spine__opportunity_attribution') }}
where {{ in_scope() }}
group by tenant_id, opportunity_id
having sum(weight) > 1
