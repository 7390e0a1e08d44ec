{{ config(group='warehouse', meta={'dagster': {'ref': {'name': 'int_outreach_spined_daily'}}}) }}

select tenant_id, metric_date
from {{ ref('int_outreach_spined_daily') }}
where replied_recipients not between 0 and recipients
    or booked_contacts not between 0 and attempted_contacts
