-- lines --
-- The rows of a site's month as lines of a dispute file, for COPY in CSV. Texts with letters that would end a line, hide,
-- or be calculated by a spreadsheet are written anew, letter by letter; the others, nearly all, as they stand.
select
    to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24\:MI\:SS.US"Z"') as created_at,
    coalesce(odd.texts[1], idempotency_key) as idempotency_key,
    idempotency_version,
    billable::text as billable,
    billing_state,
    coalesce(odd.texts[2], billing_reason) as billing_reason,
    coalesce(odd.texts[3], event_category) as event_category,
    coalesce(odd.texts[4], event_action) as event_action,
    coalesce(odd.texts[5], event_label) as event_label,
    to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24\:MI\:SS.US"Z"') as occurred_at,
    plan_id as plan,
    year_month
from usage.ingest_idempotency as ledger
cross join lateral (
    select array_agg(
        regexp_replace(plain.text, '(^|;)(?= *[''=+@\uff1d\uff0b\uff20\uff0d-])', '\1''', 'g') order by texts.number
    ) as texts
    from unnest(
        array[ledger.idempotency_key, ledger.billing_reason, ledger.event_category, ledger.event_action, ledger.event_label]
    ) with ordinality as texts (text, number)
    cross join lateral (
        select case when texts.text = '' then '' else string_agg(
            case
                when letters.letter ~ '[\u0001-\u001f\\\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]'
                    then '\u' || lpad(to_hex(ascii(letters.letter)), 4, '0')
                else letters.letter
            end,
            '' order by letters.number
        ) end as text
        from regexp_split_to_table(texts.text, '') with ordinality as letters (letter, number)
    ) as plain
    where concat_ws(
        ';', ledger.idempotency_key, ledger.billing_reason, ledger.event_category, ledger.event_action, ledger.event_label
    ) ~ '[\u0001-\u001f\\\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]|(^|;) *[''=+@\uff1d\uff0b\uff20\uff0d-]'
) as odd
where ledger.tenant_id = cast(:tenant_id as uuid)
    and ledger.site_id = cast(:site_id as uuid)
    and ledger.year_month = :year_month
order by ledger.idempotency_key
