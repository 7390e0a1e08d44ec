{#- Outreach that has had its time to be answered, at the end of each tenant-day: e-mails sent in (d-37, d-7] and
    the replies within 7 days of them, attempts in (d-44, d-14] and the meetings booked within 14 days of them. -#}
with days as (
    select tenant_id, metric_date from {{ ref('int_tenant_days') }}
),

-- From 44 days before the first day that gets rows, and two days more for the time zones; what answers or bounces
-- comes later still.
events as (
    select
        events.tenant_id,
        contacts.surviving_contact_id,
        events.event_type,
        events.occurred_at,
        events.occurred_date,
        events.properties ->> 'message_id' as message_id,
        events.event_type = 'email_replied' and lower(events.properties ->> 'auto_reply') is distinct from 'true'
            as is_reply,
        events.event_type in ('meeting_booked', 'voice_meeting_booked') as is_meeting
    from {{ ref('stg_spine__events') }} as events
    left join {{ ref('stg_spine__contacts') }} as contacts using (tenant_id, contact_id)
    where events.event_type in (
        'email_sent', 'email_replied', 'email_bounced', 'sms_sent', 'voice_call_initiated', 'linkedin_message_sent',
        'meeting_booked', 'voice_meeting_booked'
    )
        and events.occurred_at >= {{ window_start() }} - 75
        and {{ in_scope('events.tenant_id') }}
),

bounces as (
    select distinct tenant_id, message_id
    from events
    where event_type = 'email_bounced' and message_id is not null
),

-- Read backwards, the latest answer seen so far is the next one to come.
attempts as (
    select
        tenant_id,
        surviving_contact_id,
        event_type,
        occurred_at,
        occurred_date,
        message_id,
        min(occurred_at) filter (where is_reply) over later as next_reply_at,
        min(occurred_at) filter (where is_meeting) over later as next_meeting_at
    from events
    where surviving_contact_id is not null
    window later as (partition by tenant_id, surviving_contact_id order by occurred_at desc)
),

recipients as (
    select
        attempts.tenant_id,
        attempts.surviving_contact_id,
        attempts.occurred_date,
        coalesce(bool_or(attempts.next_reply_at <= attempts.occurred_at + interval '168 hours'), false) as has_replied
    from attempts
    left join bounces using (tenant_id, message_id)
    where attempts.event_type = 'email_sent' and bounces.message_id is null
    group by attempts.tenant_id, attempts.surviving_contact_id, attempts.occurred_date
),

recipients_daily as (
    select
        tenant_id,
        occurred_date as metric_date,
        count(*) as recipients,
        count(*) filter (where has_replied) as replied
    from recipients
    group by tenant_id, occurred_date
),

attempted_days as (
    select
        tenant_id,
        surviving_contact_id,
        occurred_date,
        coalesce(bool_or(next_meeting_at <= occurred_at + interval '336 hours'), false) as has_booked
    from attempts
    where event_type in ('email_sent', 'sms_sent', 'voice_call_initiated', 'linkedin_message_sent')
    group by tenant_id, surviving_contact_id, occurred_date
),

-- A contact counts once in a window of days, however often it was attempted: its day t stands in the windows that
-- end from t + 14 until its next day enters, or until t leaves after 30 days.
contact_days as (
    select
        tenant_id,
        occurred_date,
        'attempted' as kind,
        lead(occurred_date) over (partition by tenant_id, surviving_contact_id order by occurred_date) as next_date
    from attempted_days
    union all
    select
        tenant_id,
        occurred_date,
        'booked' as kind,
        lead(occurred_date) over (partition by tenant_id, surviving_contact_id order by occurred_date) as next_date
    from attempted_days
    where has_booked
),

contact_changes as (
    select
        contact_days.tenant_id,
        edge.edge_date as metric_date,
        coalesce(sum(edge.sign) filter (where contact_days.kind = 'attempted'), 0) as attempted_contacts,
        coalesce(sum(edge.sign) filter (where contact_days.kind = 'booked'), 0) as booked_contacts
    from contact_days
    cross join lateral (values
        (contact_days.occurred_date + 14, 1),
        (least(contact_days.next_date + 14, contact_days.occurred_date + 44), -1)
    ) as edge (edge_date, sign)
    group by contact_days.tenant_id, edge.edge_date
),

daily as (
    select
        days.tenant_id,
        days.metric_date,
        coalesce(sum(recipients_daily.recipients) over matured, 0) as recipients,
        coalesce(sum(recipients_daily.replied) over matured, 0) as replied_recipients,
        coalesce(sum(contact_changes.attempted_contacts) over since_ever, 0) as attempted_contacts,
        coalesce(sum(contact_changes.booked_contacts) over since_ever, 0) as booked_contacts
    from days
    left join recipients_daily using (tenant_id, metric_date)
    left join contact_changes using (tenant_id, metric_date)
    window
        matured as (
            partition by days.tenant_id order by days.metric_date rows between 36 preceding and 7 preceding
        ),
        since_ever as (partition by days.tenant_id order by days.metric_date)
)

select * from daily
where metric_date >= {{ window_start() }} - 29
