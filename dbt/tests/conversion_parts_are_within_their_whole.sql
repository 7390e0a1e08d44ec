{{ config(group='warehouse', meta={'dagster': {'ref': {'name': 'int_conversion_spined_daily'}}}) }}

select tenant_id, metric_date
from {{ ref('int_conversion_spined_daily') }}
where won_deals not between 0 and closed_deals
    or valued_deals not between 0 and closed_deals
    or won_amount not between 0 and closed_amount
    or leads_with_deal not between 0 and leads
    or leads_in_time not between 0 and leads_due
    or no_shows not between 0 and meetings
    or accepted not between 0 and proposals
