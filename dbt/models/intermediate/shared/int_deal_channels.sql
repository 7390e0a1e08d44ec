{#- How much of each deal each kind of channel earned; what no channel earned goes to `unattributed`. -#}
with weights as (
    select
        attribution.tenant_id,
        attribution.opportunity_id,
        channels.channel,
        sum(attribution.weight) as weight,
        sum(attribution.weight) filter (where channels.is_paid) as paid_weight
    from {{ ref('stg_spine__opportunity_attribution') }} as attribution
    inner join {{ ref('stg_spine__campaign_channels') }} as channels using (tenant_id, channel_id)
    where {{ in_scope('attribution.tenant_id') }}
    group by attribution.tenant_id, attribution.opportunity_id, channels.channel
)

select tenant_id, opportunity_id, channel, weight, coalesce(paid_weight, 0) as paid_weight
from weights
union all
select tenant_id, opportunity_id, 'unattributed', 1 - sum(weight), 0
from weights
group by tenant_id, opportunity_id
having sum(weight) < 1
