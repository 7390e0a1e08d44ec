"""Whether a tenant may stay in P3: looked at after each run, and taken back to P2 by the first sign that it may not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import intervals, people, stages
from kernel.books.canary import LEAST_CHECKED, PRECISION
from models.statements import statements

# Audited lines that are looked back on: what was right long ago does not make good what is wrong now.
_NEWEST = 500
_MOST_PSI = 0.20
_LONGEST_FALLBACK = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Signals:
    """What is measured elsewhere: population stability of the lines, the drop of accuracy in percentage points, and since
    when the budget for language models is used up.
    """

    psi: float | None = None
    accuracy_drop: float | None = None
    fallback_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Watched:
    """`demoted_for` is None while the tenant stays where it is. Of `audited` lines `right` were right."""

    stage: stages.Current
    audited: int
    right: int
    demoted_for: str | None = None


def watch(connection: sa.Connection, tenant_id: UUID, *, at: datetime, signals: Signals) -> Watched:
    """Takes P3 back when it is not deserved any more, in this transaction."""
    tenancy.service(connection, tenant_id)
    held = stages.newest(connection, tenant_id)
    if held.stage != "P3":
        return Watched(stages.current(connection, tenant_id, at=at), 0, 0)
    given = {"tenant_id": tenant_id, "since": held.since, "most": _NEWEST}
    audited = connection.execute(statements("books_stages")["audited"], given).scalars().all()
    right, count = sum(audited), len(audited)
    imbalanced = connection.scalar(statements("books_metrics")["imbalanced"], {"tenant_id": tenant_id})
    why = _why(right, count, imbalanced, held, at, signals)
    if why is None:
        return Watched(held, count, right)
    figures: dict[str, Any] = {"audited": count, "right": right, "imbalanced": imbalanced} | asdict(signals)
    made = stages.demote(connection, tenant_id, by=people.PIPELINE, at=at, reason=why, evidence=figures)
    return Watched(made, count, right, why)


def _why(
    right: int, count: int, imbalanced: int, held: stages.Current, at: datetime, signals: Signals
) -> str | None:
    lower, upper = intervals.wilson(right, count)
    if imbalanced:
        return f"{imbalanced} entries do not balance"
    # Few audited lines cannot show that it is precise enough, but they can show that it is not.
    if upper < PRECISION or (count >= LEAST_CHECKED and lower < PRECISION):
        return f"of {count} audited lines {right} were right: 95 % interval {lower:.3f} to {upper:.3f}"
    if (signals.psi or 0) > _MOST_PSI and (signals.accuracy_drop or 0) > 0:
        return f"lines changed (PSI {signals.psi:.2f}) and accuracy dropped by {signals.accuracy_drop:.1f} points"
    if signals.fallback_since is not None and at - signals.fallback_since > _LONGEST_FALLBACK:
        return f"the budget for language models is used up since {signals.fallback_since:%Y-%m-%d %H:%M} UTC"
    if held.expires_at <= at:
        return "the approval ended"
    return None
