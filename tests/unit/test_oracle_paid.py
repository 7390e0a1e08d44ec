"""Hand-computed paid channel metrics that pin the oracle."""

from __future__ import annotations

from typing import Any

from tests.oracle.small import DAY, accounts, deal, deals, on, revenue

CHANNELS = [
    {"source_key": "ads", "channel": "paid_search", "is_paid": True},
    {"source_key": "mail", "channel": "email", "is_paid": False},
]


def _spend(channel: str, day: str, spend: str, **counts: int) -> dict[str, Any]:
    return {"channel_key": channel, "date": day, "spend": spend, **counts}


def test_only_paid_channels_spend_and_zero_spend_is_a_known_zero() -> None:
    metrics = on(
        campaign_channels=CHANNELS,
        channel_spend_daily=[
            _spend("ads", "2026-03-31", "10.50", impressions=1000, clicks=20, leads=4, opportunities=1),
            _spend("mail", "2026-03-31", "99", impressions=9, clicks=9, leads=9, opportunities=9),
            _spend("ads", "2026-03-02", "9.50", impressions=3000, clicks=20, leads=1, opportunities=1),
            _spend("ads", "2026-03-01", "70", impressions=7, clicks=7, leads=7, opportunities=7),
        ],
    )
    assert metrics.near("spend_paid_total", 10.5)
    assert metrics.value("spend_paid_total", "window=T30") == 20
    assert metrics.value("spend_paid_total", "window=T90") == 90
    assert metrics.parts("leads_from_paid", "window=T30") == (5, None, 2)
    assert metrics.value("impressions_paid") == 1000
    assert metrics.value("clicks_paid", "window=T90") == 47
    # A ratio of sums: the mean of the daily ratios would be (0.02 + 0.00667) / 2.
    assert metrics.near("ctr_paid", 40 / 4000)
    assert metrics.near("cpc_paid", 0.5)
    assert metrics.near("cpl_paid", 4)
    assert metrics.near("cost_per_opportunity_paid", 10)
    idle = on(campaign_channels=CHANNELS)
    assert idle.value("spend_paid_total") == 0
    assert [idle.status(name) for name in ("ctr_paid", "cpc_paid", "cpl_paid")] == ["undefined"] * 3
    assert idle.status("cost_per_opportunity_paid") == "undefined"


def test_without_a_paid_channel_paid_spend_does_not_apply() -> None:
    metrics = on(campaign_channels=CHANNELS[1:])
    for metric_id in ("spend_paid_total", "leads_from_paid", "impressions_paid", "clicks_paid"):
        assert metrics.status(metric_id) == "not_applicable"
        assert metrics.status(metric_id, "window=T90") == "not_applicable"
    assert metrics.value("pipeline_from_paid") == 0
    assert metrics.value("revenue_from_paid") == 0
    assert metrics.status("roas_paid") == "undefined"


def test_paid_acquisition_cost_is_per_customer_not_per_lead() -> None:
    facts: dict[str, Any] = {
        "campaign_channels": CHANNELS,
        "accounts": accounts("a", "b", "c", "d"),
        "opportunity_channel_attribution": [
            {"opportunity_key": "deal", "channel_key": "ads", "weight": 0.25},
            {"opportunity_key": "deal", "channel_key": "mail", "weight": 0.25},
        ],
        "channel_spend_daily": [_spend("ads", "2026-01-01", "500", leads=100)],
        **deals(deal("deal", ("2026-01-01", "closed_won", 1))),
    }
    bookings = [
        revenue("1", "2026-03-31", "new_booking", "1", account_key="a", opportunity_key="deal", attributed_channel="paid_search"),
        revenue("2", "2026-01-01", "new_booking", "1", account_key="b", attributed_channel="paid_search"),
        revenue("3", "2025-12-31", "new_booking", "1", account_key="c", attributed_channel="paid_search"),
        revenue("4", "2026-03-31", "new_booking", "1", account_key="c", attributed_channel="paid_search"),
        revenue("5", "2026-03-31", "new_booking", "1", account_key="d", attributed_channel="email"),
    ]  # fmt: skip
    metrics = on(revenue_events=bookings, **facts)
    assert metrics.parts("cac_paid") == (500, 1.25, 2)
    assert metrics.value("cac_paid") == 400
    nobody = on(**facts)
    assert nobody.status("cac_paid") == "infinite"
    assert nobody.parts("cac_paid") == (500, 0, 0)
    assert on(campaign_channels=CHANNELS).status("cac_paid") == "undefined"


def test_paid_revenue_is_weighted_net_and_restated_over_thirty_and_ninety_days() -> None:
    metrics = on(
        campaign_channels=CHANNELS,
        opportunity_channel_attribution=[
            {"opportunity_key": "half", "channel_key": "ads", "weight": "0.5"},
            {"opportunity_key": "none", "channel_key": "mail", "weight": 1},
        ],
        channel_spend_daily=[_spend("ads", "2026-03-31", "50"), _spend("ads", "2026-01-15", "150")],
        revenue_events=[
            revenue("1", "2026-03-31", "new_booking", "100", opportunity_key="half", contract_months=36),
            revenue(
                "2",
                "2026-03-31",
                "new_booking",
                "70",
                opportunity_key="none",
                attributed_channel="paid_search",
            ),
            revenue("3", "2026-03-31", "expansion", "20", attributed_channel="paid_search"),
            revenue("4", "2026-03-31", "refund", "6", opportunity_key="half"),
            revenue("5", "2026-03-31", "discount", "7", attributed_channel="paid_search"),
            revenue("6", "2026-03-31", "cogs", "500", attributed_channel="paid_search"),
            revenue("7", "2026-01-15", "other_revenue", "340", attributed_channel="paid_search"),
        ],
        **deals(deal("half", ("2026-01-01", "lead", 1)), deal("none", ("2026-01-01", "lead", 1))),
    )
    assert metrics.parts("revenue_from_paid") == (60, None, 4)
    assert metrics.value("revenue_from_paid", "window=T90") == 400
    assert metrics.near("roas_paid", 1.2)
    assert metrics.value("roas_paid", "window=T90") == 2
    assert metrics.row("roas_paid", "window=T90")["window_days"] == 90


def test_a_missing_day_of_spend_is_stale_not_zero() -> None:
    coverage = [
        ("google", "channel_spend_daily", DAY.replace(day=1), DAY, True),
        ("meta", "channel_spend_daily", DAY.replace(day=10), DAY.replace(day=30), True),
        ("old", "channel_spend_daily", DAY.replace(month=1), DAY.replace(month=2, day=1), False),
    ]
    facts: dict[str, Any] = {
        "campaign_channels": CHANNELS,
        "channel_spend_daily": [_spend("ads", "2026-03-30", "5")],
    }
    stale = on(coverage=coverage, **facts)
    assert stale.keys("spend_paid_total") == [""]
    assert stale.status("spend_paid_total") == "stale_source"
    assert stale.parts("spend_paid_total") == (None, None, 0)
    fresh = on(DAY.replace(day=30), coverage=coverage, **facts)
    assert fresh.value("spend_paid_total", "window=T30") == 5
    assert fresh.status("spend_paid_total", "window=T90") == "undefined"
    before = on(DAY.replace(year=2025), coverage=coverage, **facts)
    assert before.status("spend_paid_total") == "undefined"
