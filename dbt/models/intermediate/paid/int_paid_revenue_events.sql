{#- How much of each revenue event paid channels earned: the weights of the paid channels of its opportunity; without
    any attribution the whole of an event whose kind of channel the tenant pays for. -#}
with attributed_deals as (
    select tenant_id, opportunity_id, sum(paid_weight) as paid_share
    from {{ ref('int_deal_channels') }}
    group by tenant_id, opportunity_id
),

paid_channels as (
    select distinct tenant_id, channel
    from {{ ref('stg_spine__campaign_channels') }}
    where is_paid and {{ in_scope() }}
)

select
    events.tenant_id,
    events.revenue_event_id,
    events.effective_date,
    events.net_revenue,
    coalesce(
        attributed_deals.paid_share,
        case when paid_channels.channel is not null then 1 else 0 end
    ) as paid_share
from {{ ref('int_revenue_events') }} as events
left join attributed_deals using (tenant_id, opportunity_id)
left join paid_channels
    on paid_channels.tenant_id = events.tenant_id and paid_channels.channel = events.attributed_channel
where events.revenue_type in ('new_booking', 'expansion', 'other_revenue', 'refund', 'discount')
