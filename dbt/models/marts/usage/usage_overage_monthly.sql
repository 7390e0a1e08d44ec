{{ config(materialized='table', post_hook="{{ protect_rows(this) }}") }}
{#- What is used of what a plan includes, and where a month that goes on will end when it goes on like this. The plan is
    the one that holds at the end of the month, or now. -#}
with months as (
    select
        usage.*,
        (usage.year_month || '-01')::timestamp at time zone 'UTC' as begins_at,
        ((usage.year_month || '-01')::timestamp + interval '1 month') at time zone 'UTC' as ends_at
    from {{ ref('site_usage_monthly') }} as usage
),

timed as (
    select
        *,
        least(ends_at, {{ as_of() }}) as seen_at,
        greatest(extract(epoch from least(ends_at, {{ as_of() }}) - begins_at), 1)
        / extract(epoch from ends_at - begins_at) as share_gone
    from months
)

select
    timed.tenant_id,
    timed.site_id,
    timed.year_month,
    coalesce(plans.plan_tier, 'free') as plan_tier,
    plans.monthly_limit,
    timed.event_count,
    least(timed.event_count, plans.monthly_limit) as included_count,
    timed.overage_count,
    timed.rejected_count,
    greatest(plans.monthly_limit - timed.event_count, 0) as remaining,
    case when timed.ends_at > {{ as_of() }} then round(timed.event_count / timed.share_gone)::bigint else timed.event_count end
        as projected_count,
    case
        when plans.monthly_limit is null then null
        when timed.ends_at > {{ as_of() }}
            then greatest(round(timed.event_count / timed.share_gone)::bigint - plans.monthly_limit, timed.overage_count)
        else timed.overage_count
    end as projected_overage_count,
    plans.overage_price_per_1k,
    plans.currency
from timed
left join {{ ref('stg_usage__plans') }} as plans
    on plans.tenant_id = timed.tenant_id
    and plans.site_id = timed.site_id
    and plans.valid_from < timed.seen_at
    and (plans.valid_to is null or plans.valid_to >= timed.seen_at)
