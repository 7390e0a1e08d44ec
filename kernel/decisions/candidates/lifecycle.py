"""Drafts about customers that are there: alerts for the people who look after them."""

from __future__ import annotations

from collections.abc import Iterator

from kernel.decisions.candidates.change import ticket
from kernel.decisions.levers import Draft, Situation
from kernel.decisions.trends import trend

DAYS = 7


def losing_customers(situation: Situation) -> Iterator[Draft]:
    """When churn is getting worse."""
    facts = situation.facts
    moving = trend("churn_rate", facts.totals.get("churn_rate", ()), facts.as_of)
    if moving.direction == "degrading":
        yield ticket(
            "churn_review",
            "lifecycle",
            "alert",
            "churn_rate",
            DAYS,
            "Customers who are about to leave can be kept when somebody talks to them first.",
            "Talk to the customers most likely to leave",
            f"Churn rose by about {round(moving.change_pct or 0)} % in two weeks.",
            "decrease",
        )


def shrinking_base(situation: Situation) -> Iterator[Draft]:
    """When existing customers pay less than they did a year ago."""
    retention = situation.facts.value("net_revenue_retention")
    if retention is not None and retention < 1:
        yield ticket(
            "retention_review",
            "lifecycle",
            "alert",
            "net_revenue_retention",
            DAYS,
            "A base that shrinks has to be replaced by customers who cost their CAC first.",
            "Review accounts that pay less than a year ago",
            f"Net revenue retention is {round(retention * 100)} %, so the base shrinks without new customers.",
            "increase",
        )


GENERATORS = (losing_customers, shrinking_base)
