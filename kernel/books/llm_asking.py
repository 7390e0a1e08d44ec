"""Whom language models are asked for: the lines that wait and that no rule and no person's answer knows, tenant by tenant.

How one is asked and what it may cost stands in `llm` and `llm_budget`; what a decision makes of an answer, in `blend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import llm, llm_budget, plans, rules, settings
from kernel.books.contract import BankLine, Opinion
from kernel.books.llm import Answered, Labeller
from kernel.books.llm_budget import Limits
from models.statements import array, statements

# Of a batch, over all its tenants: a slow service must not keep the rest of a night waiting.
LONGEST = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a language model answered of lines that wait, by line; `news` are those whose newest decision does not note it."""

    opinions: Mapping[UUID, Opinion] = field(default_factory=dict)
    news: frozenset[UUID] = frozenset()


@dataclass
class Batch:
    """One round of asking. Once the service is away, or the time is over, nobody more is asked."""

    engine: sa.Engine
    labeller: Labeller | None
    limits: Limits
    clock: Callable[[], datetime]
    _until: datetime = field(init=False)
    _why_away: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._until = self.clock() + LONGEST

    def ask(self, tenant_id: UUID) -> Answered | None:
        """Asks about the tenant's lines; None where no language model is set, or the tenant does not want one.

        Calls that nobody settled are settled first, and a fallback that is over ends. Raises RefusedError for a model
        without a price.
        """
        at = self.clock()
        with self.engine.begin() as connection:
            held = settings.current(connection, tenant_id).settings
            caps = self.limits.caps(held)
            llm_budget.settle_forgotten(connection, tenant_id, at=at)
            llm_budget.release(connection, tenant_id, caps=caps, at=at)
        if self.labeller is None or not held.llm_enabled:
            return None
        with self.engine.begin() as connection:
            budget = llm_budget.status(connection, tenant_id, caps=caps, at=at)
            if budget.fallback_active:
                return Answered(refused=budget.fallback_reason)
            lines = unknown(connection, tenant_id)
            ruled = rules.evaluate(rules.load(connection, tenant_id), lines)
            # A night's batch that stops at what fits causes no fallback, which would end posting until the month is over.
            most = llm_budget.room(connection, tenant_id, caps=caps, at=at)
        asked = [
            line for line, rule in zip(lines, ruled, strict=True) if rule.account is None or rule.has_conflict
        ]
        made = llm.answers(
            self.engine, tenant_id, asked, self.labeller, caps=caps, clock=self.clock, until=self._until,
            most=0 if self._why_away else most,
        )  # fmt: skip
        if made.is_away:
            self._why_away = made.why
        return replace(made, why=made.why or self._why_away)


def unknown(connection: sa.Connection, tenant_id: UUID) -> list[BankLine]:
    """Lines that wait and of whose vendor nobody said anything, those of the most frequent vendors first."""
    tenancy.service(connection, tenant_id)
    with plans.without_loops(connection):
        rows = connection.execute(statements("books_llm")["unknown"], {"tenant_id": tenant_id}).all()
    return [BankLine(*row) for row in rows]


def heard(connection: sa.Connection, tenant_id: UUID, model: str) -> Heard:
    """What a language model answered of the tenant's lines that nobody knows, where the tenant wants one."""
    if not settings.current(connection, tenant_id).settings.llm_enabled:
        return Heard()
    opinions = llm.known(connection, tenant_id, unknown(connection, tenant_id), model)
    given = {"tenant_id": tenant_id, "ids": array(opinions)}
    noted = {
        row.txn_id: (row.model, row.account)
        for row in connection.execute(statements("books_llm")["noted"], given)
    }
    news = (txn_id for txn_id, told in opinions.items() if noted.get(txn_id) != (told.model, told.account))
    return Heard(opinions, frozenset(news))
