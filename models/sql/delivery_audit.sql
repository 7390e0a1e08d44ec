-- append --
-- The caller holds the chain's row, a run or a job, so that numbers follow one another.
insert into delivery.audit_events (tenant_id, chain, number, at, actor, event, detail, previous_hash, hash)
select :tenant_id, :chain, number, :at, :actor, :event, detail, previous,
    delivery.item_key(previous, cast(:tenant_id as text), cast(:chain as text), number::text, extract(epoch from cast(:at as timestamptz))::text,
        :actor, :event, detail::text)
from (
    select coalesce(max(last.number), 0) + 1 as number, coalesce(max(last.hash), '') as previous, cast(:detail as jsonb) as detail
    from (
        select number, hash from delivery.audit_events
        where tenant_id = :tenant_id and chain = :chain
        order by number desc limit 1
    ) as last
) as new

-- broken --
-- Chains of a tenant, all or those named, whose rows do not follow from one another, with the first row that does not.
select chain, min(number) as number
from (
    select chain, number, hash,
        row_number() over (partition by chain order by number) as place,
        coalesce(lag(hash) over (partition by chain order by number), '') as before, previous_hash,
        delivery.item_key(previous_hash, tenant_id::text, chain::text, number::text, extract(epoch from at)::text, actor,
            event, detail::text) as wanted
    from delivery.audit_events
    where tenant_id = :tenant_id and (cast(:chains as uuid[]) is null or chain = any(cast(:chains as uuid[])))
) as events
where number <> place or previous_hash <> before or hash <> wanted
group by chain
order by chain
