-- Further meters, and what they came to.

-- end --
update usage.usage_meters set ended_at = :at where tenant_id = :tenant_id and name = :name and ended_at is null

-- values --
-- Of a month, by site.
select sites.public_id as site, meters.name as meter, meters.kind, count(*) as events,
    case meters.kind
        when 'count' then count(*)
        when 'sum' then sum(read.value)
        when 'max' then max(read.value)
        else count(distinct read.told)
    end as value
from usage.usage_meter_values as read
inner join usage.usage_meters as meters on meters.tenant_id = read.tenant_id and meters.name = read.meter
inner join usage.sites as sites on sites.tenant_id = read.tenant_id and sites.id = read.site_id
where read.tenant_id = :tenant_id and read.year_month = :month
    and read.created_at >= :begins and read.created_at < :ends
group by sites.public_id, meters.name, meters.kind
order by sites.public_id, meters.name
