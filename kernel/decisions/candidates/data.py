"""Drafts about data: what must be repaired, what no longer holds, and where a person should look."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from kernel.decisions.candidates.change import ticket
from kernel.decisions.levers import Draft, Situation

CORRECTION_DAYS, REVIEW_DAYS = 3, 7
MOST_CORRECTIONS = 3
# Above this share of the open deals' value past its closing date, the forecast is about last month.
OVERDUE_SHARE = Decimal("0.2")


def repair(situation: Situation) -> Iterator[Draft]:
    """The three most urgent troubles."""
    for issue in situation.issues[:MOST_CORRECTIONS]:
        yield ticket(
            f"restore_{issue.metric_id}",
            "data",
            "data_correction",
            issue.metric_id,
            CORRECTION_DAYS,
            f"Decisions are better founded once {issue.metric_id} can be relied on.",
            f"{issue.what}: {issue.fix}",
            f"{issue.what}. To repair it, {issue.fix}.",
        )


def outdated_forecast(situation: Situation) -> Iterator[Draft]:
    """When much of the open pipeline should have closed already."""
    deals = [deal for deal in situation.given.opportunities if deal.amount]
    total = sum((deal.amount or Decimal(0) for deal in deals), Decimal(0))
    overdue = [
        deal
        for deal in deals
        if deal.expected_close_date and deal.expected_close_date < situation.facts.as_of
    ]
    late = sum((deal.amount or Decimal(0) for deal in overdue), Decimal(0))
    if total and late / total > OVERDUE_SHARE:
        yield ticket(
            "overdue_deals",
            "data",
            "forecast_update",
            "pipeline_coverage_ratio",
            REVIEW_DAYS,
            "A forecast without deals that should have closed already is one to plan by.",
            f"Give {len(overdue)} overdue deals a new closing date or close them",
            f"{round(late / total * 100)} % of the open pipeline is past its expected closing date.",
        )


def diagnostic(situation: Situation) -> Iterator[Draft]:
    """A look at the priority metric, for when nothing better can be done."""
    metric_id = situation.priority_metric
    yield ticket(
        f"review_{metric_id}",
        "data",
        "alert",
        metric_id,
        REVIEW_DAYS,
        f"Knowing what moves {metric_id} shows what could be changed.",
        f"Find out what moves {metric_id}",
        f"{metric_id} is what matters most now, and not enough can be changed with what is known.",
    )


GENERATORS = (repair, outdated_forecast, diagnostic)
