"""Hand-computed economics metrics that pin the oracle."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from tests.oracle.economics import _last_quarters
from tests.oracle.small import DAY, accounts, deal, deals, everything_covered, mrr, on, revenue


def test_bookings_are_a_years_share_of_long_contracts_less_refunds_of_bookings() -> None:
    events = [
        revenue("1", "2026-03-31", "new_booking", "2400", contract_months=24),
        revenue("2", "2026-03-31", "new_booking", "600", contract_months=6),
        revenue("3", "2026-03-31", "new_booking", "100.10"),
        revenue("4", "2026-03-31", "refund", "300", refunds_booking="true"),
        revenue("5", "2026-03-31", "refund", "50"),
        revenue("6", "2026-03-25", "new_booking", "1", contract_months=12),
        revenue("7", "2026-03-24", "expansion", "999"),
    ]
    metrics = on(revenue_events=events)
    assert metrics.parts("bookings_new")[1:] == (None, 4)
    assert metrics.near("bookings_new", 1200 + 600 + 100.1 - 300)
    assert metrics.near("bookings_new", 1601.1, "window=T7")
    assert metrics.parts("bookings_count", "window=T7") == (4, None, 4)
    assert on(revenue_events=events, payload={"bookings_basis": "tcv"}).near("bookings_new", 2800.1)


LEDGER = [
    mrr("1", "a", "2025-03-31", "new", "100"),
    mrr("2", "a", "2025-06-01", "churn", "-100"),
    mrr("3", "a", "2026-03-31", "reactivation", "80"),
    mrr("4", "b", "2025-03-01", "new", "50"),
    mrr("5", "b", "2026-03-31", "expansion", "20"),
    mrr("6", "b", "2026-03-30", "contraction", "-30"),
    mrr("7", "c", "2025-04-01", "new", "1000"),
    mrr("8", "c", "2026-03-31", "churn", "-1000"),
    mrr("9", "b", "2026-04-01", "churn", "-40"),
]


def test_reactivated_customers_pay_and_tomorrows_churn_does_not_count() -> None:
    metrics = on(accounts=accounts("a", "b", "c"), subscription_ledger=LEDGER)
    assert metrics.parts("mrr_total") == (120, None, 2)
    assert metrics.parts("arr_total") == (1440, None, 2)
    assert metrics.parts("expansion_revenue") == (240, None, 1)
    assert metrics.parts("churn_revenue") == (12000, None, 1)
    assert metrics.value("churn_revenue", "window=T90") == 12000
    assert on().value("arr_total") == 0


def test_retention_counts_contraction_and_leaves_out_customers_won_since() -> None:
    gone = [mrr("10", "d", "2025-01-01", "new", "5"), mrr("11", "d", "2025-02-01", "churn", "-5")]
    facts: dict[str, Any] = {"accounts": accounts("a", "b", "c", "d"), "subscription_ledger": LEDGER + gone}
    metrics = on(**facts)
    # a and b paid 150 a year ago and pay 120 now; c came the day after, d had left.
    assert metrics.parts("net_revenue_retention") == (120, 150, 2)
    late = everything_covered(DAY, subscription_ledger=date(2025, 4, 1))
    assert on(coverage=late, **facts).parts("net_revenue_retention") == (None, None, 0)
    assert on().status("net_revenue_retention") == "undefined"


def test_acquisition_cost_is_full_and_without_customers_infinite() -> None:
    costs = [
        revenue("1", "2026-03-31", "marketing_spend", "100"),
        revenue("2", "2026-01-01", "sales_comp", "200"),
        revenue("3", "2026-03-31", "other_cost", "60", cost_function="sales_marketing"),
        revenue("4", "2026-03-31", "other_cost", "999", cost_function="research_development"),
        revenue("5", "2025-12-31", "marketing_spend", "999"),
    ]
    bookings = [
        revenue("6", "2026-03-31", "new_booking", "1", account_key="a"),
        revenue("7", "2026-03-30", "new_booking", "1", account_key="a"),
        revenue("8", "2026-01-01", "new_booking", "1", account_key="b"),
        revenue("9", "2026-03-31", "new_booking", "1", account_key="c"),
        revenue("10", "2024-01-01", "new_booking", "1", account_key="c"),
    ]
    known = accounts("a", "b", "c")
    metrics = on(accounts=known, revenue_events=costs + bookings)
    assert metrics.parts("cac_blended") == (360, 2, 2)
    assert metrics.value("cac_blended") == 180
    nobody = on(revenue_events=costs)
    assert nobody.status("cac_blended") == "infinite"
    assert nobody.status("payback_months") == "infinite"
    assert on(accounts=known, revenue_events=bookings).status("cac_blended") == "undefined"
    assert (
        on(revenue_events=[revenue("1", "2026-03-31", "sales_comp", "0")]).status("cac_blended")
        == "undefined"
    )


def test_channel_costs_and_customers_add_up_to_the_blended_ones() -> None:
    metrics = on(
        accounts=accounts("a", "b", "c"),
        campaign_channels=[
            {"source_key": "ads", "channel": "paid_search"}, {"source_key": "show", "channel": "events"},
        ],
        opportunity_channel_attribution=[{"opportunity_key": "o", "channel_key": "show", "weight": "0.5"}],
        revenue_events=[
            revenue("1", "2026-03-31", "marketing_spend", "100", attributed_channel="paid_search"),
            revenue("2", "2026-03-31", "marketing_spend", "30", attributed_channel="email"),
            revenue("3", "2026-03-31", "sales_comp", "200"),
            revenue("4", "2026-03-31", "new_booking", "1", account_key="a", opportunity_key="o", attributed_channel="email"),
            revenue("5", "2026-03-31", "new_booking", "1", account_key="b", attributed_channel="paid_search"),
            revenue("6", "2026-03-31", "new_booking", "1", account_key="c"),
        ],
        **deals(deal("o", ("2026-03-01", "closed_won", 1))),
    )  # fmt: skip
    assert metrics.parts("cac_by_channel") == metrics.parts("cac_blended") == (330, 3, 3)
    assert metrics.parts("cac_by_channel", "channel=paid_search") == (100, 1, 1)
    assert metrics.status("cac_by_channel", "channel=email") == "infinite"
    assert metrics.status("cac_by_channel", "channel=events") == "undefined"
    assert metrics.parts("cac_by_channel", "channel=events") == (0, 0.5, 1)
    assert metrics.parts("cac_by_channel", "channel=unattributed") == (200, 1.5, 2)
    assert len(metrics.keys("cac_by_channel")) == 5


def _business(cogs: str = "60") -> dict[str, Any]:
    """600 of recognised revenue in the quarter: 200 a month, and what was booked is no revenue."""
    return {
        "accounts": accounts("old", "new"),
        "subscription_ledger": [
            mrr("1", "old", "2025-12-31", "new", "150"),
            mrr("2", "new", "2026-01-01", "new", "50"),
        ],
        "revenue_events": [
            revenue("1", "2026-01-01", "new_booking", "5000", account_key="new", contract_months=12),
            revenue("2", "2026-02-01", "other_revenue", "70"),
            revenue("3", "2026-02-01", "refund", "40"),
            revenue("4", "2026-02-01", "discount", "30"),
            revenue("5", "2026-02-01", "cogs", cogs),
            revenue("6", "2026-02-02", "sales_comp", "90", cost_class="fixed"),
            revenue("7", "2026-02-02", "marketing_spend", "180", cost_class="variable"),
        ],
    }


def test_margin_is_of_recognised_revenue_not_of_bookings() -> None:
    metrics = on(**_business())
    assert metrics.near("gross_margin", 540 / 600)
    assert metrics.near("gross_margin_pct", 90)
    # The cogs row lies before the last 30 days, all of them in March.
    assert metrics.status("gross_margin", "window=T30") == "undefined"
    assert metrics.row("gross_margin", "window=T30")["window_days"] == 30
    march = {**_business(), "revenue_events": [revenue("1", "2026-03-02", "cogs", "60")]}
    recognised = 200 / 31 * 30
    assert on(**march).near("gross_margin", (recognised - 60) / recognised, "window=T30")
    assert on(**march).near("gross_margin_pct", 100 * (recognised - 60) / recognised, "window=T30")
    assert on(revenue_events=_business()["revenue_events"]).status("gross_margin") == "undefined"


def test_payback_sets_cac_against_the_margin_of_new_customers_as_a_fraction() -> None:
    metrics = on(**_business())
    assert metrics.near("payback_months", 270 / (50 * 0.9))
    losing = on(**_business(cogs="700"))
    assert losing.value("gross_margin") < 0
    assert losing.status("payback_months") == "infinite"
    no_new = {**_business(), "subscription_ledger": [mrr("1", "old", "2025-12-31", "new", "200")]}
    assert on(**no_new).status("payback_months") == "undefined"


def test_contribution_margin_asks_every_unclassed_cost_for_its_months_share() -> None:
    facts = _business()
    facts["revenue_events"].append(revenue("8", "2026-02-28", "other_cost", "100"))
    assert on(**facts).status("contribution_margin_pct") == "undefined"
    month = {"month": "2026-02-01", "variable_cost_share": "0.3"}
    metrics = on(finance_inputs_monthly=[month], **facts)
    assert metrics.near("contribution_margin_pct", (600 - 60 - 180 - 30) / 600 * 100)
    assert on(finance_inputs_monthly=[{"month": "2026-03-01", "variable_cost_share": 1}], **facts).status(
        "contribution_margin_pct"
    ) == "undefined"  # fmt: skip


def test_lifetime_is_capped_when_nobody_leaves() -> None:
    metrics = on(**_business())
    assert metrics.value("churn_rate") == 0
    assert metrics.near("ltv_avg", 100 * 0.9 * 60)
    assert metrics.near("ltv_to_cac", 100 * 0.9 * 60 / 270)
    for lost, lifetime in (("-1", 60), ("-30", None)):
        facts = _business()
        facts["subscription_ledger"].append(mrr("3", "old", "2026-03-31", "contraction", lost))
        leaving = on(coverage=everything_covered(DAY, date(2025, 12, 31)), **facts)
        months = lifetime or 1 / float(leaving.value("churn_rate"))
        assert months <= 60
        mrr_of_each, margin = leaving.value("mrr_total") / 2, leaving.value("gross_margin")
        assert leaving.near("ltv_avg", float(mrr_of_each * margin) * months)
    without_cac = {**_business(), "revenue_events": _business()["revenue_events"][:5]}
    assert on(**without_cac).status("ltv_to_cac") == "undefined"
    assert on().status("ltv_avg") == "undefined"


def test_churn_is_monthly_over_the_covered_days_and_counts_contraction() -> None:
    ledger = [
        mrr("1", "a", "2026-01-01", "new", "1000"),
        mrr("2", "a", "2026-03-31", "contraction", "-100"),
        mrr("3", "a", "2026-03-31", "expansion", "50"),
        mrr("4", "b", "2026-03-31", "churn", "-50"),
        mrr("5", "b", "2026-01-01", "new", "50"),
    ]
    facts: dict[str, Any] = {"accounts": accounts("a", "b"), "subscription_ledger": ledger}
    covered = everything_covered(DAY, subscription_ledger=date(2026, 1, 1))
    metrics = on(coverage=covered, **facts)
    mean = (89 * 1050 + 950) / 90
    assert metrics.near("churn_rate", 150 / (90 / (365 / 12)) / mean)
    assert metrics.row("churn_rate")["sample_size"] == 90
    young = everything_covered(DAY, subscription_ledger=date(2026, 1, 2))
    assert on(coverage=young, **facts).status("churn_rate") == "insufficient_sample"
    assert on().status("churn_rate") == "undefined"


def _month(month: str, **more: Any) -> dict[str, Any]:
    return {"month": month, **more}


def test_finance_inputs_speak_from_the_end_of_their_month_for_sixty_two_days() -> None:
    months = [
        _month("2025-10-01", net_burn="999"),
        _month("2025-11-01", net_burn="10"),
        _month("2026-01-01", net_burn="30", cash_balance="100", headcount_fte=4),
        _month("2026-02-01", net_burn="-500", cash_balance="1", headcount_fte=1),
    ]
    facts: dict[str, Any] = {
        "finance_inputs_monthly": months[:3],
        "accounts": accounts("a"),
        "subscription_ledger": [mrr("1", "a", "2025-01-01", "new", "10")],
    }
    metrics = on(**facts)
    assert metrics.parts("burn_rate") == (20, None, 2)
    assert metrics.near("cash_runway_months", 5)
    assert metrics.near("revenue_per_fte", 30)
    assert on(date(2026, 4, 3), **facts).status("burn_rate") == "ok"
    for metric_id in ("burn_rate", "cash_runway_months", "revenue_per_fte"):
        assert on(date(2026, 4, 4), **facts).status(metric_id) == "stale_source"
        assert on().status(metric_id) == "undefined"
    # February ends on the 28th: the 27th still reads January.
    grew = {**facts, "finance_inputs_monthly": months}
    assert on(date(2026, 2, 27), **grew).near("cash_runway_months", 5)
    assert on(date(2026, 2, 28), **grew).status("cash_runway_months") == "not_applicable"
    no_staff = {**facts, "finance_inputs_monthly": [_month("2026-02-01", headcount_fte=0, net_burn="1")]}
    assert on(**no_staff).status("revenue_per_fte") == "undefined"
    assert on(**no_staff).status("cash_runway_months") == "undefined"


def test_the_magic_number_sets_a_quarters_growth_against_the_cost_of_the_one_before() -> None:
    facts: dict[str, Any] = {
        "accounts": accounts("a"),
        "subscription_ledger": [
            mrr("1", "a", "2025-12-31", "new", "100"),
            mrr("2", "a", "2026-01-01", "expansion", "10"),
            mrr("3", "a", "2026-03-31", "expansion", "5"),
        ],
        "revenue_events": [
            revenue("1", "2025-12-31", "marketing_spend", "90"),
            revenue("2", "2026-01-01", "marketing_spend", "7777"),
            revenue("3", "2025-09-30", "marketing_spend", "7777"),
        ],
    }
    assert on(**facts).near("sales_efficiency_ratio", 12 * 15 / 90)
    # The day before, the last full quarter is the fourth of 2025, and the third cost 7777.
    assert on(DAY - timedelta(days=1), **facts).near("sales_efficiency_ratio", 1200 / 7777)
    late = everything_covered(DAY, revenue_events=date(2025, 10, 2))
    assert on(coverage=late, **facts).status("sales_efficiency_ratio") == "undefined"
    assert on().status("sales_efficiency_ratio") == "undefined"


def test_fiscal_quarters_start_with_the_fiscal_year() -> None:
    assert _last_quarters(date(2026, 3, 31), 2) == (
        (date(2025, 11, 1), date(2026, 1, 31)),
        (date(2025, 8, 1), date(2025, 10, 31)),
    )
    assert _last_quarters(date(2026, 4, 30), 2)[0] == (date(2026, 2, 1), date(2026, 4, 30))
    assert _last_quarters(date(2026, 4, 29), 2)[0] == (date(2025, 11, 1), date(2026, 1, 31))
