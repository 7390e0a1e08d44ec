"""The weekly digest for CFOs: economics, gates and what became of actions, per tenant and over the portfolio.

Built from what is stored; nothing is decided, measured or sent here. How it is shown stands in `digest_pages`.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from statistics import median
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.errors import RefusedError
from models.statements import statements

SHOWN = (
    "payback_months", "cac_blended", "gross_margin_pct", "contribution_margin_pct", "revenue_per_fte",
    "sales_efficiency_ratio",
)  # fmt: skip
VERDICTS = ("improved", "hurt", "neutral", "inconclusive")
_LOOK_BACK = timedelta(days=90)  # an older value says nothing about the week


@dataclass(frozen=True, slots=True)
class MetricLine:
    """The newest known value. Changes are in the metric's unit; `stale` says why the value is not of this week, or
    why there is none."""

    metric_id: str
    value: Decimal | None
    date: date | None
    stale: str
    week_change: Decimal | None
    baseline_change: Decimal | None


@dataclass(frozen=True, slots=True)
class ActionLine:
    """An action that came to its end in the week. `economics` is one of VERDICTS, or reverted."""

    action_id: str
    hypothesis: str
    target_metric: str
    before: Decimal | None
    after: Decimal | None
    outcome: str
    economics: str
    approved_by: str
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class TenantDigest:
    """`verdicts` counts closed actions by what they did to the economics; `gates` counts cycles by gate.

    `switched_on` is None when it is not known, or after the week.
    """

    tenant_id: UUID
    slug: str
    name: str
    currency: str
    gates_enabled: bool
    switched_on: date | None
    metrics: tuple[MetricLine, ...]
    verdicts: Mapping[str, int]
    reverted: int
    gates: Mapping[str, int]
    actions: tuple[ActionLine, ...]
    arr: Decimal | None


@dataclass(frozen=True, slots=True)
class PortfolioLine:
    """Over the tenants of one currency; stale values are left out. The weighted mean needs a known ARR."""

    currency: str
    metric_id: str
    median: Decimal | None
    n: int
    weighted_mean: Decimal | None
    weighted_n: int


@dataclass(frozen=True, slots=True)
class Digest:
    """`portfolio` is None unless the platform asked."""

    week: str
    first: date
    last: date
    tenants: tuple[TenantDigest, ...]
    portfolio: tuple[PortfolioLine, ...] | None


def build(
    connection: sa.Connection,
    week: date,
    tenant_ids: Sequence[UUID] | None = None,
    platform: bool = False,
    *,
    user_id: UUID | None = None,
) -> Digest:
    """The digest of the ISO week that holds `week`, Monday to Sunday in UTC, of the tenants asked for or of all.

    The platform sees every tenant and the portfolio. Anybody else names the user, who sees the tenants they belong
    to. Raises RefusedError for a tenant the user does not belong to.
    """
    asked = None if tenant_ids is None else list(tenant_ids)
    if not platform:
        _entitled(connection, asked, user_id)
    first = week - timedelta(days=week.weekday())
    since = datetime.combine(first, time(), UTC)
    span = {"since": since, "until": since + timedelta(days=7)}
    rows = list(
        connection.execute(
            _sql("tenants"), {**span, "tenant_ids": asked, "platform": platform, "user_id": user_id}
        )
    )
    ids = [row.id for row in rows]
    metrics = _metrics(connection, ids, first)
    actions = _by_tenant(connection, "actions", ids, span)
    gates = _by_tenant(connection, "gates", ids, span)
    tenants = tuple(_tenant(row, metrics, actions[row.id], gates[row.id], span) for row in rows)
    year, number, _ = first.isocalendar()
    return Digest(
        f"{year}-W{number:02d}",
        first,
        first + timedelta(days=6),
        tenants,
        _portfolio(tenants) if platform else None,
    )


def find_user(connection: sa.Connection, asked: str) -> UUID:
    """The user of that id or name, over all tenants. Raises RefusedError for none, and for several of that name."""
    known = list(connection.execute(_sql("users")))
    found = {row.user_id for row in known if asked in (str(row.user_id), row.name)}
    if len(found) > 1:
        raise RefusedError(
            f"{len(found)} users are named {asked!r}: give the id, see revenue-os tenant member"
        )
    if not found:
        near = difflib.get_close_matches(asked, {row.name for row in known}, n=1)
        raise RefusedError(
            f"user {asked!r} belongs to no tenant: {f'did you mean {near[0]}?' if near else 'add a membership'}"
        )
    return found.pop()


def _entitled(connection: sa.Connection, asked: list[UUID] | None, user_id: UUID | None) -> None:
    if user_id is None:
        raise RefusedError("a digest that is not the platform's is a user's: name the user")
    if asked is None:
        return
    rows = connection.execute(_sql("memberships"), {"tenant_ids": asked, "user_id": user_id})
    if strangers := set(asked) - {row.tenant_id for row in rows}:
        raise RefusedError(
            f"user {user_id} does not belong to tenant {min(strangers, key=str)}: add a membership"
        )


def _metrics(connection: sa.Connection, ids: list[UUID], first: date) -> dict[tuple[UUID, str], sa.Row[Any]]:
    last = first + timedelta(days=6)
    given = {
        "tenant_ids": ids,
        "metric_ids": [*SHOWN, "arr_total"],
        "first": first,
        "last": last,
        "oldest": last - _LOOK_BACK,
    }
    return {(row.tenant_id, row.metric_id): row for row in connection.execute(_sql("metrics"), given)}


def _by_tenant(
    connection: sa.Connection, name: str, ids: list[UUID], span: dict[str, datetime]
) -> dict[UUID, list[sa.Row[Any]]]:
    found: dict[UUID, list[sa.Row[Any]]] = defaultdict(list)
    for row in connection.execute(_sql(name), {**span, "tenant_ids": ids}):
        found[row.tenant_id].append(row)
    return found


def _tenant(
    row: sa.Row[Any],
    metrics: Mapping[tuple[UUID, str], sa.Row[Any]],
    actions: list[sa.Row[Any]],
    gates: list[sa.Row[Any]],
    span: Mapping[str, datetime],
) -> TenantDigest:
    first = span["since"].date()
    activated: datetime | None = row.activated_at
    switched_on = activated.astimezone(UTC).date() if activated and activated < span["until"] else None
    lines = tuple(_action(action) for action in actions)
    counts = Counter(line.economics for line in lines)
    arr = metrics[row.id, "arr_total"]
    return TenantDigest(
        tenant_id=row.id,
        slug=row.slug,
        name=row.name,
        currency=row.currency,
        gates_enabled=row.gates_enabled,
        switched_on=switched_on,
        metrics=tuple(_line(metrics[row.id, metric_id], first, switched_on) for metric_id in SHOWN),
        verdicts={verdict: counts[verdict] for verdict in VERDICTS},
        reverted=counts["reverted"],
        gates={gate.gate: gate.cycles for gate in gates},
        actions=lines,
        arr=arr.value,
    )


def _line(row: sa.Row[Any], first: date, switched_on: date | None) -> MetricLine:
    stale = ""
    if row.value is None:
        stale = _why_none(row, first)
    elif row.date < first:
        stale = f"as of {row.date}"
    elif row.status != "ok":
        stale = f"as of {row.date}, since then {row.status}"
    fresh = row.value is not None and row.date >= first
    return MetricLine(
        metric_id=row.metric_id,
        value=row.value,
        date=row.date,
        stale=stale,
        # A value of an earlier week has not changed in this one.
        week_change=_minus(row.value, row.earlier_value) if fresh else None,
        baseline_change=_minus(row.value, row.baseline_value) if switched_on else None,
    )


def _why_none(row: sa.Row[Any], first: date) -> str:
    if row.status is None:
        return "never computed"
    if row.status == "ok":
        return f"last known on {row.computed}"
    return row.status if row.computed >= first else f"{row.status} on {row.computed}"


def _action(row: sa.Row[Any]) -> ActionLine:
    reverted = row.execution_status == "reverted"
    approved = row.approver or ("unknown" if row.requires_acknowledgment else "no approval needed")
    return ActionLine(
        action_id=row.action_id,
        hypothesis=row.hypothesis or "",
        target_metric=row.target_metric,
        before=row.baseline_value,
        after=row.observed_value,
        outcome="reverted" if reverted else row.outcome or "not_measurable",
        economics="reverted" if reverted else row.economics or "inconclusive",
        approved_by=approved,
        closed_at=row.closed_at,
    )


def _portfolio(tenants: Iterable[TenantDigest]) -> tuple[PortfolioLine, ...]:
    """Currencies are not mixed: neither a CAC in two of them nor an ARR can be averaged."""
    by_currency: dict[str, list[TenantDigest]] = defaultdict(list)
    for tenant in tenants:
        by_currency[tenant.currency].append(tenant)
    lines = []
    for currency, members in sorted(by_currency.items()):
        for place, metric_id in enumerate(SHOWN):
            known = [
                (tenant.metrics[place].value, tenant.arr)
                for tenant in members
                if tenant.metrics[place].value is not None and not tenant.metrics[place].stale
            ]
            weighed = [(value, arr) for value, arr in known if arr is not None and arr > 0]
            total = sum(arr for _, arr in weighed)
            lines.append(
                PortfolioLine(
                    currency,
                    metric_id,
                    median(value for value, _ in known) if known else None,
                    len(known),
                    sum(value * arr for value, arr in weighed) / total if total else None,
                    len(weighed),
                )
            )
    return tuple(lines)


def _minus(value: Decimal | None, earlier: Decimal | None) -> Decimal | None:
    return None if value is None or earlier is None else value - earlier


def _sql(name: str) -> sa.TextClause:
    return statements("digest")[name]
