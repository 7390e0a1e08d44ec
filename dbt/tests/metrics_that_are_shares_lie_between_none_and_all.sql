-- Shares of a count that are counted apart from it, as upstream did, end above 1.
{{ config(meta={'dagster': {'ref': {'name': 'metric_snapshots_daily'}}}) }}

select tenant_id, date, metric_id, dimension_key, value
from {{ ref('metric_snapshots_daily') }}
where {{ window_predicate('date') }}
    and metric_id in (
        'email_reply_rate', 'meeting_book_rate', 'win_rate', 'stage_conversion_lead_to_opp',
        'stage_conversion_opp_to_close', 'follow_up_rate', 'no_show_rate', 'proposal_acceptance_rate',
        'missing_attribution_pct', 'duplicate_contact_rate', 'data_coverage_pct'
    )
    and value not between 0 and case when metric_id like '%\_pct' then 100 else 1 end
