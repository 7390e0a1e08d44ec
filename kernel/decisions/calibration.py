"""How good the predictions of actions were, by family, and how sure the next ones may be.

What a single result teaches about an effect stands in `effects`; here it is only asked whether claims were as exact
as they said.
"""

from __future__ import annotations

import logging
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
from kernel.decisions.weights import DEFAULT_WEIGHTS, Weights
from models.actions import decision_weights
from models.statements import statements

# Fewer misses than this say nothing about how large they usually are.
MIN_RESULTS = 5
# The assumed error of a family changes by a tenth at least and twofold at most in a week.
LEAST_CHANGE = Decimal("0.1")
LEAST, MOST = Decimal("0.5"), Decimal(2)
# Halved week after week, an error would become none, which no prior can be.
LEAST_STDERR_PCT = Decimal("0.01")
AUTHOR = "calibration"
_log = logging.getLogger(__name__)


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

    def miss(self, least_stderr_pct: Decimal) -> Decimal:
        """How far off it was, in the standard errors that prediction and measurement have together.

        No measurement is trusted to more than `least_stderr_pct`, as in learning.
        """
        measured = max(self.realised_stderr_pct, least_stderr_pct)
        return (self.realised_pct - self.predicted_pct) / (self.predicted_stderr_pct**2 + measured**2).sqrt()


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


def reliability(
    outcomes: Iterable[Outcome], least_stderr_pct: Decimal = DEFAULT_WEIGHTS.least_stderr_pct
) -> tuple[Reliability, ...]:
    """One row per family, by name."""
    by_family: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_family[outcome.family].append(outcome)
    with localcontext(prec=28):
        return tuple(_of_family(family, by_family[family], least_stderr_pct) for family in sorted(by_family))


def _of_family(family: str, found: Sequence[Outcome], least_stderr_pct: Decimal) -> Reliability:
    count = len(found)
    return Reliability(
        family=family,
        results=count,
        predicted_pct=sum((item.predicted_pct for item in found), Decimal(0)) / count,
        realised_pct=sum((item.realised_pct for item in found), Decimal(0)) / count,
        miss=(sum((item.miss(least_stderr_pct) ** 2 for item in found), Decimal(0)) / count).sqrt(),
    )


def recalibrated(weights: Weights, outcomes: Iterable[Outcome]) -> Weights | None:
    """The next version, in which the error of each family fits its misses; None when nothing has to change.

    Only predictions of this version count: with the next one counting begins anew, so no miss is charged twice.
    """
    families = dict(weights.families)
    counted = [item for item in outcomes if item.weights_version == weights.version]
    for found in reliability(counted, weights.least_stderr_pct):
        factor = min(MOST, max(LEAST, found.miss))
        if found.results < MIN_RESULTS or abs(factor - 1) < LEAST_CHANGE:
            continue
        prior = weights.prior(found.family, None)
        fitted = (prior.stderr_pct * factor).quantize(LEAST_STDERR_PCT)
        families[found.family] = prior.model_copy(update={"stderr_pct": max(fitted, LEAST_STDERR_PCT)})
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
    """Stores the next version of the weights of each tenant whose claims were off; gives how many were.

    A tenant whose weights or results cannot be read keeps its weights and is named in the log.
    """
    changed = 0
    with engine.begin() as connection:
        tenancy.service(connection)
        for tenant_id in tenant_ids:
            try:
                with connection.begin_nested():
                    changed += _recalibrated(connection, tenant_id, at)
            except Exception as error:
                told = (str(error).splitlines() or [""])[0]
                _log.warning(
                    "tenant %s: its weights stay as they are: %s: %s", tenant_id, type(error).__name__, told
                )
    return changed


def _recalibrated(connection: sa.Connection, tenant_id: UUID, at: datetime) -> bool:
    weights = bundle.weights(connection, [tenant_id], at)[tenant_id]
    following = recalibrated(weights, outcomes(connection, [tenant_id]))
    if following is None:
        return False
    families = [name for name, prior in following.families.items() if prior != weights.prior(name, None)]
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
    return True
