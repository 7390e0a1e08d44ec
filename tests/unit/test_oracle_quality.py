"""Hand-computed quality metrics that pin the oracle."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.oracle.small import (
    DAY,
    accounts,
    contact,
    deal,
    deals,
    event,
    everything_covered,
    mrr,
    on,
    revenue,
)


def test_freshness_is_of_the_hand_over_known_by_then_and_the_worst_required_source() -> None:
    coverage = [
        ("crm", "events", DAY, DAY, True),
        ("ads", "channel_spend_daily", DAY, DAY, True),
        ("old", "events", DAY, DAY, False),
    ]
    marks = [
        ("crm", datetime(2026, 3, 31, 18, tzinfo=UTC)),
        ("crm", datetime(2026, 4, 1, 5, tzinfo=UTC)),
        ("ads", datetime(2026, 3, 30, 12, tzinfo=UTC)),
        ("old", datetime(2020, 1, 1, tzinfo=UTC)),
    ]
    metrics = on(coverage=coverage, watermarks=marks)
    assert metrics.keys("data_freshness_hours") == ["", "source=ads", "source=crm"]
    assert metrics.value("data_freshness_hours", "source=crm") == 6
    assert metrics.value("data_freshness_hours") == 36
    silent = on(coverage=coverage, watermarks=marks[:2])
    assert silent.status("data_freshness_hours") == "undefined"
    assert silent.status("data_freshness_hours", "source=ads") == "undefined"
    assert silent.value("data_freshness_hours", "source=crm") == 6


def test_only_rows_that_should_name_a_campaign_are_asked_for_one() -> None:
    metrics = on(
        campaigns=[{"source_key": "x"}],
        events=[
            event("1", "2026-03-31", "lead_created", campaign_key="x"),
            event("2", "2026-03-02", "mql_reached"),
            event("3", "2026-03-31", "landing_form_submit"),
            event("4", "2026-03-31", "meeting_booked", campaign_key="x"),
            event("5", "2026-03-31", "email_sent"),
            event("6", "2026-03-01", "lead_created"),
        ],
        revenue_events=[
            revenue("1", "2026-03-31", "new_booking", "1", campaign_key="x"),
            revenue("2", "2026-03-31", "expansion", "1"),
            revenue("3", "2026-03-31", "cogs", "1"),
        ],
    )
    assert metrics.parts("missing_attribution_pct") == (3, 6, 6)
    assert metrics.value("missing_attribution_pct") == 50
    assert on().status("missing_attribution_pct") == "undefined"


def test_duplicates_are_one_identity_until_they_are_merged() -> None:
    contacts = [
        contact("a", email=" Ann@Example.com "),
        contact("b", email="ann@example.com", phone="1", merged_into_key="a", merged_at="2026-04-01 00:00"),
        contact("c", phone="+1 (555) 010"),
        contact("d", phone="1555010", email=""),
        contact("e"),
        contact("f"),
        contact("merged", email="x@example.com", merged_into_key="a", merged_at="2026-03-31 23:59"),
        contact("later", email="ann@example.com", created_at="2026-04-01 00:00"),
        contact("new", email="new@example.com", created_at="2026-04-01 00:00"),
    ]
    metrics = on(contacts=contacts)
    # a+b, c+d, e, f of six contacts.
    assert metrics.near("duplicate_contact_rate", 1 - 4 / 6)
    assert metrics.row("duplicate_contact_rate")["sample_size"] == 6
    assert on(DAY + timedelta(days=1), contacts=contacts).near("duplicate_contact_rate", 1 - 5 / 7)
    assert on().status("duplicate_contact_rate") == "undefined"


def test_coverage_sets_this_months_qualified_pipeline_against_what_is_still_missing() -> None:
    closes = {"expected_close_date": "2026-03-01"}
    facts: dict[str, Any] = {
        **deals(
            deal("a", ("2026-01-01", "qualified", 300, closes)),
            deal("b", ("2026-01-01", "lead", 999, closes)),
            deal("c", ("2026-01-01", "verbal", 999, {"expected_close_date": "2026-04-01"})),
            deal("d", ("2026-01-01", "verbal", 999)),
            deal("e", ("2026-01-01", "verbal", 999, closes), ("2026-03-31", "closed_won", 999, closes)),
        ),
        "revenue_events": [
            revenue("1", "2026-03-01", "new_booking", "400"),
            revenue("2", "2026-02-28", "new_booking", "999"),
        ],
    }
    versions = [
        (datetime(2026, 1, 1, tzinfo=UTC), {"target_bookings": 1000}),
        (datetime(2026, 4, 1, tzinfo=UTC), {"target_bookings": 1}),
    ]
    metrics = on(versions=versions, **facts)
    assert metrics.parts("pipeline_coverage_ratio") == (300, 600, 1)
    assert metrics.near("pipeline_coverage_ratio", 0.5)
    for target in (0, 400):
        met = on(payload={"target_bookings": target}, **facts)
        assert met.status("pipeline_coverage_ratio") == "not_applicable"
    assert on(**facts).near("pipeline_coverage_ratio", 300 / (150_000 - 400))


def test_data_coverage_counts_the_required_metrics_known_on_each_day() -> None:
    facts: dict[str, Any] = {
        "accounts": accounts("a"),
        "subscription_ledger": [mrr("1", "a", "2026-01-01", "new", "100")],
        "revenue_events": [
            revenue("1", "2026-03-22", "cogs", "1"),
            revenue("2", "2026-03-27", "sales_comp", "1"),
        ],
    }
    # pipeline and bookings are 0 on 30 days, the margin known on 10, CAC and payback infinite on 5.
    assert on(**facts).parts("data_coverage_pct") == (60 + 10 + 5 + 5, 150, 150)
    started = everything_covered(DAY, opportunity_stage_history=date(2026, 3, 31))
    assert on(coverage=started, **facts).parts("data_coverage_pct") == (30 + 1 + 20, 150, 150)
    assert on(coverage=[]).value("data_coverage_pct") == 0
