-- What people are told of usage: thresholds of sites that were passed, and alarms of the watch.

-- begin --
insert into usage.usage_alarms (tenant_id, check_name, status, told, began_at)
select seen.*, :at
from unnest(cast(:tenants as uuid[]), cast(:checks as text[]), cast(:statuses as text[]), cast(:told as text[])) as seen
on conflict (check_name, tenant_id) where ended_at is null do nothing

-- go_on --
-- What is told at the moment is left as it is: whoever looks next finds it free.
update usage.usage_alarms as alarms set status = seen.status, told = seen.told
from unnest(cast(:tenants as uuid[]), cast(:checks as text[]), cast(:statuses as text[]), cast(:told as text[]))
    as seen (tenant_id, check_name, status, told)
where (alarms.tenant_id, alarms.check_name) = (seen.tenant_id, seen.check_name)
    and (alarms.status, alarms.told) <> (seen.status, seen.told)
    and (alarms.tenant_id, alarms.check_name, alarms.began_at) in (
        select tenant_id, check_name, began_at from usage.usage_alarms where ended_at is null for update skip locked
    )

-- end --
update usage.usage_alarms as alarms set ended_at = :at
where (alarms.tenant_id, alarms.check_name, alarms.began_at) in (
    select tenant_id, check_name, began_at from usage.usage_alarms
    where ended_at is null
        and (tenant_id, check_name) not in (select * from unnest(cast(:tenants as uuid[]), cast(:checks as text[])))
    for update skip locked
)

-- hold_alarms --
-- Of a check: what began, got worse or goes on for a day, and what ended and was not told yet. Whoever tells one at the
-- moment is left alone.
select alarms.tenant_id, tenants.slug as tenant, alarms.began_at, alarms.ended_at, alarms.status, alarms.told,
    alarms.told_status
from usage.usage_alarms as alarms
inner join spine.tenants as tenants on tenants.id = alarms.tenant_id
where alarms.check_name = :check and (
    alarms.ended_at is null and (
        alarms.told_at is null
        or alarms.told_at <= cast(:at as timestamptz) - interval '24 hours'
        or array_position(cast(:severity as text[]), alarms.status) > array_position(cast(:severity as text[]), alarms.told_status)
    )
    or alarms.ended_at is not null and alarms.told_status is distinct from 'ok'
)
order by tenants.slug, alarms.began_at
for update of alarms skip locked

-- alarms_told --
update usage.usage_alarms as alarms
set told_at = :at, told_status = case when alarms.ended_at is null then alarms.status else 'ok' end
from unnest(cast(:tenants as uuid[]), cast(:began as timestamptz[])) as said (tenant_id, began_at)
where alarms.check_name = :check and alarms.tenant_id = said.tenant_id and alarms.began_at = said.began_at

-- hold_notice --
-- The oldest that nobody was told of, after the one that was tried last. What is older than a week is history: it is not told when somebody listens at last.
select notices.*, tenants.slug as tenant, sites.public_id as site
from usage.usage_notices as notices
inner join spine.tenants as tenants on tenants.id = notices.tenant_id
inner join usage.sites as sites on sites.tenant_id = notices.tenant_id and sites.id = notices.site_id
where notices.told_at is null and notices.created_at > cast(:at as timestamptz) - interval '7 days'
    and (
        cast(:created_at as timestamptz) is null
        or (notices.created_at, notices.site_id, notices.year_month, notices.threshold)
            > (cast(:created_at as timestamptz), cast(:site_id as uuid), cast(:month as text), cast(:threshold as int))
    )
order by notices.created_at, notices.site_id, notices.year_month, notices.threshold
limit 1
for update of notices skip locked

-- notice_told --
update usage.usage_notices set told_at = :at
where tenant_id = :tenant_id and site_id = :site_id and year_month = :month and threshold = :threshold
