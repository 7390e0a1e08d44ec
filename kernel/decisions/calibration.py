"""How good the predictions of actions were, by family, and how sure the next ones may be.

What a single result teaches about an effect stands in `effects`; here it is only asked whether claims were as exact
as they said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kernel import tenancy
from kernel.decisions import bundle
from kernel.decisions.weights import Weights
from models.actions import decision_weights
from models.statements import statements

# Fewer misses than this say nothing about how large they usually are.
MIN_RESULTS = 5
# The assumed error of a family changes by a tenth at least and twofold at most in a week.
LEAST_CHANGE = Decimal("0.1")
LEAST, MOST = Decimal("0.5"), Decimal(2)
AUTHOR = "calibration"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One measured action: percent of the target metric in the intended direction, each with its standard error."""

    tenant_id: UUID
    family: str
    weights_version: int
    predicted_pct: Decimal
    predicted_stderr_pct: Decimal
    realised_pct: Decimal
    realised_stderr_pct: Decimal

    @property
    def miss(self) -> Decimal:
        """How far off it was, in the standard errors that prediction and measurement have together."""
        error = (self.predicted_stderr_pct**2 + self.realised_stderr_pct**2).sqrt()
        return (self.realised_pct - self.predicted_pct) / error


@dataclass(frozen=True, slots=True)
class Reliability:
    """The mean prediction and the mean result of a family in percent.

    `miss` is the root mean square of its misses: 1 when errors were as large as claimed, 2 when twice as large.
    """

    family: str
    results: int
    predicted_pct: Decimal
    realised_pct: Decimal
    miss: Decimal


def reliability(outcomes: Iterable[Outcome]) -> tuple[Reliability, ...]:
    """One row per family, by name."""
    by_family: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_family[outcome.family].append(outcome)
    with localcontext(prec=28):
        return tuple(_of_family(family, by_family[family]) for family in sorted(by_family))


def _of_family(family: str, found: Sequence[Outcome]) -> Reliability:
    count = len(found)
    return Reliability(
        family=family,
        results=count,
        predicted_pct=sum((item.predicted_pct for item in found), Decimal(0)) / count,
        realised_pct=sum((item.realised_pct for item in found), Decimal(0)) / count,
        miss=(sum((item.miss**2 for item in found), Decimal(0)) / count).sqrt(),
    )


def recalibrated(weights: Weights, outcomes: Iterable[Outcome]) -> Weights | None:
    """The next version, in which the error of each family fits its misses; None when nothing has to change.

    Only predictions of this version count: with the next one counting begins anew, so no miss is charged twice.
    """
    families = dict(weights.families)
    for found in reliability(item for item in outcomes if item.weights_version == weights.version):
        factor = min(MOST, max(LEAST, found.miss))
        if found.results < MIN_RESULTS or abs(factor - 1) < LEAST_CHANGE:
            continue
        prior = weights.prior(found.family, None)
        families[found.family] = prior.model_copy(
            update={"stderr_pct": (prior.stderr_pct * factor).quantize(Decimal("0.01"))}
        )
    if families == weights.families:
        return None
    return weights.model_copy(update={"version": weights.version + 1, "families": families})


def outcomes(connection: sa.Connection, tenant_ids: Sequence[UUID] | None = None) -> list[Outcome]:
    """Every measured action of the tenants, of all that the connection may see when left out; oldest first."""
    asked = {"tenant_ids": None if tenant_ids is None else list(tenant_ids)}
    found = []
    for row in connection.execute(statements("results")["predictions"], asked):
        # A confidence is size / (size + error), so the error follows from it; none can be told from 0.
        error = abs(row.predicted_pct) * (1 - row.confidence) / row.confidence
        found.append(
            Outcome(
                row.tenant_id, row.family, row.weights_version, row.predicted_pct, error, row.realised_pct,
                row.realised_stderr_pct,
            )
        )  # fmt: skip
    return found


def recalibrate(engine: sa.Engine, tenant_ids: Sequence[UUID], at: datetime) -> int:
    """Stores the next version of the weights of each tenant whose claims were off; gives how many were."""
    with engine.begin() as connection:
        tenancy.service(connection)
        found = outcomes(connection, tenant_ids)
        changed = 0
        for tenant_id, weights in bundle.weights(connection, tenant_ids, at).items():
            following = recalibrated(weights, [item for item in found if item.tenant_id == tenant_id])
            if following is None:
                continue
            changed += 1
            families = [
                name for name, prior in following.families.items() if prior != weights.prior(name, None)
            ]
            stored = pg.insert(decision_weights).values(
                tenant_id=tenant_id,
                version=following.version,
                valid_from=at,
                author=AUTHOR,
                reason=f"how far off predictions were: {', '.join(sorted(families))}",
                payload=following.model_dump(mode="json", exclude={"version"}),
            )
            # Whoever stored that version first looked at the same results.
            connection.execute(stored.on_conflict_do_nothing())
    return changed
