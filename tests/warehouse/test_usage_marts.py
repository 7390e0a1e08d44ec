"""Usage by day and month: after every build the marts are what a full count of the ledger gives."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from kernel.usage import gate
from tests.integration.usage import capturing
from tests.integration.usage.capturing import AT, Shop, event
from tests.warehouse.build import dbt, window

COUNTED = """
select site_id, (created_at at time zone 'UTC')::date, year_month, count(*), count(*) filter (where billable),
    count(*) filter (where billing_state = 'OVERAGE'), count(*) filter (where billing_state = 'DEGRADED_CAPTURE'),
    count(*) filter (where billing_state = 'REJECTED_QUOTA')
from usage.ingest_idempotency group by 1, 2, 3 order by 1, 2
"""
DAILY = """
select site_id, day, year_month, row_count, billable_count, overage_count, degraded_count, rejected_count
from analytics.usage_ledger_daily order by 1, 2
"""


@pytest.fixture(scope="module")
def shop(warehouse_url: str) -> Iterator[Shop]:
    engine = sa.create_engine(warehouse_url)
    yield capturing.shop(engine)
    engine.dispose()


def rows(shop: Shop, query: str) -> list:
    with shop.engine.begin() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def built(shop: Shop) -> None:
    """Builds the marts of usage with their tests, and finds that they are the full count."""
    url = shop.engine.url.render_as_string(hide_password=False)
    day = AT.date()
    done = dbt(url, "build", "--select", "path:models/staging/usage path:models/marts/usage",
               **window(day, day, as_of=AT + timedelta(days=1)))  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert rows(shop, DAILY) == rows(shop, COUNTED)


def test_what_is_counted_in_steps_is_what_is_counted_at_once(shop: Shop):
    shop.soft(4, overage_price_per_1k=2, hard_cap_multiplier=2)
    shop.capture(*"abcde")
    before = event(shop.site, "of another day", at=AT + timedelta(hours=20))
    shop.capture(before, at=before.received_at)
    built(shop)
    first = dict(rows(shop, "select day::text, ctid::text from analytics.usage_ledger_daily"))

    # Written before the build looks, and committed after it: of the same day as rows it has seen.
    with shop.engine.connect() as late:
        gate.capture(late, [event(shop.site, "late")], at=AT, actor="late")
        built(shop)
        late.commit()
    built(shop)
    after = dict(rows(shop, "select day::text, ctid::text from analytics.usage_ledger_daily"))
    assert after["2026-01-16"] == first["2026-01-16"], "a day on which nothing changed is left untouched"

    shop.capture(*"xyz")  # the cap is reached
    built(shop)
    assert rows(shop, "select event_count, overage_count, rejected_count, row_count from analytics.site_usage_monthly") == [(8, 4, 2, 10)]  # fmt: skip
    (overage,) = rows(
        shop,
        "select monthly_limit, remaining, projected_count, projected_overage_count from analytics.usage_overage_monthly",
    )
    # Sixteen days less fourteen hours are gone of 31.
    assert overage == (4, 0, 16, 12)


def test_rows_that_left_the_ledger_stay_counted(shop: Shop):
    kept = rows(shop, DAILY)
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("set session_replication_role = replica")
        connection.exec_driver_sql("delete from usage.ingest_idempotency")
        connection.exec_driver_sql("set session_replication_role = origin")
    url = shop.engine.url.render_as_string(hide_password=False)
    arguments = ("run", "--full-refresh", "--select", "path:models/staging/usage path:models/marts/usage")
    done = dbt(url, *arguments, **window(AT.date(), AT.date(), as_of=AT))
    assert done.returncode == 0, done.stdout
    assert rows(shop, DAILY) == kept
