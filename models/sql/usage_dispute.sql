-- by_pages --
-- For reading a whole month: keys are digests, so an index of them leads to another page for each row, where sorting the
-- rows costs a part of that. Two processes read and sort. Until it is said to be over, or the transaction is.
select set_config('enable_indexscan', case when :is_begun then 'off' end, true),
    set_config('max_parallel_workers_per_gather', case when :is_begun then '1' end, true)

-- lines --
-- The rows of a site's month as lines of a dispute file, for COPY in CSV. Texts with letters that would end a line, hide,
-- or be calculated by a spreadsheet are written anew; the others, nearly all, as they stand.
select
    to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24\:MI\:SS.US"Z"') as created_at,
    coalesce(texts[1], idempotency_key) as idempotency_key,
    idempotency_version,
    billable::text as billable,
    billing_state,
    coalesce(texts[2], billing_reason) as billing_reason,
    coalesce(texts[3], event_category) as event_category,
    coalesce(texts[4], event_action) as event_action,
    coalesce(texts[5], event_label) as event_label,
    to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24\:MI\:SS.US"Z"') as occurred_at,
    plan_id as plan,
    year_month
from (
    select ledger.*, case when ledger.is_odd then (
        select array_agg(
            regexp_replace(plain.text, '(^|;)(?= *[''=+@\uff1d\uff0b\uff20\uff0d-])', '\1''', 'g') order by texts.number
        )
        from unnest(
            array[ledger.idempotency_key, ledger.billing_reason, ledger.event_category, ledger.event_action, ledger.event_label]
        ) with ordinality as texts (text, number)
        left join lateral (
            -- One letter after the other, each wherever it stands: what a text costs grows with its length, whatever it
            -- holds. The backslash is the first, as all others become one.
            with recursive steps (text, letters) as (
                select
                    replace(texts.text, '\', '\u005c'),
                    regexp_replace(
                        texts.text,
                        '[^\u0001-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+', '', 'g'
                    )
                union all
                select
                    replace(text, left(letters, 1), '\u' || lpad(to_hex(ascii(letters)), 4, '0')),
                    replace(letters, left(letters, 1), '')
                from steps
                where letters <> ''
            )
            select text from steps where letters = ''
        ) as plain on true
    ) end as texts
    from (
        select ingested.*, concat_ws(
            ';', idempotency_key, billing_reason, event_category, event_action, event_label
        ) ~ '[\u0001-\u001f\\\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]|(^|;) *[''=+@\uff1d\uff0b\uff20\uff0d-]'
            as is_odd
        from usage.ingest_idempotency as ingested
        where tenant_id = cast(:tenant_id as uuid)
            and site_id = cast(:site_id as uuid)
            and year_month = :year_month
            -- That a month's rows lie together is known of their instants.
            and created_at >= cast(:year_month || '-01' as timestamp) at time zone 'UTC'
            and created_at < (cast(:year_month || '-01' as timestamp) + interval '1 month') at time zone 'UTC'
        order by idempotency_key
        -- So that two processes ask which rows are odd, and only these cost more.
        offset 0
    ) as ledger
    -- So that the texts are made once a row, and not where each of them is asked for.
    offset 0
) as rows
