-- Bank lines as models see them.

-- labelled --
-- Lines with the newest label that was known before an instant.
select lines.tenant_id, lines.id as txn, lines.post_date, lines.amount_minor, lines.currency, lines.description,
    lines.counterparty, lines.vendor, lines.card, lines.bank_category, label.account_code as account, label.labelled_at
from books.transactions as lines
cross join lateral (
    select account_code, labelled_at from books.labels as labels
    where labels.tenant_id = lines.tenant_id and labels.txn_id = lines.id and labels.labelled_at < cast(:before as timestamptz)
    order by labels.number desc
    limit 1
) as label
where lines.tenant_id = any(cast(:tenants as uuid[])) and lines.post_date >= :since
order by lines.tenant_id, lines.post_date, lines.id

-- labelled_around --
-- The same of a tenant's own lines, and of those that others it learns with have of some vendors.
select lines.tenant_id, lines.id as txn, lines.post_date, lines.vendor, lines.card, label.account_code as account, label.labelled_at
from books.transactions as lines
cross join lateral (
    select account_code, labelled_at from books.labels as labels
    where labels.tenant_id = lines.tenant_id and labels.txn_id = lines.id and labels.labelled_at < cast(:before as timestamptz)
    order by labels.number desc
    limit 1
) as label
where lines.post_date >= :since and (
    lines.tenant_id = :tenant_id
    or lines.tenant_id = any(cast(:others as uuid[])) and lines.vendor = any(cast(:vendors as text[]))
)
order by lines.tenant_id, lines.post_date, lines.id

-- open --
-- Lines that nobody labelled by then, and about which these versions have not decided, or of which there is news.
select lines.tenant_id, lines.id as txn, lines.post_date, lines.amount_minor, lines.currency, lines.description,
    lines.counterparty, lines.vendor, lines.card, lines.bank_category, null as account, null::timestamptz as labelled_at,
    lines.bank_account_id
from books.transactions as lines
where lines.tenant_id = :tenant_id
    and not exists (
        select from books.labels as labels
        where labels.tenant_id = lines.tenant_id and labels.txn_id = lines.id and labels.labelled_at < cast(:at as timestamptz)
    )
    and not exists (
        select from books.decisions as decisions
        where decisions.tenant_id = lines.tenant_id and decisions.txn_id = lines.id
            and decisions.model_version = any(cast(:models as text[]))
            and (decisions.calibrator_version, decisions.ruleset_version, decisions.config_version)
                = (:calibrator_version, :ruleset_version, :config_version)
            and decisions.txn_id <> all(cast(:news as uuid[]))
    )
    and not exists (
        select from books.settled_lines as settled
        where settled.tenant_id = lines.tenant_id and settled.txn_id = lines.id
    )
order by lines.post_date, lines.id

-- logged --
-- Decisions with what a person said afterwards, where the decision was logged before: what calibrators and certificates
-- are made of. A line that was decided several times counts with the first.
select distinct on (decisions.tenant_id, decisions.txn_id)
    decisions.tenant_id, decisions.txn_id as txn, decisions.number, decisions.decided_at, decisions.proposed_account as proposed,
    coalesce(confidence.confidence, decisions.raw_p) as raw_p, decisions.calibrated_p, decisions.threshold, decisions.verdict,
    decisions.is_audited, decisions.explain ? 'brake' as held, decisions.is_new_vendor, decisions.vendor, decisions.model_version, lines.post_date, lines.amount_minor, lines.card, label.account_code as account,
    label.source as label_source, label.labelled_at
from books.decisions as decisions
inner join books.transactions as lines on lines.tenant_id = decisions.tenant_id and lines.id = decisions.txn_id
left join books.decision_confidence as confidence
    on confidence.tenant_id = decisions.tenant_id and confidence.number = decisions.number
cross join lateral (
    select account_code, source, labelled_at from books.labels as labels
    where labels.tenant_id = decisions.tenant_id and labels.txn_id = decisions.txn_id
        and labels.labelled_at < cast(:before as timestamptz)
    order by labels.number desc
    limit 1
) as label
where decisions.tenant_id = any(cast(:tenants as uuid[])) and decisions.decided_at >= cast(:since as timestamptz)
    and label.labelled_at > decisions.decided_at
order by decisions.tenant_id, decisions.txn_id, decisions.number

-- seen --
-- What confidences were made of, with the decisions from an instant on.
select confidence.tenant_id, confidence.number, confidence.seen
from books.decision_confidence as confidence
inner join books.decisions as decisions
    on decisions.tenant_id = confidence.tenant_id and decisions.number = confidence.number
where decisions.tenant_id = any(cast(:tenants as uuid[])) and decisions.decided_at >= cast(:since as timestamptz)

-- register --
insert into books.models (
    tenant_id, version, pool, place, sha256, trained_before, trained_at, label_count, parameters, metrics
)
select tenant_id, :version, :pool, :place, :sha256, :trained_before, :at, :label_count, :parameters, :metrics
from unnest(cast(:tenants as uuid[])) as tenant_id
on conflict (tenant_id, version) do nothing

-- active --
select version, pool, place, sha256, trained_before, trained_at, label_count, metrics from books.models
where tenant_id = :tenant_id and status = 'active'

-- retire --
update books.models set status = 'retired', reason = :reason where tenant_id = :tenant_id and status = 'active'

-- settle --
-- A candidate, or one that held before.
update books.models set status = :status, reason = :reason
where tenant_id = :tenant_id and version = :version and status in ('candidate', 'retired')

-- named --
select version, place, sha256 from books.models where tenant_id = :tenant_id and version = :version

-- pools --
-- Tenants by whom they learn with: the newest settings say so; nobody, unless they do.
select settings.tenant_id, settings.payload ->> 'pool' as pool
from books.books_settings as settings
where settings.version = (
    select max(newest.version) from books.books_settings as newest where newest.tenant_id = settings.tenant_id
)
order by pool, settings.tenant_id

-- candidates --
select tenant_id, version, pool, label_count, metrics from books.models
where status = 'candidate' and trained_before = cast(:before as timestamptz)
order by pool, version, tenant_id

-- unseen --
select labels.tenant_id
from books.labels as labels
left join lateral (
    select fitted_at from books.calibrators as calibrators
    where calibrators.tenant_id = labels.tenant_id
    order by fitted_at desc
    limit 1
) as newest on true
where labels.labelled_at >= coalesce(newest.fitted_at, '-infinity')
group by labels.tenant_id
having count(*) >= :many or min(labels.labelled_at) <= cast(:since as timestamptz)
