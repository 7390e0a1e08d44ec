"""Transfers between a tenant's own accounts: two bank lines, one of each account, that are one movement and no income.

A pair is proposed where amounts are opposite, days are near, one of the two says that it is a transfer, and neither
could be paired with another line. How it is booked stands in `journal`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import plans, rules
from kernel.books.contract import BankLine
from kernel.books.rules import Ruled, Ruleset
from models.statements import array, statements

# What rules mean by it.
CATEGORY = "transfer"
# A transfer that leaves on Thursday may arrive on Monday.
DAYS = 4


@dataclass(frozen=True, slots=True)
class Side:
    """Of a line: the other one, and the account that it stands for."""

    other_id: UUID
    account: str
    is_out: bool


def find(
    connection: sa.Connection,
    tenant_id: UUID,
    lines: Sequence[BankLine],
    ruled: Sequence[Ruled],
    ruleset: Ruleset,
) -> dict[UUID, Side]:
    """Pairs of which one line at least is among these, by both of their ids."""
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id}
    sql = statements("books_decide")
    if not lines or connection.scalar(sql["bank_accounts"], given) < 2:
        return {}
    some_days = timedelta(days=DAYS)
    days = {
        "first_on": min(line.on for line in lines) - some_days,
        "last_on": max(line.on for line in lines) + some_days,
    }
    asked = {line.id for line in lines}
    with plans.without_loops(connection):
        unanswered = connection.execute(sql["unanswered"], given | days).all()
    opposite = _opposite(unanswered, asked)
    others = {line_id for pair in opposite for line_id in (pair.out_id, pair.in_id)}
    says = {line.id: one.means(CATEGORY) for line, one in zip(lines, ruled, strict=True)}
    unasked = read(connection, tenant_id, sorted(others - asked, key=str))
    for line, one in zip(unasked, rules.evaluate(ruleset, unasked), strict=True):
        says[line.id] = one.means(CATEGORY)
    return _paired([pair for pair in opposite if says[pair.out_id] or says[pair.in_id]])


@dataclass(frozen=True, slots=True)
class _Pair:
    out_id: UUID
    in_id: UUID
    out_code: str
    in_code: str
    days: int


def _opposite(unanswered: Sequence[sa.Row], asked: Set[UUID]) -> list[_Pair]:
    """Lines of two accounts with opposite amounts on near days, one of them at least asked for."""
    received: dict[tuple[str, int], list[sa.Row]] = defaultdict(list)
    for row in unanswered:
        if row.amount_minor > 0:
            received[row.currency, row.amount_minor].append(row)
    pairs = []
    for paid in unanswered:
        # The lists are by day: of many equal amounts only the near ones are looked at.
        came = received.get((paid.currency, -paid.amount_minor), ())
        start = bisect_left(came, paid.post_date - timedelta(days=DAYS), key=lambda row: row.post_date)
        for row in islice(came, start, None):
            days = (row.post_date - paid.post_date).days
            if days > DAYS:
                break
            if row.account_code != paid.account_code and (paid.id in asked or row.id in asked):
                pairs.append(_Pair(paid.id, row.id, paid.account_code, row.account_code, abs(days)))
    return pairs


def _paired(opposite: Sequence[_Pair]) -> dict[UUID, Side]:
    """Those whose two lines are each other's only nearest."""
    nearest: dict[UUID, int] = {}
    for pair in opposite:
        for line_id in (pair.out_id, pair.in_id):
            nearest[line_id] = min(nearest.get(line_id, pair.days), pair.days)
    near = [pair for pair in opposite if pair.days == nearest[pair.out_id] == nearest[pair.in_id]]
    times = Counter(line_id for pair in near for line_id in (pair.out_id, pair.in_id))
    sides: dict[UUID, Side] = {}
    for pair in near:
        if times[pair.out_id] == times[pair.in_id] == 1:
            sides[pair.out_id] = Side(pair.in_id, pair.in_code, True)
            sides[pair.in_id] = Side(pair.out_id, pair.out_code, False)
    return sides


def read(connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> list[BankLine]:
    """The lines of these ids that the tenant has, by day and id."""
    if not ids:
        return []
    tenancy.service(connection, tenant_id)
    rows = connection.execute(
        statements("books_decide")["lines"], {"tenant_id": tenant_id, "ids": array(ids)}
    )
    return [BankLine(*row) for row in rows]
