"""Every check of the watch, once when nothing is wrong and once when something is."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from kernel.usage import audit, recovery, watchtower
from tests.integration.usage.closing import CLOSE_AT, JANUARY, Closer, closer
from tests.integration.usage.test_recovery import degraded, fails

SOON = JANUARY + timedelta(minutes=5)


@pytest.fixture
def shop(engine: sa.Engine) -> Closer:
    """The watch looks at all tenants: each test has a database of its own."""
    return closer(engine)


def seen(shop: Closer, at=SOON) -> dict[str, watchtower.Finding]:
    with shop.engine.begin() as connection:
        return {each.check: each for each in watchtower.look(connection, at=at)}


def statuses(shop: Closer, at=SOON) -> dict[str, str]:
    return {name: each.status for name, each in seen(shop, at).items() if each.status != "ok"}


def test_nothing_is_wrong_where_nothing_happened(shop: Closer):
    assert statuses(shop) == {}
    assert watchtower.overall(list(seen(shop).values())) == "ok"


@pytest.mark.parametrize(("captures", "status"), [(1, "degraded"), (5, "degraded"), (6, "critical")])
def test_captures_that_could_not_be_published(shop: Closer, captures: int, status: str):
    for number in range(captures):
        degraded(shop, f"key {number}")
    assert statuses(shop) == {"ingestPublishFailuresLast15m": status}
    assert statuses(shop, JANUARY + timedelta(minutes=16)) == {"deliveryBacklogSeconds": "degraded"}
    assert statuses(shop, JANUARY + timedelta(hours=25)) == {"deliveryBacklogSeconds": "critical"}


def test_a_message_that_was_given_up(shop: Closer):
    degraded(shop, "a")
    shop.pinned("update usage.ingest_fallback_buffer set recover_attempt_count = 9")
    recovery.work(shop.engine, "worker", lambda: SOON, fails)
    assert statuses(shop, JANUARY + timedelta(minutes=16)) == {"quarantine": "alarm"}


def test_recounts_that_are_overdue_and_given_up(shop: Closer):
    shop.capture("a", at=JANUARY)
    shop.pinned("update usage.usage_outbox set handed_on_at = now()")
    shop.recount(at=JANUARY)
    shop.pinned("update usage.billing_reconciliation_jobs set status = 'QUEUED', due_at = :at", at=JANUARY)
    assert statuses(shop, JANUARY + timedelta(minutes=61)) == {"staleReconciliationJobs": "degraded"}
    shop.pinned("update usage.billing_reconciliation_jobs set status = 'DEAD'")
    assert statuses(shop) == {"deadReconciliationJobs": "alarm"}


def test_sites_that_are_off(shop: Closer):
    shop.capture("a", at=JANUARY)
    shop.pinned("update usage.usage_counters set accepted = 2")
    shop.recount(at=SOON)
    assert statuses(shop) == {"billingReconciliationDriftLast1h": "degraded"}


def test_a_month_that_nobody_closed(shop: Closer):
    shop.capture("a", at=JANUARY)
    shop.pinned("update usage.usage_outbox set handed_on_at = now()")
    shop.recount()
    assert "missedClose" not in statuses(shop, CLOSE_AT + timedelta(days=1))
    found = seen(shop, CLOSE_AT + timedelta(days=3))["missedClose"]
    assert (found.status, found.value) == ("alarm", 1)
    assert "2026-01" in found.told


def test_events_that_were_refused_for_quota(shop: Closer):
    shop.plan(0, at=JANUARY)
    shop.capture("a", "b", at=JANUARY)
    shop.capture("a", at=SOON)
    assert statuses(shop) == {"quotaRejectionsLast1h": "degraded"}
    found = seen(shop)["quotaRejectionsLast1h"]
    assert (found.value, f": 2 of {shop.site.public_id};" in found.told) == (2, True)
    assert statuses(shop, JANUARY + timedelta(hours=1)) == {}


def test_a_check_that_cannot_be_made_is_unknown_and_hides_no_other(shop: Closer):
    degraded(shop, "a")
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("alter table usage.billing_reconciliation_jobs rename to gone")
    found = seen(shop)
    assert found["staleReconciliationJobs"].status == "unknown"
    assert found["ingestPublishFailuresLast15m"].status == "degraded"
    assert watchtower.overall([found["staleReconciliationJobs"]]) == "degraded"


def test_an_audit_that_was_changed(shop: Closer):
    with shop.engine.begin() as connection:
        audit.append(connection, shop.tenant_id, "month_closed", actor="ann", at=JANUARY)
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.exec_driver_sql("update usage.usage_audit set actor = 'eve'")
    assert statuses(shop) == {"auditBroken": "critical"}
