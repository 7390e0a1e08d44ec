"""Running kernel cycles: who is decided now, one at a time per tenant, each whole or not at all.

What a cycle is given stands in `bundle`, what it decides in `decide`, what asks for it in `triggers`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import sqlalchemy as sa
from pydantic import ValidationError

from kernel import tenancy
from kernel.actions import acknowledge, lifecycle
from kernel.decisions import bundle, calibration
from kernel.decisions.contract import (
    MAX_TRIGGER_AGE,
    KernelError,
    KernelInput,
    KernelOutput,
    Trigger,
    canonical,
)
from kernel.decisions.decide import decide as decide_by_rules
from kernel.decisions.weights import Weights
from models.statements import statements

SEPARATION = timedelta(hours=12)
_BATCH = 50  # tenants whose input is in memory at once: about two megabytes each
# The metrics the weekly digest counts actions by.
_ECONOMICS = frozenset(
    [
        "payback_months",
        "cac_blended",
        "gross_margin_pct",
        "contribution_margin_pct",
        "revenue_per_fte",
        "sales_efficiency_ratio",
    ]
)
_log = logging.getLogger(__name__)

Decide = Callable[..., KernelOutput]
_Loaded = tuple[UUID, KernelInput | Exception, Weights | None]


@dataclass(frozen=True, slots=True)
class TenantCycle:
    """What became of one tenant. `why` says it for those that failed or were left out; `output` is the decision."""

    tenant_id: UUID
    outcome: Literal["completed", "failed", "skipped"]
    why: str = ""
    cycle_id: UUID | None = None
    mode: str = ""
    output: KernelOutput | None = None


@dataclass(frozen=True, slots=True)
class CycleReport:
    """Every tenant that was asked for, without the decisions themselves: those are in the database."""

    completed: tuple[UUID, ...]
    skipped: dict[UUID, str]
    failed: dict[UUID, str]
    actions: int


@dataclass(frozen=True, slots=True)
class Order:
    """What holds for every tenant of a run."""

    at: datetime
    clock: Callable[[], datetime]
    decide: Decide
    mode: str | None = None
    separation: timedelta = SEPARATION
    new_id: Callable[[], UUID] = uuid4


def run(
    engine: sa.Engine,
    tenant_ids: Sequence[UUID] | None,
    *,
    clock: Callable[[], datetime],
    trigger: Trigger | None,
    mode: Literal["enforce", "shadow"] | None = None,
    min_separation: timedelta = SEPARATION,
    on_tenant: Callable[[TenantCycle], None] | None = None,
    as_of: date | None = None,
    decide: Decide = decide_by_rules,
    results: bundle.Results = bundle.recent,
) -> CycleReport:
    """Decides for the tenants, or for every enabled one; without a trigger, for those whose triggers wait.

    A tenant's failure is recorded as its failed cycle and stops no other. `mode` overrides the tenants' own.
    Nothing later than `as_of` (today when left out) is looked at.
    """
    order = Order(clock(), clock, decide, mode, min_separation)
    with engine.begin() as connection:
        tenancy.service(connection)
        # What nobody answered in time keeps its like from being proposed anew.
        acknowledge.expire_due(connection, order.at, tenant_ids)
    asked = _asked(engine, tenant_ids, trigger, order.at)
    weekly = [tenant_id for tenant_id, asking in asked.items() if asking.source == bundle.WEEKLY]
    if weekly:
        calibration.recalibrate(engine, weekly, order.at)
    fates: list[TenantCycle] = []
    actions = 0
    for tenant_id, given, weights in _inputs(engine, asked, order.at, as_of or order.at.date(), results):
        fate = _cycle(engine, tenant_id, asked[tenant_id], given, weights, order)
        if on_tenant:
            on_tenant(fate)
        actions += len(fate.output.actions) if fate.output else 0
        fates.append(TenantCycle(fate.tenant_id, fate.outcome, fate.why))
    return CycleReport(
        completed=tuple(fate.tenant_id for fate in fates if fate.outcome == "completed"),
        skipped={fate.tenant_id: fate.why for fate in fates if fate.outcome == "skipped"},
        failed={fate.tenant_id: fate.why for fate in fates if fate.outcome == "failed"},
        actions=actions,
    )


def waiting(engine: sa.Engine, at: datetime, separation: timedelta = SEPARATION) -> int:
    """How many tenants have a trigger that a run could answer now; one that just failed is given an hour."""
    with engine.begin() as connection:
        tenancy.service(connection)
        return connection.execute(
            _sql("due"),
            {
                "at": at,
                "not_before": at - MAX_TRIGGER_AGE,
                "separated_from": at - separation,
                "failed_from": at - timedelta(hours=1),
            },
        ).scalar_one()


def _asked(
    engine: sa.Engine, tenant_ids: Sequence[UUID] | None, trigger: Trigger | None, at: datetime
) -> dict[UUID, Trigger]:
    with engine.begin() as connection:
        tenancy.service(connection)
        if trigger is not None:
            everyone = connection.execute(_sql("enabled")).scalars() if tenant_ids is None else tenant_ids
            return dict.fromkeys(everyone, trigger)
        since = {"at": at, "not_before": at - MAX_TRIGGER_AGE}
        scope = None if tenant_ids is None else list(tenant_ids)
        connection.execute(_sql("expire"), since | {"tenant_ids": scope})
        found = {}
        for row in connection.execute(_sql("asked"), since | {"weekly": bundle.WEEKLY}):
            if tenant_ids is None or row.tenant_id in tenant_ids:
                found[row.tenant_id] = Trigger(
                    type=row.type, source=row.source, triggered_at=row.triggered_at
                )
        return found


def _inputs(
    engine: sa.Engine, asked: Mapping[UUID, Trigger], at: datetime, as_of: date, results: bundle.Results
) -> Iterator[_Loaded]:
    """Every tenant's input, batch by batch; the next batch is read while this one is decided."""
    ids = list(asked)
    batches = (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))
    with ThreadPoolExecutor(1, "inputs") as reader:

        def begin() -> Future[list[_Loaded]] | None:
            batch = next(batches, None)
            if batch is None:
                return None
            triggers = {tenant_id: asked[tenant_id] for tenant_id in batch}
            return reader.submit(_loaded, engine, triggers, at, as_of, results)

        coming = begin()
        while coming is not None:
            loaded = coming.result()
            coming = begin()
            loaded.reverse()
            while loaded:  # a tenant's input is let go as soon as it is decided
                yield loaded.pop()


def _loaded(
    engine: sa.Engine,
    triggers: Mapping[UUID, Trigger],
    at: datetime,
    as_of: date,
    results: bundle.Results,
) -> list[_Loaded]:
    """The batch's inputs; when reading them together fails, one by one, so that the cause is its own tenant's."""
    try:
        with engine.begin() as connection:
            tenancy.service(connection)
            given = bundle.load(connection, list(triggers), at, as_of, trigger=triggers, results=results)
            weights = bundle.weights(connection, list(triggers), at)
    except Exception as error:
        if len(triggers) == 1:
            return [(tenant_id, error, None) for tenant_id in triggers]
        return [
            found
            for tenant_id, trigger in triggers.items()
            for found in _loaded(engine, {tenant_id: trigger}, at, as_of, results)
        ]
    return [(tenant_id, given[tenant_id], weights[tenant_id]) for tenant_id in triggers]


def _cycle(
    engine: sa.Engine,
    tenant_id: UUID,
    trigger: Trigger,
    given: KernelInput | Exception,
    weights: Weights | None,
    order: Order,
) -> TenantCycle:
    cycle_id, started_at = order.new_id(), order.clock()
    try:
        with engine.begin() as connection:
            tenancy.service(connection, tenant_id)
            mode = _admitted(connection, tenant_id, order)
            if mode is None:
                return TenantCycle(
                    tenant_id,
                    "skipped",
                    "the tenant is switched off: revenue-os tenant enable switches it on",
                )
            if isinstance(given, Exception):
                raise given
            output = store(connection, cycle_id, given, weights, mode, started_at, order)
            connection.execute(_sql("consume"), {"tenant_id": tenant_id, "id": cycle_id, "at": order.at})
    except Exception as error:
        failure = _as_kernel_error(error)
        if failure.code == "CYCLE_TOO_RECENT":
            return TenantCycle(tenant_id, "skipped", failure.message)
        _record_failure(engine, tenant_id, cycle_id, trigger, failure, started_at, order)
        return TenantCycle(tenant_id, "failed", f"{failure.code}: {failure.message}", cycle_id)
    return TenantCycle(tenant_id, "completed", "", cycle_id, mode, output)


def _admitted(connection: sa.Connection, tenant_id: UUID, order: Order) -> str | None:
    """The mode of a cycle that may begin, None for a tenant that is switched off. Raises KernelError."""
    connection.execute(_sql("lock"), {"tenant_id": tenant_id})
    # Asked after the lock is held: what the other runner committed must be seen.
    found = connection.execute(_sql("admission"), {"tenant_id": tenant_id, "mode": order.mode}).one_or_none()
    if found is None:
        raise KernelError("TENANT_NOT_FOUND", f"tenant {tenant_id} does not exist")
    if not found.is_enabled:
        return None
    if found.last_cycle_at is not None and order.at - found.last_cycle_at < order.separation:
        free_at = found.last_cycle_at + order.separation
        raise KernelError(
            "CYCLE_TOO_RECENT",
            f"the last cycle was at {found.last_cycle_at:%Y-%m-%d %H:%M} UTC, the next may be at"
            f" {free_at:%Y-%m-%d %H:%M} UTC",
            {"next_allowed_at": free_at.isoformat()},
        )
    return found.mode


def store(
    connection: sa.Connection,
    cycle_id: UUID,
    given: KernelInput,
    weights: Weights,
    mode: str,
    started_at: datetime,
    order: Order,
) -> KernelOutput:
    """Decides, and writes the cycle with its actions and its tally in the caller's transaction."""
    key = {"tenant_id": given.tenant_id, "id": cycle_id}
    connection.execute(
        _sql("start"),
        key
        | {
            "at": order.at,
            "trigger_type": given.trigger.type,
            "trigger_source": given.trigger.source,
            "mode": mode,
            "config_version_id": given.config.config_version_id,
            "weights_version": given.config.weights_version,
            "metrics_date": given.analysis_window.end_date,
        },
    )
    output = order.decide(given, order.at, cycle_id=cycle_id, weights=weights)
    summary = output.cycle_summary
    lifecycle.insert_actions(
        connection,
        given.tenant_id,
        cycle_id,
        output,
        mode=mode,
        gates=summary.gates,
        config_version_id=given.config.config_version_id,
        at=order.at,
    )
    finished_at = order.clock()
    connection.execute(
        _sql("complete"),
        key
        | {
            "binding_constraint": summary.binding_constraint,
            "priority_metric": summary.priority_metric,
            "input_snapshot_ref": json.dumps(_reference(given)),
            "output": canonical(output),
            "gates": list(summary.cfo_gates_triggered),
            "duration_ms": _milliseconds(started_at, finished_at),
            "finished_at": finished_at,
        },
    )
    economics = sum(action.target_metric in _ECONOMICS for action in output.actions)
    # A shadow cycle carries nothing out, so its actions are nobody's work.
    _count(connection, given.tenant_id, order.at, 1, economics if mode == "enforce" else 0)
    return output


def _reference(given: KernelInput) -> dict[str, Any]:
    """Which snapshots decided: those of the last day by id, and the whole input by its hash."""
    day = given.analysis_window.end_date
    return {
        "first_date": given.analysis_window.start_date.isoformat(),
        "last_date": day.isoformat(),
        "readings": len(given.metrics),
        "snapshot_ids": [reading.snapshot_id for reading in given.metrics if reading.date == day],
        "input_sha256": hashlib.sha256(given.model_dump_json().encode()).hexdigest(),
    }


def _count(connection: sa.Connection, tenant_id: UUID, at: datetime, succeeded: int, economics: int) -> None:
    connection.execute(
        _sql("count"),
        {
            "tenant_id": tenant_id,
            "cycle_date": at.date(),
            "succeeded": succeeded,
            "economics_actions": economics,
            "at": at,
        },
    )


def _record_failure(
    engine: sa.Engine,
    tenant_id: UUID,
    cycle_id: UUID,
    trigger: Trigger,
    failure: KernelError,
    started_at: datetime,
    order: Order,
) -> None:
    finished_at = order.clock()
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        connection.execute(
            _sql("fail"),
            {
                "tenant_id": tenant_id,
                "id": cycle_id,
                "at": order.at,
                "error_message": f"{failure.code}: {failure.message}",
                "trigger_type": trigger.type,
                "trigger_source": trigger.source,
                "mode": order.mode,
                "duration_ms": _milliseconds(started_at, finished_at),
                "finished_at": finished_at,
            },
        )
        _count(connection, tenant_id, order.at, 0, 0)


def _as_kernel_error(error: Exception) -> KernelError:
    if isinstance(error, KernelError):
        return error
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return KernelError("INVALID_INPUT", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    _log.debug("a cycle failed", exc_info=error)
    told = (str(error).splitlines() or [""])[0]
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return KernelError("INTERNAL_ERROR", f"{type(error).__name__}: {told} ({where})")


def _milliseconds(since: datetime, until: datetime) -> int:
    return round((until - since).total_seconds() * 1000)


def _sql(name: str) -> sa.TextClause:
    return statements("cycles")[name]
