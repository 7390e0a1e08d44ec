"""The schema grows from nothing, one way, and the code agrees with what the migrations build."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command

from models import migrate


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    before = migrate.current(database_url)
    migrate.upgrade(database_url)
    assert migrate.current(database_url) == before == migrate.head()


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
