"""Kernel inputs for tests: the three tenants of the certification (A healthy, B degraded, C failing) and variations.

Every figure agrees with the others: payback = CAC / (new MRR x gross margin). Expectations stand in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from kernel.decisions.contract import (
    ActionResult,
    AnalysisWindow,
    Campaign,
    CfoGuardrails,
    Channel,
    Guardrails,
    KernelConfig,
    KernelInput,
    LiveAction,
    Reading,
    Setting,
    Targets,
    Trigger,
)

AS_OF = date(2026, 3, 16)
CLOCK = datetime(2026, 3, 17, 2, 0, tzinfo=UTC)
DAYS = 35
TENANT_A = UUID("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa")
TENANT_B = UUID("bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb")
TENANT_C = UUID("cccccccc-cccc-cccc-cccc-cccccccccccc")
CYCLE = UUID("00000000-0000-0000-0000-00000000c1c1")
CAMPAIGN = UUID("00000000-0000-0000-0000-0000000000ca")
PAID_SEARCH = UUID("00000000-0000-0000-0000-0000000000c1")
PAID_SOCIAL = UUID("00000000-0000-0000-0000-0000000000c2")
OUTBOUND = UUID("00000000-0000-0000-0000-0000000000c3")


@dataclass(frozen=True, slots=True)
class Scenario:
    """The figures that differ between the three tenants; money in the tenant's currency, margin 0 to 100."""

    tenant_id: UUID
    cac_blended: Decimal
    new_mrr: Decimal
    gross_margin_pct: Decimal
    payback_months: Decimal
    cac_paid: Decimal
    roas_paid: Decimal
    cash_runway_months: Decimal
    pipeline_total: Decimal
    # Customers that each channel won over the window, at the spend below.
    search_customers: Decimal
    social_customers: Decimal
    outbound_customers: Decimal


def _figures(tenant_id: UUID, *figures: str) -> Scenario:
    return Scenario(tenant_id, *map(Decimal, figures))


# Paid spends 35 days x (200 + 100) = 10,500 and wins 10,500 / cac_paid customers.
A = _figures(TENANT_A, "1200", "250", "72", "6.67", "540", "3.2", "18", "80000", "14", "5.444", "10")
B = _figures(TENANT_B, "2600", "250", "62", "16.77", "2900", "1.1", "9", "90000", "3", "0.621", "7")
C = _figures(TENANT_C, "3600", "240", "46", "32.61", "6000", "0.4", "5", "90000", "1.75", "0", "6")
SCENARIOS = {"A": A, "B": B, "C": C}


def daily(metric_id: str, value: Decimal | str | None, status: str = "ok", days: int = DAYS) -> list[Reading]:
    """The same reading on each of the last days up to AS_OF."""
    return [
        Reading(
            metric_id=metric_id,
            value=None if value is None else Decimal(value),
            date=AS_OF - timedelta(days=back),
            value_status=status,
            snapshot_id=f"{metric_id}@{AS_OF - timedelta(days=back)}",
        )
        for back in range(days)
    ]


def series(metric_id: str, values: Sequence[str | int | None]) -> list[Reading]:
    """One reading a day, the last on AS_OF; None leaves the day out."""
    first = AS_OF - timedelta(days=len(values) - 1)
    return [
        Reading(metric_id=metric_id, value=Decimal(value), date=first + timedelta(days=index))
        for index, value in enumerate(values)
        if value is not None
    ]


def metrics(scenario: Scenario, **changed: Decimal | str | list[Reading] | None) -> tuple[Reading, ...]:
    """The tenant's 35 days. A metric changed to None is missing; to readings, is those."""
    month_customers = Decimal(12)
    deal = scenario.new_mrr * 12
    values: dict[str, Any] = {
        "pipeline_total": scenario.pipeline_total,
        "bookings_new": month_customers * deal / 30,
        "bookings_count": month_customers / 30,
        "cac_blended": scenario.cac_blended,
        "payback_months": scenario.payback_months,
        "gross_margin_pct": scenario.gross_margin_pct,
        "cash_runway_months": scenario.cash_runway_months,
        "cac_paid": scenario.cac_paid,
        "roas_paid": scenario.roas_paid,
        "avg_deal_size": deal,
        "mrr_total": scenario.new_mrr * 200,
        "win_rate": "0.25",
        "email_reply_rate": "0.06",
        "meeting_book_rate": "0.04",
        "speed_to_lead_hours": "20",
        "follow_up_rate": "0.9",
        "no_show_rate": "0.2",
        "avg_sales_cycle_days": "45",
        "net_revenue_retention": "1.04",
        "revenue_per_fte": "160000",
        "missing_attribution_pct": "12",
    }
    found: list[Reading] = []
    for metric_id, value in (values | changed).items():
        if isinstance(value, list):
            found.extend(value)
        elif value is not None:
            found.extend(daily(metric_id, value))
    return tuple(found)


def channels(scenario: Scenario) -> tuple[Channel, ...]:
    """Two paid channels and outbound e-mail, all with a daily budget that was spent."""

    def channel(
        id: UUID, kind: str, is_paid: bool, budget: str, customers: Decimal, leads: int, budgets: int
    ) -> Channel:
        return Channel(
            id=id,
            campaign_id=CAMPAIGN,
            channel=kind,
            status="active",
            is_paid=is_paid,
            daily_budget=Decimal(budget),
            spend=Decimal(budget) * budgets,
            leads=leads,
            new_customers=customers,
            pipeline=customers * scenario.new_mrr * 12 * 4,
        )

    return (
        channel(PAID_SEARCH, "paid_search", True, "200", scenario.search_customers, 400, DAYS),
        channel(PAID_SOCIAL, "paid_social", True, "100", scenario.social_customers, 200, DAYS),
        channel(OUTBOUND, "email", False, "60", scenario.outbound_customers, 120, DAYS),
    )


SETTINGS: tuple[Setting, ...] = (
    Setting(subsystem="crm", field="follow_up_sla_hours", value=24),
    Setting(subsystem="crm", field="sequence_delay_days", value=4),
    Setting(subsystem="crm", field="max_touches", value=5),
    Setting(subsystem="pricing", field="discount_max_pct", value=20),
    Setting(subsystem="pricing", field="trial_days", value=30),
    Setting(subsystem="routing", field="round_robin_enabled", value=False),
    Setting(subsystem="routing", field="capacity_per_rep", value=40),
    Setting(subsystem="content", field="variant_weights", value={"plain": 95, "story": 5}),
    Setting(subsystem="content", field="cta_text", value="Learn more"),
)


def given(
    scenario: Scenario = A,
    *,
    readings: tuple[Reading, ...] | None = None,
    targets: Mapping[str, Any] | None = None,
    guardrails: Mapping[str, Any] | None = None,
    cfo: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    channel_rows: tuple[Channel, ...] | None = None,
    settings: tuple[Setting, ...] = SETTINGS,
    results: tuple[ActionResult, ...] = (),
    live: tuple[LiveAction, ...] = (),
    **other: Any,
) -> KernelInput:
    """A complete input; every argument replaces or overlays its part."""
    rails = {
        "allowed_levers": ("campaigns", "channels", "sequences", "pricing"),
        "monthly_budget_cap": Decimal(50_000),
    }
    cfo_rails = {"payback_target_months": 12, "payback_tolerance_months": 3, "margin_floor_pct": 50}
    known = {"activated_at": CLOCK - timedelta(days=100)}
    aims = {"pipeline_total": 100_000, "cac_max": 2_500, "payback_max_months": 12}
    fields: dict[str, Any] = {
        "tenant_id": scenario.tenant_id,
        "trigger": Trigger(type="scheduled", source="daily", triggered_at=CLOCK),
        "analysis_window": AnalysisWindow(start_date=AS_OF - timedelta(days=DAYS - 1), end_date=AS_OF),
        "targets": Targets(**(aims | dict(targets or {}))),
        "guardrails": Guardrails(**(rails | dict(guardrails or {}))),
        "cfo_guardrails": CfoGuardrails(**(cfo_rails | dict(cfo or {}))),
        "metrics": metrics(scenario) if readings is None else readings,
        "campaigns": (Campaign(id=CAMPAIGN, name="Always on", status="running"),),
        "recent_action_results": results,
        "config": KernelConfig(**(known | dict(config or {}))),
        "channels": channels(scenario) if channel_rows is None else channel_rows,
        "settings": settings,
        "live_actions": live,
    }
    return KernelInput(**(fields | other))


def result(
    family: str,
    effect_pct: str | int | Decimal,
    *,
    days_ago: int = 1,
    stderr_pct: str | int | Decimal = 2,
    economics: str = "inconclusive",
    weight: str | int = 1,
    target: str = "win_rate",
    clock: datetime = CLOCK,
) -> ActionResult:
    """A closed action of the family with its effect in percent, in the intended direction."""
    effect = Decimal(effect_pct)
    return ActionResult(
        action_id=f"{family}:{days_ago}",
        target_metric=target,
        baseline_value=Decimal(100),
        observed_value=100 + effect,
        delta=effect,
        confidence=Decimal("0.9"),
        outcome="improved" if effect > 2 else "hurt" if effect < -2 else "neutral",
        family=family,
        closed_at=clock - timedelta(days=days_ago),
        effect_pct=effect,
        effect_stderr_pct=Decimal(stderr_pct),
        economics=economics,
        weight=Decimal(weight),
        economics_weight=Decimal(weight),
    )
