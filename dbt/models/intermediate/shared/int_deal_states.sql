{#- Each deal's state on every day of its life, as spans [from_date, to_date): the last change of a local day
    is the day's state. A closing keeps the day and moment of the row that started it. -#}
with last_of_day as (
    select distinct on (history.tenant_id, history.opportunity_id, history.changed_date)
        history.tenant_id,
        history.opportunity_id,
        history.changed_date as from_date,
        history.changed_at,
        history.stage,
        {{ converted('history.amount', 'history.currency') }} as amount,
        history.win_probability,
        history.expected_close_date
    from {{ ref('stg_spine__opportunity_stage_history') }} as history
    {{ fx_join('history', 'currency', 'history.changed_date') }}
    where {{ in_scope('history.tenant_id') }}
    order by history.tenant_id, history.opportunity_id, history.changed_date, history.changed_at desc
),

neighbours as (
    select
        *,
        lead(from_date) over deal as to_date,
        lag(stage) over deal as previous_stage,
        lag(amount) over deal as previous_amount,
        count(*) filter (where stage_changed) over deal as stage_run
    from (
        select
            *,
            stage is distinct from lag(stage) over (
                partition by tenant_id, opportunity_id order by from_date
            ) as stage_changed
        from last_of_day
    ) as marked
    window deal as (partition by tenant_id, opportunity_id order by from_date)
)

select
    tenant_id,
    opportunity_id,
    from_date,
    coalesce(to_date, 'infinity'::date) as to_date,
    changed_at,
    stage,
    stage not in ('closed_won', 'closed_lost') as is_open,
    stage in ('qualified', 'discovery', 'proposal', 'negotiation', 'verbal') as is_qualified_open,
    amount,
    win_probability,
    expected_close_date,
    previous_stage,
    previous_stage not in ('closed_won', 'closed_lost') as was_open,
    previous_amount,
    case when stage in ('closed_won', 'closed_lost') then
        min(from_date) over (partition by tenant_id, opportunity_id, stage_run)
    end as closed_date,
    case when stage in ('closed_won', 'closed_lost') then
        min(changed_at) over (partition by tenant_id, opportunity_id, stage_run)
    end as closed_at
from neighbours
