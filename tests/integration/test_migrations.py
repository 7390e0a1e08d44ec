"""The schema grows from nothing, one way, and the code agrees with what the migrations build."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from alembic import command

from kernel.delivery import keys
from models import delivery, migrate, rls, usage


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    before = migrate.current(database_url)
    migrate.upgrade(database_url)
    assert migrate.current(database_url) == before == migrate.head()


def test_a_database_of_an_earlier_release_reads_by_the_rule_of_a_new_one(
    database_url: str, engine: sa.Engine
) -> None:
    query = sa.text("select qual from pg_policies where policyname = 'spine_accounts_service'")
    with engine.begin() as connection:
        of_a_new_one = connection.execute(query).scalar_one()
        before = f"case when {rls.PINNED} is null then true else tenant_id = {rls.PINNED} end"
        connection.exec_driver_sql(f"alter policy spine_accounts_service on spine.accounts using ({before})")
        assert connection.execute(query).scalar_one() != of_a_new_one
    command.stamp(migrate.config(database_url), "0027")
    migrate.upgrade(database_url)
    with engine.connect() as connection:
        assert connection.execute(query).scalar_one() == of_a_new_one


def test_the_tables_in_code_are_the_tables_in_the_database(database_url: str) -> None:
    command.check(migrate.config(database_url))


def test_the_thirteen_frozen_tables_keep_their_names(engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    frozen = {
        "tenants", "accounts", "spine_contacts", "opportunities", "spine_campaigns", "spine_campaign_channels",
        "events_raw", "revenue_events", "spine_crm_activities", "optimization_cycles", "optimization_actions",
        "optimization_action_results",
    }  # fmt: skip
    # The thirteenth, metric_snapshots_daily, is built by dbt.
    assert frozen <= set(inspector.get_table_names("spine"))


# Delivery ----------------------------------------------------------------------------------------------------------

FROZEN_COLUMNS = {
    "campaign_runs": "id campaign_id tenant_id workspace_id status channel run_config started_at completed_at error_message",
    "job_queue": "id run_id tenant_id workspace_id job_type status attempts locked_at locked_by last_error",
    "channel_outbox": "id run_id job_id tenant_id workspace_id channel provider status idempotency_key provider_message_id"
    " provider_response skipped skip_reason error",
}  # fmt: skip
FROZEN_CALLS = (
    "delivery.deploy_campaign(gen_random_uuid())",
    "delivery.claim_queued_jobs('nobody', 1)",
    "delivery.check_campaign_launch_prerequisites(gen_random_uuid(), gen_random_uuid())",
)
FROZEN_CONSTRAINTS = {
    "channel_outbox_idempotency_key": "UNIQUE (tenant_id, workspace_id, idempotency_key)",
    "channel_outbox_status_check": "CHECK",
    "channel_outbox_skipped_status_check": "CHECK ((skipped = (status = 'skipped'::text)))",
}
# Every list of words that code and database share; a word that only one of them knows is found here.
WORDS = {
    ("campaign_runs", "status"): delivery.RUN_STATUSES,
    ("campaign_runs", "channel"): delivery.CHANNELS,
    ("job_queue", "status"): delivery.JOB_STATUSES,
    ("job_queue", "job_type"): tuple(delivery.JOB_TYPES.values()),
    ("channel_outbox", "status"): delivery.ITEM_STATUSES,
    ("channel_outbox", "provider"): delivery.PROVIDERS,
    ("channel_outbox", "delivery_status"): delivery.DELIVERY_STATUSES,
    ("attempts", "state"): delivery.ATTEMPT_STATES,
    ("suppressions", "reason"): delivery.SUPPRESSIONS,
    ("consents", "basis"): delivery.CONSENT_BASES,
    ("reconciliation_cases", "resolution"): delivery.RESOLUTIONS,
}


@pytest.mark.parametrize("table", FROZEN_COLUMNS)
def test_frozen_columns_of_delivery_keep_their_names(engine: sa.Engine, table: str) -> None:
    columns = {column["name"] for column in sa.inspect(engine).get_columns(table, "delivery")}
    assert set(FROZEN_COLUMNS[table].split()) - columns == set()


def test_frozen_functions_of_delivery_take_their_frozen_arguments(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for call in FROZEN_CALLS:
            connection.exec_driver_sql(f"select {call}")
        with pytest.raises(sa.exc.DBAPIError, match="has no job"):
            connection.exec_driver_sql("select delivery.complete_job(gen_random_uuid(), true, null)")


def test_frozen_constraints_of_delivery_keep_their_names_and_their_meaning(engine: sa.Engine) -> None:
    query = sa.text(
        "select conname, pg_get_constraintdef(oid) from pg_constraint where conrelid = 'delivery.channel_outbox'::regclass"
    )
    with engine.connect() as connection:
        found = dict(connection.execute(query).tuples().all())
    for name, meaning in FROZEN_CONSTRAINTS.items():
        assert found.get(name, "absent").startswith(meaning)


WORDS |= {
    ("ingest_idempotency", "billing_state"): usage.BILLING_STATES,
    ("ingest_fallback_buffer", "status"): usage.BUFFER_STATUSES,
    ("usage_periods", "state"): usage.PERIOD_STATES,
    ("billing_reconciliation_jobs", "status"): usage.RECONCILIATION_STATUSES,
    ("usage_meters", "kind"): usage.METER_KINDS,
    ("usage_invoices", "state"): usage.INVOICE_STATES,
}


@pytest.mark.parametrize(("table", "column"), WORDS, ids=str)
def test_code_and_database_know_the_same_words(engine: sa.Engine, table: str, column: str) -> None:
    query = sa.text("select pg_get_constraintdef(oid) from pg_constraint where conname = :name")
    with engine.connect() as connection:
        told = connection.execute(query, {"name": f"{table}_{column}_check"}).scalar_one()
    assert sorted(re.findall(r"'([^']+)'::text", told)) == sorted(WORDS[table, column])


def test_at_most_one_attempt_of_an_item_has_no_outcome_by_index(engine: sa.Engine) -> None:
    query = sa.text("select indexdef from pg_indexes where indexname = 'attempts_open_key'")
    with engine.connect() as connection:
        told = connection.execute(query).scalar_one()
    assert told.startswith("CREATE UNIQUE INDEX")
    assert sorted(re.findall(r"'([^']+)'::text", told)) == sorted(delivery.OPEN_ATTEMPT_STATES)


FIELDS = (
    ["a", "bc"],
    ["ab", "c"],
    ["abc"],
    ["a", "", "bc"],
    ["ä", "€", "😀"],
    ["1:a", "b"],
    ["x" * 5000],
    [""],
)


@pytest.mark.parametrize("fields", FIELDS, ids=range(len(FIELDS)))
def test_the_database_computes_keys_as_the_code_does(engine: sa.Engine, fields: list[str]) -> None:
    with engine.connect() as connection:
        query = sa.text("select delivery.item_key(variadic cast(:fields as text[]))")
        assert connection.execute(query, {"fields": fields}).scalar_one() == keys.digest(*fields)


# Usage -------------------------------------------------------------------------------------------------------------

FROZEN_COLUMNS_OF_USAGE = {
    "ingest_idempotency": "site_id idempotency_key created_at expires_at billing_state billable year_month"
    " idempotency_version event_category event_action event_label billing_reason",
    "site_plans": "site_id plan_tier monthly_limit soft_limit_enabled hard_cap_multiplier overage_price_per_1k created_at",
    "invoice_snapshot": "site_id year_month event_count overage_count snapshot_hash generated_at generated_by",
    "billing_reconciliation_jobs": "site_id year_month status locked_at attempt_count last_error last_drift_pct created_at"
    " updated_at",
    "ingest_fallback_buffer": "id site_id payload error_reason status created_at updated_at recover_attempt_count",
}


@pytest.mark.parametrize("table", FROZEN_COLUMNS_OF_USAGE)
def test_frozen_columns_of_usage_keep_their_names(engine: sa.Engine, table: str) -> None:
    columns = {column["name"] for column in sa.inspect(engine).get_columns(table, "usage")}
    assert set(FROZEN_COLUMNS_OF_USAGE[table].split()) - columns == set()


@pytest.mark.parametrize(
    ("instant", "month"),
    [
        ("2026-01-31 23:59:59.999999+00", "2026-01"),
        ("2026-02-01 00:00:00+00", "2026-02"),
        ("2026-02-01 00:30:00+01", "2026-01"),
        ("2026-12-31 20:00:00-05", "2027-01"),
        ("0999-03-01 00:00:00+00", "0999-03"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])
def test_a_month_is_that_of_utc_whatever_the_session_says(
    engine: sa.Engine, zone: str, instant: str, month: str
) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("select set_config('timezone', :zone, false)"), {"zone": zone})
        query = sa.text("select usage.utc_year_month(cast(:instant as timestamptz))")
        assert connection.execute(query, {"instant": instant}).scalar_one() == month
