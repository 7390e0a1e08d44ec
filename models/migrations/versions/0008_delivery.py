"""Delivery: tables, launch, claiming and completing, in a schema of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from models import rls

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("approvals", "audit_events", "contents", "usage_entries")
_TABLES = (
    "audit_events",
    "consents",
    "epochs",
    "quota_windows",
    "suppressions",
    "workspaces",
    "channel_policies",
    "provider_accounts",
    "contents",
    "provider_batches",
    "approvals",
    "campaign_runs",
    "job_queue",
    "run_recipients",
    "channel_outbox",
    "attempts",
    "provider_events",
    "reconciliation_cases",
    "usage_entries",
)
# Kept to one immutable expression each, so that an audience of a million is one statement.
_ADDRESS = """
create function delivery.normal_address(channel text, email text, phone text) returns text
language sql immutable parallel safe as $$
    select case channel
        when 'email' then nullif(lower(regexp_replace(email, '^\\s+|\\s+$', '', 'g')), '')
        else nullif(regexp_replace(regexp_replace(phone, '[\\s().-]', '', 'g'), '^00', '+'), '')
    end
$$
"""
_IS_ADDRESS = """
create function delivery.is_address(channel text, address text) returns boolean
language sql immutable parallel safe as $$
    select case channel
        when 'email' then length(address) <= 254 and address ~ '^[^\\s@<>,;:"()\\[\\]\\\\]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]([a-z0-9-]*[a-z0-9])$'
        else address ~ '^\\+[1-9][0-9]{6,14}$'
    end
$$
"""

# Version and length-prefixed fields, so that no two lists of fields give one text. Content is no part of it: an edit
# must not send a second time.
_KEY = """
create function delivery.item_key(variadic fields text[]) returns text
language sql immutable parallel safe as $$
    select encode(sha256(convert_to('v1' || string_agg(octet_length(field) || ':' || field, '' order by place), 'UTF8')), 'hex')
    from unnest(fields) with ordinality as given(field, place)
$$
"""

# Who a campaign would reach on a channel, each with the first reason not to. One row a contact of the segment.
_AUDIENCE = """
create function delivery.audience(
    of_tenant uuid, of_campaign uuid, of_workspace uuid, on_channel text, at timestamptz
) returns table (
    recipient_id uuid, address text, variables jsonb, consent_basis text, excluded_because text, is_intended boolean
)
language sql stable as $$
    with policy as materialized (
        select * from delivery.channel_policies
        where tenant_id = of_tenant and workspace_id = of_workspace and channel = on_channel
    ),
    segment as materialized (
        select coalesce(target_segment, '{}'::jsonb) as wanted
        from spine.spine_campaigns where tenant_id = of_tenant and id = of_campaign
    ),
    people as (
        select contacts.id, delivery.normal_address(on_channel, contacts.email, contacts.phone) as address,
            jsonb_strip_nulls(jsonb_build_object(
                'first_name', contacts.first_name, 'last_name', contacts.last_name, 'company', accounts.name
            )) as variables,
            contacts.merged_into_id
        from spine.spine_contacts as contacts
        cross join segment
        left join spine.accounts on accounts.tenant_id = contacts.tenant_id and accounts.id = contacts.account_id
        where contacts.tenant_id = of_tenant
            and (not wanted ? 'lifecycle_stage' or delivery.is_among(wanted -> 'lifecycle_stage', contacts.lifecycle_stage))
            and (not wanted ? 'persona_tag' or delivery.is_among(wanted -> 'persona_tag', contacts.persona_tag))
            and (not wanted ? 'segment' or delivery.is_among(wanted -> 'segment', accounts.segment))
    ),
    numbered as (
        select people.*, row_number() over (partition by people.address order by people.merged_into_id nulls first, people.id) as place
        from people
    ),
    judged as (
        select numbered.id, numbered.address, numbered.variables, consents.basis,
            case
                when numbered.merged_into_id is not null then 'merged'
                when numbered.address is null then 'no_address'
                when not delivery.is_address(on_channel, numbered.address) then 'invalid_address'
                when numbered.place > 1 then 'duplicate_address'
            end as unreachable,
            case
                when suppressed.reason is not null then suppressed.reason
                when policy.needs_consent and consents.basis is null then 'no_consent'
                when policy.person_cap is not null and (
                    select count(*) from (
                        select from delivery.channel_outbox as earlier
                        where earlier.tenant_id = of_tenant and earlier.channel = on_channel
                            and earlier.address = numbered.address and earlier.status in ('sent', 'called', 'posted')
                            and earlier.settled_at > at - make_interval(days => policy.person_cap_days)
                        limit policy.person_cap
                    ) as lately
                ) >= policy.person_cap then 'person_cap'
            end as suppressed_because
        from numbered
        cross join policy
        left join lateral (
            select reason from delivery.suppressions
            where suppressions.tenant_id = of_tenant and suppressions.address = numbered.address
                and suppressions.channel in (on_channel, 'all')
            order by created_at limit 1
        ) as suppressed on true
        left join delivery.consents on consents.tenant_id = of_tenant and consents.channel = on_channel
            and consents.address = numbered.address
    )
    select id, address, variables, basis, coalesce(unreachable, suppressed_because), unreachable is null
    from judged
    order by id
$$
"""
_IS_AMONG = """
create function delivery.is_among(wanted jsonb, value text) returns boolean
language sql immutable parallel safe as $$
    select case jsonb_typeof(wanted) when 'array' then wanted ? value else wanted = to_jsonb(value) end
$$
"""

_PREREQUISITES = """
create function delivery.check_campaign_launch_prerequisites(
    campaign uuid, tenant uuid, on_channel text default null, on_step int default null, at timestamptz default clock_timestamp()
) returns jsonb
language plpgsql stable as $$
declare
    found_tenant spine.tenants;
    found_campaign spine.spine_campaigns;
    content delivery.contents;
    account delivery.provider_accounts;
    policy delivery.channel_policies;
    approval delivery.approvals;
    channels text[];
    unknown_fields text;
    needed jsonb := '[]';
begin
    select * into found_tenant from spine.tenants where id = tenant;
    select * into found_campaign from spine.spine_campaigns where tenant_id = tenant and id = campaign;
    needed := needed || delivery.requirement('campaign_exists', 'Campaign', found_campaign.id is not null,
        'the tenant has no such campaign: see revenue-os campaign list');
    needed := needed || delivery.requirement('tenant_active', 'Tenant', coalesce(found_tenant.status <> 'suspended', false),
        'the tenant is suspended: nothing is sent for it');
    needed := needed || delivery.requirement('campaign_open', 'Campaign is open',
        coalesce(found_campaign.status not in ('completed', 'archived'), true),
        format('the campaign is %s: nothing is launched from it', found_campaign.status));
    select array_agg(distinct contents.channel order by contents.channel) into channels
    from delivery.contents where tenant_id = tenant and campaign_id = campaign;
    if on_channel is null and cardinality(channels) = 1 then on_channel := channels[1]; end if;
    if on_channel is null then
        needed := needed || delivery.requirement('channel_supported', 'Channel', false,
            case when channels is null then 'the campaign has nothing to send: write its content first'
                else format('the campaign has content for %s: name one channel', array_to_string(channels, ', ')) end);
        return delivery.prerequisites(null, null, needed);
    end if;
    needed := needed || delivery.requirement('channel_supported', 'Channel', on_channel in ('email', 'sms', 'voice'),
        format('channel %s cannot be launched: use email, sms or voice', on_channel));
    select * into content from delivery.contents
    where tenant_id = tenant and campaign_id = campaign and contents.channel = on_channel
        and (on_step is null or contents.step = on_step)
    order by contents.step desc, version desc limit 1;
    needed := needed || delivery.requirement('content', 'Content', content.id is not null,
        format('the campaign has no content for %s%s: write it first', on_channel, ' step ' || on_step));
    if content.id is null then return delivery.prerequisites(on_channel, null, needed); end if;

    select * into approval from delivery.approvals
    where tenant_id = tenant and content_id = content.id and content_hash = content.content_hash
    order by expires_at desc limit 1;
    needed := needed || delivery.requirement('content_approved', 'Approval', coalesce(approval.expires_at > at, false),
        case when approval.id is null then format('version %s of the content is not approved: have somebody else approve it', content.version)
            else format('the approval ran out at %s: have it approved anew', approval.expires_at) end);
    select * into account from delivery.provider_accounts where tenant_id = tenant and id = content.account_id;
    needed := needed || delivery.requirement(on_channel || '_connected', 'Provider', account.is_connected,
        format('account %s is not connected: test it first', account.name));
    needed := needed || delivery.requirement('provider_running', 'Kill switch', account.stopped_at is null,
        format('account %s was stopped: %s', account.name, account.stop_reason));
    needed := needed || delivery.requirement(
        case on_channel when 'email' then 'from_address' else 'phone_number' end, 'Sender',
        coalesce(btrim(account.sender), '') <> '',
        format('account %s has no sender: set it first', account.name));
    select * into policy from delivery.channel_policies
    where tenant_id = tenant and workspace_id = content.workspace_id and channel_policies.channel = on_channel;
    needed := needed || delivery.requirement('policy', 'Rules of the channel', policy.channel is not null,
        format('the workspace has no rules for %s: set them first', on_channel));
    needed := needed || delivery.requirement('unsubscribe', 'Unsubscribe link',
        not coalesce(policy.needs_unsubscribe, false)
            or position('{{unsubscribe_url}}' in content.body) > 0 and coalesce(account.config ->> 'unsubscribe_base', '') <> '',
        'the content lacks {{unsubscribe_url}}, or its account unsubscribe_base: the rules of the channel ask for both');
    needed := needed || delivery.requirement('account_unchanged', 'Account as approved', content.content_hash = delivery.item_key(
            content.channel, content.account_id::text, coalesce(account.sender, ''), coalesce(account.config ->> 'unsubscribe_base', ''),
            content.subject, content.body),
        format('the sender or unsubscribe link of account %s is another since the content was written: write it anew', account.name));
    select string_agg(field, ', ') into unknown_fields
    from jsonb_object_keys(case jsonb_typeof(found_campaign.target_segment) when 'object' then found_campaign.target_segment else '{}' end) as field
    where field not in ('lifecycle_stage', 'persona_tag', 'segment');
    needed := needed || delivery.requirement('audience', 'Audience', unknown_fields is null,
        format('target_segment has %s: use lifecycle_stage, persona_tag and segment', unknown_fields));
    return delivery.prerequisites(on_channel, content.id, needed) || jsonb_build_object('approval_id', approval.id);
end $$
"""
_REQUIREMENT = """
create function delivery.requirement(id text, name text, pass boolean, message text) returns jsonb
language sql immutable as $$
    select jsonb_build_array(jsonb_build_object(
        'id', id, 'name', name, 'pass', coalesce(pass, false), 'message', case when coalesce(pass, false) then 'ok' else message end
    ))
$$
"""
_PREREQUISITES_SHAPE = """
create function delivery.prerequisites(channel text, content_id uuid, requirements jsonb) returns jsonb
language sql immutable as $$
    select jsonb_build_object(
        'pass', (select bool_and((each ->> 'pass')::boolean) from jsonb_array_elements(requirements) as each),
        'channel', channel, 'content_id', content_id, 'requirements', requirements
    )
$$
"""

# Everything of a launch in one transaction; a refusal leaves nothing behind. Called for the pinned tenant alone.
_DEPLOY = """
create function delivery.deploy_campaign(campaign uuid, options jsonb default '{}') returns jsonb
language plpgsql as $$
declare
    tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
    at timestamptz := coalesce((options ->> 'at')::timestamptz, clock_timestamp());
    request text := coalesce(options ->> 'request_id', gen_random_uuid()::text);
    chunk_size int := coalesce((options ->> 'chunk_size')::int, 500);
    new_run uuid := gen_random_uuid();
    checked jsonb;
    content delivery.contents;
    account delivery.provider_accounts;
    approval delivery.approvals;
    earlier delivery.campaign_runs;
    counted bigint;
    sendable bigint;
begin
    if tenant is null then
        return jsonb_build_object('success', false, 'error', 'no_tenant', 'message', 'no tenant is pinned: name the tenant');
    end if;
    -- Two launches at once: the second waits here and then finds the first.
    perform from spine.spine_campaigns where tenant_id = tenant and id = campaign for no key update;
    select * into earlier from delivery.campaign_runs where tenant_id = tenant and request_id = request;
    if found then
        if earlier.campaign_id <> campaign then
            return jsonb_build_object('success', false, 'error', 'request_id_taken',
                'message', format('request %s launched another campaign: give a new one', request));
        end if;
        return jsonb_build_object('success', true, 'run_id', earlier.id, 'replayed', true, 'message', 'was launched already');
    end if;
    checked := delivery.check_campaign_launch_prerequisites(
        campaign, tenant, options ->> 'channel', (options ->> 'step')::int, at);
    if not (checked ->> 'pass')::boolean then
        return jsonb_build_object('success', false, 'error', 'prerequisites', 'prerequisites', checked -> 'requirements',
            'message', (select string_agg(each ->> 'message', '; ') from jsonb_array_elements(checked -> 'requirements') as each
                where not (each ->> 'pass')::boolean));
    end if;
    select * into content from delivery.contents where tenant_id = tenant and id = (checked ->> 'content_id')::uuid;
    select * into account from delivery.provider_accounts where tenant_id = tenant and id = content.account_id;
    select * into approval from delivery.approvals where tenant_id = tenant and id = (checked ->> 'approval_id')::uuid;
    if options ? 'content_hash' and options ->> 'content_hash' <> content.content_hash then
        return jsonb_build_object('success', false, 'error', 'content_changed',
            'message', 'the content is not what was shown: preview it again');
    end if;
    begin
        insert into delivery.campaign_runs (
            tenant_id, id, workspace_id, campaign_id, channel, step, occurrence, content_id, content_hash, account_id,
            request_id, scheduled_for, time_zone, expires_at, root_run_id, approved_by, approved_at, approval_expires_at,
            run_config, created_by, created_at
        ) values (
            tenant, new_run, content.workspace_id, campaign, content.channel, content.step,
            coalesce(options ->> 'occurrence', 'once'), content.id, content.content_hash, content.account_id,
            request, coalesce((options ->> 'scheduled_for')::timestamptz, at), coalesce(options ->> 'time_zone', 'UTC'),
            (options ->> 'expires_at')::timestamptz, new_run, approval.approved_by, approval.approved_at, approval.expires_at,
            coalesce(options -> 'run_config', '{}'), coalesce(options ->> 'actor', session_user), at
        );
        insert into delivery.run_recipients (
            tenant_id, run_id, ordinal, recipient_id, address, variables, consent_basis, excluded_because, item_id
        )
        select tenant, new_run, row_number() over (order by recipient_id), recipient_id, address, variables, consent_basis,
            excluded_because, case when is_intended then gen_random_uuid() end
        from delivery.audience(tenant, campaign, content.workspace_id, content.channel, at);
        select count(*), count(*) filter (where excluded_because is null) into counted, sendable
        from delivery.run_recipients where tenant_id = tenant and run_id = new_run and item_id is not null;
        if counted = 0 then
            raise exception 'the audience is empty: nobody of the segment has an address for %', content.channel
                using errcode = 'RO001';
        end if;
        with placed as materialized (
            select recipients.*, (row_number() over (order by excluded_because nulls first, ordinal) - 1) / chunk_size as chunk
            from delivery.run_recipients as recipients
            where tenant_id = tenant and run_id = new_run and item_id is not null
        ),
        jobs as (
            insert into delivery.job_queue (tenant_id, workspace_id, run_id, job_type, chunk, scheduled_for, created_at)
            select tenant, content.workspace_id, new_run,
                case content.channel when 'email' then 'email_send_batch' when 'sms' then 'sms_send_batch' else 'voice_call_batch' end,
                chunk, coalesce((options ->> 'scheduled_for')::timestamptz, at), at
            from placed group by chunk
            returning id, chunk
        )
        insert into delivery.channel_outbox (
            tenant_id, id, workspace_id, run_id, root_run_id, job_id, ordinal, channel, provider, step, recipient_id, address,
            idempotency_key, status, skipped, skip_reason, settled_at, created_at
        )
        select tenant, placed.item_id, content.workspace_id, new_run, new_run, jobs.id, placed.ordinal, content.channel,
            account.provider, content.step, placed.recipient_id, placed.address,
            delivery.item_key(tenant::text, content.workspace_id::text, new_run::text, content.channel, content.step::text,
                placed.address, coalesce(options ->> 'occurrence', 'once')),
            case when excluded_because is null then 'queued' else 'skipped' end,
            excluded_because is not null, excluded_because, case when excluded_because is not null then at end, at
        from placed inner join jobs on jobs.chunk = placed.chunk;
    exception
        when unique_violation then
            select * into earlier from delivery.campaign_runs
            where tenant_id = tenant and campaign_id = campaign and channel = content.channel and step = content.step
                and occurrence = coalesce(options ->> 'occurrence', 'once') and retry_of_run_id is null;
            if not found then raise; end if;
            return jsonb_build_object('success', false, 'error', 'already_launched', 'run_id', earlier.id,
                'message', 'this step went out before: retry that run, or write a new step to contact the same people again');
        when sqlstate 'RO001' then
            return jsonb_build_object('success', false, 'error', 'empty_audience', 'message', sqlerrm);
    end;
    update delivery.campaign_runs set intended = counted, suppressed = counted - sendable
    where tenant_id = tenant and id = new_run;
    return jsonb_build_object('success', true, 'run_id', new_run, 'replayed', false, 'channel', content.channel,
        'provider', account.provider, 'intended', counted, 'suppressed', counted - sendable,
        'jobs', (select count(*) from delivery.job_queue where tenant_id = tenant and run_id = new_run),
        'message', format('%s recipients are queued', sendable));
end $$
"""

# Tenants in turn from a random one on, a job of each and then the next round, each at most 25 leased jobs at a time. A
# round goes no further than it has to: its cost is that of what is claimed, not of what waits.
_CLAIM = """
create function delivery.claim_queued_jobs(
    worker text, max_jobs int default 200, lease interval default '5 minutes', at timestamptz default clock_timestamp()
) returns setof delivery.job_queue
language plpgsql as $$
declare
    start uuid := gen_random_uuid();
    this uuid;
    is_past boolean;
    taken int := 0;
    before int;
    found_one int;
begin
    loop
        before := taken;
        this := start;
        is_past := false;
        while taken < max_jobs loop
            select jobs.tenant_id into this from delivery.job_queue as jobs
            where jobs.status = 'queued' and jobs.tenant_id > this and (not is_past or jobs.tenant_id <= start)
            order by jobs.tenant_id limit 1;
            if this is null then
                exit when is_past;
                is_past := true;
                this := '00000000-0000-0000-0000-000000000000';
                continue;
            end if;
            continue when 25 <= (
                select count(*) from delivery.job_queue as jobs where jobs.tenant_id = this and jobs.status = 'locked'
            );
            return query
            with due as materialized (
                select jobs.tenant_id, jobs.id from delivery.job_queue as jobs
                where jobs.tenant_id = this and jobs.status = 'queued' and jobs.scheduled_for <= at
                order by jobs.scheduled_for, jobs.id
                limit 1
                for update skip locked
            )
            update delivery.job_queue as jobs
            set status = 'locked', locked_at = at, locked_by = worker, lease_token = jobs.lease_token + 1,
                lease_expires_at = at + lease, started_at = coalesce(jobs.started_at, at), updated_at = at
            from due where jobs.tenant_id = due.tenant_id and jobs.id = due.id
            returning jobs.*;
            get diagnostics found_one = row_count;
            taken := taken + found_one;
        end loop;
        exit when taken >= max_jobs or taken = before;
    end loop;
end $$
"""

_COMPLETE = """
create function delivery.complete_job(
    job uuid, success boolean, message text default null, token bigint default null, at timestamptz default clock_timestamp()
) returns void
language plpgsql as $$
declare
    tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
    found_job delivery.job_queue;
begin
    select * into found_job from delivery.job_queue where tenant_id = tenant and id = job for update;
    if not found then
        raise exception 'the tenant has no job %', job using errcode = 'no_data_found';
    end if;
    if found_job.status <> 'locked' or (token is not null and token <> found_job.lease_token)
        or (token is null and not success) then
        raise exception 'the lease on job % is not held: nothing was changed', job using errcode = 'object_not_in_prerequisite_state';
    end if;
    if success then
        if exists (
            with held as materialized (select found_job.tenant_id, found_job.id)
            select from held
            inner join delivery.channel_outbox as items on items.tenant_id = held.tenant_id and items.job_id = held.id
            where items.status in ('queued', 'dispatching')
        ) then
            raise exception 'job % has items without an outcome: it is not complete', job
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        update delivery.job_queue
        set status = 'completed', completed_at = at, lease_expires_at = null, last_error = null, updated_at = at
        where tenant_id = tenant and id = job;
        return;
    end if;
    update delivery.job_queue
    set status = case when attempts + 1 >= max_attempts then 'dead' else 'queued' end, attempts = attempts + 1,
        scheduled_for = at + make_interval(secs => least(power(2, attempts), 60)), lease_expires_at = null,
        last_error = coalesce(message, 'no reason was given'), updated_at = at
    where tenant_id = tenant and id = job;
end $$
"""
_FUNCTIONS = (
    _ADDRESS, _IS_ADDRESS, _KEY, _IS_AMONG, _AUDIENCE, _REQUIREMENT, _PREREQUISITES_SHAPE, _PREREQUISITES, _DEPLOY,
    _CLAIM, _COMPLETE,
)  # fmt: skip


def upgrade() -> None:
    op.execute("create schema delivery")
    for statement in rls.grant_usage(["delivery"]):
        op.execute(statement)
    _create_tables()
    # An item is written three times: with room on its page no index has to follow.
    op.execute("alter table delivery.channel_outbox set (fillfactor = 60)")
    for name in _TABLES:
        for statement in rls.protect(f"delivery.{name}", append_only=name in _APPEND_ONLY):
            op.execute(statement)
    for function in _FUNCTIONS:
        op.execute(function)
    # Only the service launches, claims and completes; what a member may read, it reads from the tables.
    op.execute("revoke execute on all functions in schema delivery from public")
    op.execute(f"grant execute on all functions in schema delivery to {rls.SERVICE}")


def _create_tables() -> None:
    op.create_table(
        "usage_entries",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("units", sa.Numeric(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind in ('reserve', 'commit', 'release')", name=op.f("usage_entries_kind_check")),
        sa.PrimaryKeyConstraint("tenant_id", "attempt_id", "meter", "kind", name=op.f("usage_entries_pkey")),
        schema="delivery",
    )
    op.create_table(
        "audit_events",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("chain", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("detail", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("audit_events_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "chain", "number", name=op.f("audit_events_pkey")),
        schema="delivery",
    )
    op.create_table(
        "consents",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "basis in ('consent', 'contract', 'legitimate_interest')", name=op.f("consents_basis_check")
        ),
        sa.CheckConstraint("channel in ('email', 'sms', 'voice')", name=op.f("consents_channel_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("consents_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "channel", "address", name=op.f("consents_pkey")),
        schema="delivery",
    )
    op.create_table(
        "epochs",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("system_identifier", sa.Text(), nullable=False),
        sa.Column("timeline", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fenced_items", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("epochs_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "number", name=op.f("epochs_pkey")),
        schema="delivery",
    )
    op.create_table(
        "quota_windows",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("span", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("span in ('hour', 'day')", name=op.f("quota_windows_span_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("quota_windows_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "workspace_id", "channel", "span", "starts_at", name=op.f("quota_windows_pkey")
        ),
        schema="delivery",
    )
    op.create_table(
        "suppressions",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "channel in ('email', 'sms', 'voice', 'all')", name=op.f("suppressions_channel_check")
        ),
        sa.CheckConstraint(
            "reason in ('opt_out', 'bounce', 'complaint', 'do_not_call', 'manual')",
            name=op.f("suppressions_reason_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("suppressions_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "channel", "address", name=op.f("suppressions_pkey")),
        schema="delivery",
    )
    op.create_table(
        "workspaces",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("workspaces_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("workspaces_pkey")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("workspaces_tenant_id_name_key")),
        schema="delivery",
    )
    op.create_table(
        "channel_policies",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("hourly_cap", sa.BigInteger(), nullable=True),
        sa.Column("daily_cap", sa.BigInteger(), nullable=True),
        sa.Column("person_cap", sa.Integer(), nullable=True),
        sa.Column("person_cap_days", sa.Integer(), server_default="7", nullable=False),
        sa.Column("needs_consent", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("needs_unsubscribe", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("quiet_from", sa.Time(), nullable=True),
        sa.Column("quiet_until", sa.Time(), nullable=True),
        sa.Column("time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "channel in ('email', 'sms', 'voice')", name=op.f("channel_policies_channel_check")
        ),
        sa.CheckConstraint(
            "(quiet_from is null) = (quiet_until is null)", name=op.f("channel_policies_quiet_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "workspace_id"],
            ["delivery.workspaces.tenant_id", "delivery.workspaces.id"],
            name=op.f("channel_policies_tenant_id_workspace_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("channel_policies_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "workspace_id", "channel", name=op.f("channel_policies_pkey")),
        schema="delivery",
    )
    op.create_table(
        "provider_accounts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("config", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("secret_env", sa.Text(), nullable=True),
        sa.Column("is_connected", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stopped_by", sa.Text(), nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "channel in ('email', 'sms', 'voice')", name=op.f("provider_accounts_channel_check")
        ),
        sa.CheckConstraint(
            "provider in ('smtp', 'resend', 'twilio', 'vapi', 'webhook', 'file', 'simulator', 'memory')",
            name=op.f("provider_accounts_provider_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "workspace_id"],
            ["delivery.workspaces.tenant_id", "delivery.workspaces.id"],
            name=op.f("provider_accounts_tenant_id_workspace_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("provider_accounts_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("provider_accounts_pkey")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("provider_accounts_tenant_id_name_key")),
        schema="delivery",
    )
    op.create_table(
        "contents",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), server_default="1", nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("channel in ('email', 'sms', 'voice')", name=op.f("contents_channel_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["delivery.provider_accounts.tenant_id", "delivery.provider_accounts.id"],
            name=op.f("contents_tenant_id_account_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "campaign_id"],
            ["spine.spine_campaigns.tenant_id", "spine.spine_campaigns.id"],
            name=op.f("contents_tenant_id_campaign_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "workspace_id"],
            ["delivery.workspaces.tenant_id", "delivery.workspaces.id"],
            name=op.f("contents_tenant_id_workspace_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("contents_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("contents_pkey")),
        sa.UniqueConstraint(
            "tenant_id",
            "campaign_id",
            "channel",
            "step",
            "version",
            name=op.f("contents_tenant_id_campaign_id_channel_step_version_key"),
        ),
        schema="delivery",
    )
    op.create_table(
        "provider_batches",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_ids", pg.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("provider_key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["delivery.provider_accounts.tenant_id", "delivery.provider_accounts.id"],
            name=op.f("provider_batches_tenant_id_account_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("provider_batches_pkey")),
        schema="delivery",
    )
    op.create_index(
        "provider_batches_key",
        "provider_batches",
        ["provider_key", "tenant_id"],
        unique=True,
        schema="delivery",
    )
    op.create_table(
        "approvals",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("content_id", sa.Uuid(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "content_id"],
            ["delivery.contents.tenant_id", "delivery.contents.id"],
            name=op.f("approvals_tenant_id_content_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("approvals_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("approvals_pkey")),
        schema="delivery",
    )
    op.create_index(
        op.f("approvals_tenant_id_content_id_idx"),
        "approvals",
        ["tenant_id", "content_id"],
        unique=False,
        schema="delivery",
    )
    op.create_table(
        "campaign_runs",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("occurrence", sa.Text(), server_default="once", nullable=False),
        sa.Column("content_id", sa.Uuid(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=False),
        sa.Column("time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_of_run_id", sa.Uuid(), nullable=True),
        sa.Column("root_run_id", sa.Uuid(), nullable=False),
        sa.Column("intended", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("accepted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rejected", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("suppressed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unknown", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cancelled", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expired", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("abandoned", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approval_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_by", sa.Text(), nullable=True),
        sa.Column("run_config", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("channel in ('email', 'sms', 'voice')", name=op.f("campaign_runs_channel_check")),
        sa.CheckConstraint(
            "status in ('queued', 'running', 'paused', 'needs_reconciliation', 'completed', 'partial', 'failed', 'cancelled')",
            name=op.f("campaign_runs_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["delivery.provider_accounts.tenant_id", "delivery.provider_accounts.id"],
            name=op.f("campaign_runs_tenant_id_account_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "campaign_id"],
            ["spine.spine_campaigns.tenant_id", "spine.spine_campaigns.id"],
            name=op.f("campaign_runs_tenant_id_campaign_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "content_id"],
            ["delivery.contents.tenant_id", "delivery.contents.id"],
            name=op.f("campaign_runs_tenant_id_content_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "retry_of_run_id"],
            ["delivery.campaign_runs.tenant_id", "delivery.campaign_runs.id"],
            name=op.f("campaign_runs_tenant_id_retry_of_run_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "root_run_id"],
            ["delivery.campaign_runs.tenant_id", "delivery.campaign_runs.id"],
            name=op.f("campaign_runs_tenant_id_root_run_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "workspace_id"],
            ["delivery.workspaces.tenant_id", "delivery.workspaces.id"],
            name=op.f("campaign_runs_tenant_id_workspace_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("campaign_runs_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("campaign_runs_pkey")),
        schema="delivery",
    )
    op.create_index(
        "campaign_runs_occurrence_key",
        "campaign_runs",
        ["campaign_id", "channel", "step", "occurrence", "tenant_id"],
        unique=True,
        schema="delivery",
        postgresql_where=sa.text("retry_of_run_id is null"),
    )
    op.create_index(
        "campaign_runs_request_key",
        "campaign_runs",
        ["request_id", "tenant_id"],
        unique=True,
        schema="delivery",
    )
    op.create_index(
        op.f("campaign_runs_root_run_id_tenant_id_idx"),
        "campaign_runs",
        ["root_run_id", "tenant_id"],
        unique=False,
        schema="delivery",
    )
    op.create_table(
        "job_queue",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default="3", nullable=False),
        sa.Column("locked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("locked_by", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "job_type in ('email_send_batch', 'sms_send_batch', 'voice_call_batch')",
            name=op.f("job_queue_job_type_check"),
        ),
        sa.CheckConstraint(
            "status <> 'locked' or (locked_by is not null and lease_expires_at is not null)",
            name=op.f("job_queue_lease_check"),
        ),
        sa.CheckConstraint(
            "status in ('queued', 'locked', 'completed', 'dead', 'cancelled')",
            name=op.f("job_queue_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "run_id"],
            ["delivery.campaign_runs.tenant_id", "delivery.campaign_runs.id"],
            name=op.f("job_queue_tenant_id_run_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "workspace_id"],
            ["delivery.workspaces.tenant_id", "delivery.workspaces.id"],
            name=op.f("job_queue_tenant_id_workspace_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("job_queue_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("job_queue_pkey")),
        schema="delivery",
    )
    op.create_index(
        "job_queue_chunk_key", "job_queue", ["run_id", "chunk", "tenant_id"], unique=True, schema="delivery"
    )
    op.create_index(
        "job_queue_due_idx",
        "job_queue",
        ["tenant_id", "scheduled_for", "id"],
        unique=False,
        schema="delivery",
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index(
        "job_queue_leased_idx",
        "job_queue",
        ["tenant_id", "lease_expires_at"],
        unique=False,
        schema="delivery",
        postgresql_where=sa.text("status = 'locked'"),
    )
    op.create_table(
        "run_recipients",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.Column("recipient_id", sa.Uuid(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("variables", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("consent_basis", sa.Text(), nullable=True),
        sa.Column("excluded_because", sa.Text(), nullable=True),
        sa.Column("item_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "run_id"],
            ["delivery.campaign_runs.tenant_id", "delivery.campaign_runs.id"],
            name=op.f("run_recipients_tenant_id_run_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("run_recipients_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "run_id", "ordinal", name=op.f("run_recipients_pkey")),
        schema="delivery",
    )
    op.create_index(
        "run_recipients_address_key",
        "run_recipients",
        ["run_id", "address", "tenant_id"],
        unique=True,
        schema="delivery",
        postgresql_where=sa.text("item_id is not null"),
    )
    op.create_index(
        "run_recipients_item_key",
        "run_recipients",
        ["item_id", "run_id", "tenant_id"],
        unique=True,
        schema="delivery",
    )
    op.create_table(
        "channel_outbox",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("root_run_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("recipient_id", sa.Uuid(), nullable=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("skipped", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("skip_reason", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts_left", sa.Integer(), server_default="3", nullable=False),
        sa.Column("is_retryable", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("provider_message_id", sa.Text(), nullable=True),
        sa.Column("provider_response", pg.JSONB(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivery_status", sa.Text(), server_default="none", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("channel in ('email', 'sms', 'voice')", name=op.f("channel_outbox_channel_check")),
        sa.CheckConstraint(
            "delivery_status in ('none', 'ringing', 'answered', 'voicemail', 'no_answer', 'delivered', 'opened', 'clicked', 'bounced', 'complained')",
            name=op.f("channel_outbox_delivery_status_check"),
        ),
        sa.CheckConstraint(
            "provider in ('smtp', 'resend', 'twilio', 'vapi', 'webhook', 'file', 'simulator', 'memory')",
            name=op.f("channel_outbox_provider_check"),
        ),
        sa.CheckConstraint(
            "skipped = (status = 'skipped')", name=op.f("channel_outbox_skipped_status_check")
        ),
        sa.CheckConstraint(
            "status in ('queued', 'dispatching', 'sent', 'called', 'posted', 'failed', 'skipped', 'unknown', 'cancelled', 'expired', 'abandoned')",
            name=op.f("channel_outbox_status_check"),
        ),
        sa.CheckConstraint(
            "not skipped or skip_reason is not null", name=op.f("channel_outbox_skip_reason_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["delivery.job_queue.tenant_id", "delivery.job_queue.id"],
            name=op.f("channel_outbox_tenant_id_job_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "root_run_id"],
            ["delivery.campaign_runs.tenant_id", "delivery.campaign_runs.id"],
            name=op.f("channel_outbox_tenant_id_root_run_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "run_id"],
            ["delivery.campaign_runs.tenant_id", "delivery.campaign_runs.id"],
            name=op.f("channel_outbox_tenant_id_run_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "workspace_id"],
            ["delivery.workspaces.tenant_id", "delivery.workspaces.id"],
            name=op.f("channel_outbox_tenant_id_workspace_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("channel_outbox_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("channel_outbox_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "workspace_id", "idempotency_key", name="channel_outbox_idempotency_key"
        ),
        schema="delivery",
    )
    op.create_index(
        "channel_outbox_job_idx",
        "channel_outbox",
        ["job_id", "ordinal", "tenant_id"],
        unique=False,
        schema="delivery",
    )
    op.create_index(
        "channel_outbox_person_idx",
        "channel_outbox",
        ["address", "channel", "tenant_id"],
        unique=False,
        schema="delivery",
    )
    op.create_index(
        op.f("channel_outbox_root_run_id_tenant_id_idx"),
        "channel_outbox",
        ["root_run_id", "tenant_id"],
        unique=False,
        schema="delivery",
    )
    op.create_index(
        op.f("channel_outbox_run_id_tenant_id_idx"),
        "channel_outbox",
        ["run_id", "tenant_id"],
        unique=False,
        schema="delivery",
    )
    op.create_table(
        "attempts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), server_default="dispatching", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replays", sa.Integer(), server_default="0", nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("is_retryable", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("provider_message_id", sa.Text(), nullable=True),
        sa.Column("response", pg.JSONB(), nullable=True),
        sa.CheckConstraint(
            "state in ('dispatching', 'accepted', 'rejected', 'unknown')", name=op.f("attempts_state_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "item_id"],
            ["delivery.channel_outbox.tenant_id", "delivery.channel_outbox.id"],
            name=op.f("attempts_tenant_id_item_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("attempts_pkey")),
        schema="delivery",
    )
    op.create_index(
        "attempts_deadline_idx",
        "attempts",
        ["deadline_at"],
        unique=False,
        schema="delivery",
        postgresql_where=sa.text("state = 'dispatching'"),
    )
    op.create_index(
        "attempts_message_key",
        "attempts",
        ["provider_message_id", "account_id", "tenant_id"],
        unique=True,
        schema="delivery",
        postgresql_where=sa.text("provider_message_id is not null"),
    )
    op.create_index(
        "attempts_number_key", "attempts", ["item_id", "n", "tenant_id"], unique=True, schema="delivery"
    )
    op.create_index(
        "attempts_open_key",
        "attempts",
        ["item_id", "tenant_id"],
        unique=True,
        schema="delivery",
        postgresql_where=sa.text("state in ('dispatching', 'unknown')"),
    )
    op.create_table(
        "provider_events",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("provider_event_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider_message_id", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("payload", pg.JSONB(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["delivery.provider_accounts.tenant_id", "delivery.provider_accounts.id"],
            name=op.f("provider_events_tenant_id_account_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "attempt_id"],
            ["delivery.attempts.tenant_id", "delivery.attempts.id"],
            name=op.f("provider_events_tenant_id_attempt_id_fkey"),
            ondelete="SET NULL (attempt_id)",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("provider_events_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("provider_events_pkey")),
        schema="delivery",
    )
    op.create_index(
        "provider_events_key",
        "provider_events",
        ["provider_event_id", "account_id", "tenant_id"],
        unique=True,
        schema="delivery",
    )
    op.create_index(
        "provider_events_parked_idx",
        "provider_events",
        ["tenant_id", "received_at"],
        unique=False,
        schema="delivery",
        postgresql_where=sa.text("attempt_id is null"),
    )
    op.create_table(
        "reconciliation_cases",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_lookup_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("assigned_to", sa.Text(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "resolution in ('accepted', 'rejected', 'abandoned')",
            name=op.f("reconciliation_cases_resolution_check"),
        ),
        sa.CheckConstraint(
            "(resolution is null) = (resolved_at is null)", name=op.f("reconciliation_cases_resolved_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "attempt_id"],
            ["delivery.attempts.tenant_id", "delivery.attempts.id"],
            name=op.f("reconciliation_cases_tenant_id_attempt_id_fkey"),
            ondelete="SET NULL (attempt_id)",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "item_id"],
            ["delivery.channel_outbox.tenant_id", "delivery.channel_outbox.id"],
            name=op.f("reconciliation_cases_tenant_id_item_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "run_id"],
            ["delivery.campaign_runs.tenant_id", "delivery.campaign_runs.id"],
            name=op.f("reconciliation_cases_tenant_id_run_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("reconciliation_cases_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("reconciliation_cases_pkey")),
        schema="delivery",
    )
    op.create_index(
        "reconciliation_cases_open_key",
        "reconciliation_cases",
        ["item_id", "tenant_id"],
        unique=True,
        schema="delivery",
        postgresql_where=sa.text("resolution is null"),
    )
