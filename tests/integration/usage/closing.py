"""A tenant with people, and what tests of closes ask of it: capture in a month, recount, close, look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import members
from kernel.usage import adjustments, close, recount
from kernel.usage.adjustments import Approved
from kernel.usage.close import Check, Closed
from kernel.usage.recount import Counted
from tests.integration.usage import capturing

JANUARY = datetime(2026, 1, 15, 10, tzinfo=UTC)
FEBRUARY = JANUARY + timedelta(days=31)
CLOSE_AT = datetime(2026, 2, 1, 6, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, 6, tzinfo=UTC)


@dataclass
class Closer(capturing.Shop):
    """A shop with Ann and Ben, who are approvers, and Max, who is a member."""

    people: dict[str, UUID] = None

    def recount(self, at: datetime = CLOSE_AT, owner: str = "worker") -> list[Counted]:
        with self.engine.begin() as connection:
            recount.find(connection, self.tenant_id, at)
        return recount.work(self.engine, owner, lambda: at, tenant_id=self.tenant_id)

    def close_month(self, month: str = "2026-01", *, at: datetime = CLOSE_AT, actor: str = "Ann") -> Closed:
        with self.engine.begin() as connection:
            return close.close(connection, self.tenant_id, month, at=at, actor=actor)

    def checks(self, month: str = "2026-01", *, at: datetime = CLOSE_AT) -> dict[str, Check]:
        with self.engine.begin() as connection:
            found = close.preflight(connection, self.tenant_id, month, at=at)
        return {each.name: each for each in found}

    def closed(self, *keys: str, at: datetime = JANUARY) -> Closed:
        """January with these events, recounted and closed."""
        if keys:
            self.capture(*keys, at=at)
        self.recount()
        return self.close_month()

    def ask(self, quantity: int, *, month: str = "2026-01", at: datetime = FEBRUARY, **given: Any) -> UUID:
        named = {"kind": "correction", "reason": "counted by the customer", "actor": "Ann"} | given
        with self.engine.begin() as connection:
            return adjustments.ask(connection, self.tenant_id, self.site.id, month, quantity, at=at, **named)

    def approve(self, *ids: UUID, actor: str = "Ben", at: datetime = FEBRUARY) -> list[Approved]:
        with self.engine.begin() as connection:
            return adjustments.approve(connection, self.tenant_id, ids, actor=actor, at=at)

    def state(self, month: str = "2026-01") -> str | None:
        found = self.pinned("select state from usage.usage_periods where year_month = :m", m=month)
        return found[0].state if found else None

    def snapshots(self) -> list[Any]:
        return self.pinned("select * from usage.invoice_snapshot order by year_month, site_id")

    def lines(self, month: str = "2026-01") -> list[tuple]:
        """Kind, month, quantity and amount of each line."""
        rows = self.pinned(
            "select kind, of_year_month, quantity, amount from usage.usage_invoice_lines as lines"
            " inner join usage.usage_invoices as invoices on invoices.id = lines.invoice_id"
            " where invoices.year_month = :m order by currency, number",
            m=month,
        )
        return [tuple(row) for row in rows]


def closer(engine: sa.Engine) -> Closer:
    made = capturing.shop(engine)
    people = {"Ann": uuid4(), "Ben": uuid4(), "Max": uuid4()}
    with engine.begin() as connection:
        for name, user_id in people.items():
            role = "member" if name == "Max" else "approver"
            members.add(connection, made.tenant_id, user_id, name, role)
    return Closer(engine, made.site, people)
