"""Everything the kernel reads, gathered for many tenants in a constant number of queries.

The one place where a tenant's configuration becomes targets and guardrails. Deciding stands in `decide`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from kernel import tenancy
from kernel.actions.results import recent
from kernel.decisions import gates
from kernel.decisions.contract import (
    ActionResult,
    AnalysisWindow,
    Campaign,
    CfoGuardrails,
    Channel,
    GateReading,
    Guardrails,
    KernelConfig,
    KernelError,
    KernelInput,
    LiveAction,
    Opportunity,
    Reading,
    RevenueEvent,
    Setting,
    Targets,
    Trigger,
)
from kernel.decisions.weights import DEFAULT_WEIGHTS, Weights
from kernel.errors import RefusedError
from kernel.tenancy import Config
from models.statements import statements
from models.vocabulary import DEAD_EXECUTION_STATUSES

# Four whole weeks to compare, and the days a gate needs to open again.
WINDOW_DAYS = 35
# A person's no holds for the usual observation window; by then the numbers it was founded on have changed.
REJECTION_DAYS = 14
WEEKLY = "weekly deep cycle"  # the source of a trigger that asks for depth

_READINGS = TypeAdapter(tuple[Reading, ...])

Results = Callable[[sa.Connection, Sequence[UUID]], Mapping[UUID, tuple[ActionResult, ...]]]


def targets(config: Config) -> Targets:
    return Targets(
        pipeline_total=config.target_pipeline,
        bookings_new=config.target_bookings,
        arr_target=config.arr_target,
        cac_max=config.max_cac,
        payback_max_months=config.payback_target_months,  # what is aimed at; the tolerance is the gate's
        gross_margin_min=config.margin_floor_pct,
    )


def guardrails(config: Config) -> Guardrails:
    return Guardrails(
        max_daily_spend=config.max_daily_spend,
        max_experiment_exposure_pct=config.experiment_exposure_pct,
        allowed_levers=tuple(config.allowed_levers),
        blocked_actions=tuple(config.blocked_actions),
        monthly_budget_cap=config.monthly_budget_cap,
    )


def cfo_guardrails(config: Config) -> CfoGuardrails:
    return CfoGuardrails(
        payback_target_months=config.payback_target_months,
        payback_tolerance_months=config.payback_tolerance_months,
        margin_floor_pct=config.margin_floor_pct,
        max_cac_by_segment=config.max_cac_by_segment,
        cash_risk_tolerance=config.cash_risk_tolerance,
        runway_threshold_months=config.runway_threshold_months,
    )


@dataclass(frozen=True, slots=True)
class Settled:
    """A tenant with the configuration in force. `config_version_id` is None while the defaults decide."""

    tenant_id: UUID
    slug: str
    cfo_expansion_enabled: bool
    activated_at: datetime | None
    config_version_id: UUID | None
    config: Config
    reporting_currency: str


def settled(
    connection: sa.Connection, tenant_ids: Sequence[UUID], at: datetime
) -> dict[UUID, Settled | KernelError]:
    """The tenants asked for; an unknown one and one whose configuration cannot stand give the error they are."""
    found: dict[UUID, Settled | KernelError] = {
        tenant_id: KernelError("TENANT_NOT_FOUND", f"tenant {tenant_id} does not exist")
        for tenant_id in tenant_ids
    }
    for row in _rows(connection, "tenants", tenant_ids=list(tenant_ids), at=at):
        try:
            config = tenancy.parsed_config(row.payload)
        except RefusedError as error:
            found[row.tenant_id] = KernelError("INVALID_INPUT", str(error))
            continue
        found[row.tenant_id] = Settled(
            tenant_id=row.tenant_id,
            slug=row.slug,
            cfo_expansion_enabled=row.cfo_expansion_enabled,
            activated_at=row.revenue_os_activated_at,
            config_version_id=row.config_version_id,
            config=config,
            reporting_currency=config.reporting_currency or row.default_currency,
        )
    return found


def newest_days(connection: sa.Connection, tenant_ids: Sequence[UUID], as_of: date) -> dict[UUID, date]:
    """The newest computed day up to `as_of`; a tenant without metrics is absent."""
    rows = _rows(connection, "newest_days", tenant_ids=list(tenant_ids), as_of=as_of)
    return {row.tenant_id: row.day for row in rows}


def readings(
    connection: sa.Connection,
    tenant_ids: Sequence[UUID],
    as_of: date,
    days: int = WINDOW_DAYS,
    metric_ids: Sequence[str] | None = None,
) -> dict[UUID, tuple[Reading, ...]]:
    """The totals of the `days` up to each tenant's newest computed day, by metric and day; () without metrics.

    All metrics unless some are named.
    """
    newest = newest_days(connection, tenant_ids, as_of)
    asked = {
        "tenant_ids": list(newest),
        "last_days": list(newest.values()),
        "days": days,
        "metric_ids": None if metric_ids is None else list(metric_ids),
    }
    found: dict[UUID, tuple[Reading, ...]] = dict.fromkeys(tenant_ids, ())
    for row in _rows(connection, "readings", **asked):
        found[row.tenant_id] = _READINGS.validate_json(row.readings)
    return found


def gates_of(connection: sa.Connection, tenant_id: UUID, at: datetime) -> tuple[GateReading, ...]:
    """The gates as they stand at the instant: what dispatch asks again before it applies. Raises KernelError."""
    tenant = settled(connection, [tenant_id], at)[tenant_id]
    if isinstance(tenant, KernelError):
        raise tenant
    day = newest_days(connection, [tenant_id], at.date()).get(tenant_id, at.date())
    return gates.evaluate(
        readings(connection, [tenant_id], at.date(), metric_ids=gates.METRICS)[tenant_id],
        cfo_guardrails(tenant.config),
        enabled=tenant.cfo_expansion_enabled,
        as_of=day,
        clock=at,
    )


@dataclass(frozen=True, slots=True)
class Committed:
    """What actions add to spend: to the whole of a calendar month, and a day from now on. Negative when they save."""

    month: Decimal = Decimal(0)
    daily: Decimal = Decimal(0)


def committed(connection: sa.Connection, tenant_ids: Sequence[UUID], at: datetime) -> dict[UUID, Committed]:
    found = dict.fromkeys(tenant_ids, Committed())
    for row in _rows(connection, "committed", tenant_ids=list(tenant_ids), at=at):
        found[row.tenant_id] = Committed(row.month, row.daily)
    return found


def weights(connection: sa.Connection, tenant_ids: Sequence[UUID], at: datetime) -> dict[UUID, Weights]:
    found = dict.fromkeys(tenant_ids, DEFAULT_WEIGHTS)
    for row in _rows(connection, "weights", tenant_ids=list(tenant_ids), at=at):
        found[row.tenant_id] = Weights.model_validate(row.payload | {"version": row.version})
    return found


def load(
    connection: sa.Connection,
    tenants: Sequence[UUID],
    clock: datetime,
    as_of: date,
    *,
    trigger: Trigger | Mapping[UUID, Trigger],
    results: Results = recent,
) -> dict[UUID, KernelInput | KernelError]:
    """What each tenant's cycle is given, up to its newest computed day not later than `as_of`.

    A tenant that cannot be decided gives the error it would raise; the others are complete.
    """
    found: dict[UUID, KernelInput | KernelError] = {}
    ready: dict[UUID, Settled] = {}
    for tenant_id, tenant in settled(connection, tenants, clock).items():
        if isinstance(tenant, KernelError):
            found[tenant_id] = tenant
        else:
            ready[tenant_id] = tenant
    days = newest_days(connection, list(ready), as_of)
    for tenant_id in set(ready) - set(days):
        found[tenant_id] = KernelError(
            "INSUFFICIENT_DATA",
            f"{ready.pop(tenant_id).slug} has no metrics up to {as_of}: compute them first",
        )
    parts = _parts(connection, ready, days, clock, as_of, results)
    for tenant_id, tenant in ready.items():
        asked = trigger if isinstance(trigger, Trigger) else trigger[tenant_id]
        try:
            found[tenant_id] = _given(tenant, days[tenant_id], asked, parts)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            found[tenant_id] = KernelError("INVALID_INPUT", f"{field}: {first['msg']}")
        except RefusedError as error:
            found[tenant_id] = KernelError("INVALID_INPUT", str(error))
    return found


@dataclass(frozen=True, slots=True)
class _Parts:
    """What was read, each by tenant; a tenant without any is absent."""

    metrics: Mapping[UUID, tuple[Reading, ...]]
    revenue_events: Mapping[UUID, list[RevenueEvent]]
    campaigns: Mapping[UUID, list[Campaign]]
    channels: Mapping[UUID, list[Channel]]
    opportunities: Mapping[UUID, list[Opportunity]]
    settings: Mapping[UUID, list[Setting]]
    live_actions: Mapping[UUID, list[LiveAction]]
    results: Mapping[UUID, tuple[ActionResult, ...]]
    committed: Mapping[UUID, Committed]
    weights: Mapping[UUID, Weights]


def _parts(
    connection: sa.Connection,
    ready: Mapping[UUID, Settled],
    days: Mapping[UUID, date],
    at: datetime,
    as_of: date,
    results: Results,
) -> _Parts:
    ids = list(ready)
    scope = {
        "tenant_ids": ids,
        "last_days": [days[tenant_id] for tenant_id in ids],
        "currencies": [ready[tenant_id].reporting_currency for tenant_id in ids],
    }
    return _Parts(
        metrics=readings(connection, ids, as_of),
        revenue_events=_records(connection, RevenueEvent, "revenue_events", **scope),
        campaigns=_records(connection, Campaign, "campaigns", **scope),
        channels=_records(connection, Channel, "channels", **scope, days=WINDOW_DAYS, at=at),
        opportunities=_records(connection, Opportunity, "opportunities", **scope, at=at),
        settings=_records(connection, Setting, "settings", tenant_ids=ids),
        live_actions=_records(
            connection,
            LiveAction,
            "live_actions",
            tenant_ids=ids,
            dead=list(DEAD_EXECUTION_STATUSES),
            rejected_since=at - timedelta(days=REJECTION_DAYS),
            at=at,
        ),
        results=results(connection, ids),
        committed=committed(connection, ids, at),
        weights=weights(connection, ids, at),
    )


def _given(tenant: Settled, day: date, trigger: Trigger, parts: _Parts) -> KernelInput:
    key = tenant.tenant_id
    return KernelInput(
        tenant_id=key,
        trigger=trigger,
        analysis_window=AnalysisWindow(start_date=day - timedelta(days=WINDOW_DAYS - 1), end_date=day),
        targets=targets(tenant.config),
        guardrails=guardrails(tenant.config),
        cfo_guardrails=cfo_guardrails(tenant.config),
        metrics=parts.metrics[key],
        revenue_events=tuple(parts.revenue_events.get(key, ())),
        campaigns=tuple(parts.campaigns.get(key, ())),
        opportunities=tuple(parts.opportunities.get(key, ())),
        recent_action_results=parts.results.get(key, ()),
        config=KernelConfig(
            risk_tolerance=tenant.config.cash_risk_tolerance,
            cfo_expansion_enabled=tenant.cfo_expansion_enabled,
            activated_at=tenant.activated_at,
            config_version_id=tenant.config_version_id,
            weights_version=parts.weights[key].version,
            cycle_depth="weekly" if trigger.source == WEEKLY else "daily",
            spend_committed_month=parts.committed[key].month,
            spend_committed_daily=parts.committed[key].daily,
        ),
        channels=tuple(parts.channels.get(key, ())),
        settings=tuple(parts.settings.get(key, ())),
        live_actions=tuple(parts.live_actions.get(key, ())),
    )


def _records(connection: sa.Connection, record: type, name: str, **values: Any) -> dict[UUID, list[Any]]:
    found = defaultdict(list)
    for row in _rows(connection, name, **values):
        fields = dict(row._mapping)
        found[fields.pop("tenant_id")].append(record(**fields))
    return dict(found)


def _rows(connection: sa.Connection, name: str, **values: Any) -> sa.CursorResult[Any]:
    return connection.execute(statements("bundle")[name], values)
