"""Many lines of one vendor answered at once. One by one they are answered in `review`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import sqlalchemy as sa

from kernel.books import journal, review
from kernel.errors import RefusedError

Direction = Literal["in", "out"]
_ALL = 2**31 - 1


def approve_vendor(
    connection: sa.Connection,
    tenant_id: UUID,
    vendor: str,
    *,
    account: str,
    by: str,
    at: datetime,
    direction: Direction | None = None,
) -> review.Answered:
    """Approves all waiting lines of a vendor and a direction whose proposal is this account; those with another one keep
    waiting, and so do those of locked months.

    Raises RefusedError, as `approve` does and where money goes both ways and no direction is named: a refund is seldom
    booked like a purchase.
    """
    waiting = review.queue(connection, tenant_id, vendor=vendor, most=_ALL)
    lines = [each for each in waiting.lines if each.proposed_account == account]
    out, in_ = ([each for each in lines if (each.amount < 0) is is_out] for is_out in (True, False))
    if direction is None and out and in_:
        raise RefusedError(
            f"of {vendor!r} lines wait with account {account} proposed that go out ({_sums(out)}) and that come in"
            f" ({_sums(in_)}): approve them apart, with --direction out or in"
        )
    lines = {"out": out, "in": in_, None: lines}[direction]
    if not lines:
        going = {"out": " that goes out", "in": " that comes in", None: ""}[direction]
        raise RefusedError(
            f"no line of vendor {vendor!r}{going} waits with account {account} proposed: book its lines elsewhere with"
            " revenue-os books correct"
        )
    shut = journal.hold_months(connection, tenant_id, {each.on for each in lines}, at=at)
    locked = [each.txn_id for each in lines if f"{each.on:%Y-%m}" in shut]
    ids = [each.txn_id for each in lines if each.txn_id not in set(locked)]
    seen = dict.fromkeys(ids, account)
    done = review.approve(connection, tenant_id, ids, by=by, at=at, source="bulk", seen=seen)
    return replace(done, locked=tuple(locked))


def _sums(lines: Sequence[review.Waiting]) -> str:
    """How many lines, and their amounts by currency: `3 lines, 12.50 USD`."""
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for each in lines:
        totals[each.currency] += abs(each.amount)
    told = (f"{amount:,} {currency}" for currency, amount in sorted(totals.items()))
    return f"{len(lines)} lines, {' and '.join(told)}"
