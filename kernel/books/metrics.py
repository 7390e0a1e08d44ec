"""What happened in the books of a tenant in a window of time: counts and rows, as they are stored.

How well probabilities held, and the document that people read, are made of it in `ml.metrics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import llm_budget, people, plans
from kernel.books.contract import REASONS, Reason
from kernel.errors import RefusedError
from models.statements import statements

PERIODS = {"7d": 7, "30d": 30, "90d": 90, "180d": 180, "365d": 365}


@dataclass(frozen=True, slots=True)
class Window:
    """`period` days up to midnight, UTC, behind the day that is asked on: [starts, ends)."""

    period: str
    starts: datetime
    ends: datetime

    @classmethod
    def of(cls, period: str, at: datetime) -> Window:
        """Raises RefusedError for a period that is none of PERIODS."""
        if period not in PERIODS:
            raise RefusedError(f"period {period!r} is unknown: use {', '.join(PERIODS)}")
        ends = datetime.combine(at.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
        return cls(period, ends - timedelta(days=PERIODS[period]), ends)


@dataclass(frozen=True, slots=True)
class Facts:
    """Of each transaction the newest decision of the window, with what a person said of it since; and what goes with them.

    `lines` and `matched` are bank lines that no entry was made from, and those of them that stand for a posted entry.
    `calls` and `cost_usd` are of language models in the window, `budget` is that of the month.
    """

    tenant_id: UUID
    window: Window
    decided: Sequence[sa.Row[Any]]
    imbalance_count: int
    lines: int
    matched: int
    calls: int
    cost_usd: Decimal
    budget: llm_budget.Status

    @property
    def population_n(self) -> int:
        return len(self.decided)

    @property
    def passed_n(self) -> int:
        """What passed every gate: it would be posted, or was."""
        return sum(row.verdict != "review" for row in self.decided)

    @property
    def automated_n(self) -> int:
        """What stood as the machine proposed it: posted by it and not taken back, or approved unchanged."""
        return sum(
            row.label == row.proposed_account if row.label else row.verdict == "posted" and row.is_posted
            for row in self.decided
        )

    def reasons(self) -> dict[Reason, int]:
        """How many lines were held back, by their primary reason."""
        counted = Counter(row.not_auto_post_reason for row in self.decided)
        return {reason: counted[reason] for reason in REASONS}

    def failures(self) -> dict[Reason, int]:
        """How many lines did not pass each gate; a line may count in several."""
        counted = Counter(failure for row in self.decided for failure in row.failures)
        return {reason: counted[reason] for reason in REASONS}


def read(
    connection: sa.Connection, tenant_id: UUID, window: Window, *, caps: llm_budget.Caps, at: datetime
) -> Facts:
    """What is known at `at` of the window; labels that people gave later are not seen."""
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "starts": window.starts, "ends": window.ends, "at": at}
    days = {"first_date": window.starts.date(), "end_date": window.ends.date()}
    lines = _one(connection, "reconciled", given | days)
    called = _one(connection, "called", given)
    with plans.without_loops(connection):
        decided = connection.execute(_sql("decided"), given).all()
    return Facts(
        tenant_id, window, decided,
        _one(connection, "imbalanced", given)[0], lines.lines, lines.matched, called.calls,
        llm_budget.usd(called.micros), llm_budget.status(connection, tenant_id, caps=caps, at=at),
    )  # fmt: skip


def posted_by_itself(connection: sa.Connection, tenant_id: UUID) -> int:
    """Entries that the machine posted by an approval of P3, and that stand."""
    tenancy.service(connection, tenant_id)
    return _one(connection, "posted_by_itself", {"tenant_id": tenant_id, "machine": f"{people.AUTOPOST}%"})[0]


def _one(connection: sa.Connection, name: str, given: dict[str, Any]) -> sa.Row[Any]:
    return connection.execute(_sql(name), given).one()


def _sql(name: str) -> sa.TextClause:
    return statements("books_metrics")[name]
