{{ config(materialized='view') }}
{#- What reached people: accepted attempts, and messages that a provider told of and we do not know. An attempt that was
    accepted by a callback alone has no id of the provider's, so that any is its own. -#}
with accepted as (
    select tenant_id, item_id, attempt_id::text as effect, attempt_date as effect_date
    from {{ ref('stg_delivery__attempts') }}
    where state = 'accepted'
),

told as (
    select
        attempts.tenant_id,
        attempts.item_id,
        coalesce(events.provider_message_id, attempts.attempt_id::text) as effect,
        min(events.event_date) as effect_date
    from {{ ref('stg_delivery__events') }} as events
    inner join {{ ref('stg_delivery__attempts') }} as attempts
        on attempts.tenant_id = events.tenant_id and attempts.attempt_id = events.attempt_id
    where
        events.kind <> 'unsubscribed'
        and not (
            attempts.state = 'accepted' and (
                events.provider_message_id is null
                or coalesce(attempts.provider_message_id, 'callback:') like 'callback:%'
                or attempts.provider_message_id = events.provider_message_id
            )
        )
    group by 1, 2, 3
),

effects as (
    select * from accepted
    union all
    select * from told
)

select
    effects.tenant_id,
    effects.item_id,
    effects.effect,
    effects.effect_date,
    items.channel,
    -- Of the people of one step of a campaign, whichever run reached them.
    row_number() over (
        partition by effects.tenant_id, runs.campaign_id, items.channel, items.step, runs.occurrence, items.address
        order by effects.effect_date, effects.effect
    ) > 1 as is_duplicate
from effects
inner join {{ ref('stg_delivery__items') }} as items
    on items.tenant_id = effects.tenant_id and items.item_id = effects.item_id
inner join {{ ref('stg_delivery__runs') }} as runs
    on runs.tenant_id = items.tenant_id and runs.run_id = items.root_run_id
