"""Gates of tenants as they are written down: calibrators and certificates, made of what was predicted before labels were
known, what people read of them, and which tenants wait for new ones.

How a gate is made stands in `gates`; here stand the order of things and the records.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import settings
from kernel.books.people import PIPELINE
from ml import calibrate, certify, confidence, frames, gates, learning, plots
from ml.gates import Gate
from ml.learning import Pool
from models.books import books_audit
from models.books_learning import calibrators, certificates
from models.statements import statements

# Certificates are renewed each week; one that was not, ends.
HOLDS = timedelta(days=35)


@dataclass(frozen=True, slots=True)
class Certified:
    """A tenant's gate as it was written down: the version of its calibrator, and what that does otherwise than the last."""

    tenant_id: UUID
    calibrator_version: str
    gate: Gate
    change: calibrate.Change | None


def gate(connection: sa.Connection, pool: Pool, *, at: datetime) -> list[Certified]:
    """Makes the gates of a pool's tenants, on predictions that were logged before their labels were known, and writes their
    calibrators and certificates down. Of a tenant without such predictions it is written down that there are none.
    """
    logged = frames.logged(connection, pool.tenant_ids, since=confidence.first_instant(at), before=at)
    weights = _weights(connection, pool, logged, at)
    targets = {str(each): _target(connection, each, logged) for each in pool.tenant_ids}
    made = gates.make(logged, at=at, targets=targets)
    return [
        _noted(connection, each, made.get(str(each)) or _of_nothing(logged, targets[str(each)]), weights, at)
        for each in pool.tenant_ids
    ]


def _weights(
    connection: sa.Connection, pool: Pool, logged: pd.DataFrame, at: datetime
) -> confidence.Weights | None:
    """The second stage, fitted on what it saw of lines before their labels were known."""
    past = calibrate.window(logged, at=at, months=confidence.WINDOW_MONTHS)
    if len(past) < confidence.LEAST_LINES:
        return None
    kept = frames.seen(connection, pool.tenant_ids, since=confidence.first_instant(at))
    seen = confidence.restored([kept.get(key) for key in zip(past["tenant"], past["number"], strict=True)])
    usable = ~np.isnan(seen[:, 0])
    right = (past["proposed"] == past["account"]).to_numpy()
    return confidence.fit(seen[usable], right[usable], past["tenant"].to_numpy()[usable])


def _of_nothing(logged: pd.DataFrame, target: float) -> Gate:
    """The gate of a tenant of whose predictions none was logged before its label: closed."""
    none = logged.iloc[:0]
    return Gate(
        calibrate.fit([], []), certify.certify([], [], target=target), certify.label_shift(none["account"], none["account"]),
        none.assign(calibrated_p=none["raw_p"]),
    )  # fmt: skip


def unseen(connection: sa.Connection, *, at: datetime, many: int, after: timedelta) -> list[UUID]:
    """Tenants with that many labels that their newest calibrator has not seen, or with any that wait that long."""
    tenancy.service(connection)
    given = {"many": many, "since": at - after}
    return list(connection.execute(statements("books_frames")["unseen"], given).scalars())


def told(connection: sa.Connection, made: Certified, folder: Path, *, at: datetime) -> dict[str, Any]:
    """Writes a gate's calibration files into the tenant's folder; what people read of it."""
    tenant = tenancy.find(connection, str(made.tenant_id))
    found, fitted = made.gate.certificate, made.gate.calibrator
    held = learning.holding(connection, made.tenant_id) or "none"
    plots.write_calibration(
        folder / tenant.slug, made.gate.lines, fitted,
        versions={"model_version_id": held, "calibrator_version_id": made.calibrator_version}, at=at,
    )  # fmt: skip
    return {
        "tenant": tenant.slug, "method": fitted.method, "labels": fitted.lines, "threshold": made.gate.threshold,
        "checked": found.checked, "right": found.right, "lower_bound": found.lower_bound, "target": found.target,
        "closed": made.gate.closed,
    }  # fmt: skip


def calibrator(connection: sa.Connection, tenant_id: UUID) -> tuple[str, dict[str, Any] | None]:
    """The version and the parameters of the calibrator that holds; `none` without one."""
    tenancy.service(connection, tenant_id)
    found = _newest_calibrator(connection, tenant_id)
    return ("none", None) if found is None else (found.version, found.parameters)


def versions(connection: sa.Connection, tenant_id: UUID) -> dict[str, str | None]:
    """Which model and calibrator hold for a tenant, and how the calibrator was made."""
    model = learning.holding(connection, tenant_id)
    newest = _newest_calibrator(connection, tenant_id)
    return {
        "model": model,
        "calibrator": newest.version if newest else None,
        "calibration_method": newest.method if newest else None,
    }


def _noted(
    connection: sa.Connection, tenant_id: UUID, made: Gate, weights: confidence.Weights | None, at: datetime
) -> Certified:
    tenancy.service(connection, tenant_id)
    last = _newest_calibrator(connection, tenant_id)
    raw = made.lines["raw_p"].to_numpy()
    change = None if last is None else calibrate.compare(last.parameters, made.calibrator.parameters, raw)
    version = _note_calibrator(connection, tenant_id, made.calibrator, weights, change, at)
    _note_certificate(connection, tenant_id, made, version, at)
    return Certified(tenant_id, version, made, change)


def _target(connection: sa.Connection, tenant_id: UUID, logged: pd.DataFrame) -> float:
    """Higher at once when what the last certificate let through fell short, lower slowly when it held."""
    tenancy.service(connection, tenant_id)
    base = float(settings.current(connection, tenant_id).settings.precision_target)
    before = _newest_certificate(connection, tenant_id)
    if before is None or before.threshold is None:
        return base
    lines = certify.checkable(logged[logged["tenant"] == str(tenant_id)])
    since = lines[
        (lines["decided_at"] >= before.certified_at) & (lines["calibrated_p"] >= float(before.threshold))
    ]
    right = int((since["proposed"] == since["account"]).sum())
    return certify.next_target(float(before.target), len(since), right, base=base)


def _note_calibrator(
    connection: sa.Connection,
    tenant_id: UUID,
    made: calibrate.Calibrator,
    weights: confidence.Weights | None,
    change: calibrate.Change | None,
    at: datetime,
) -> str:
    parameters = made.parameters | ({"confidence": weights.of(str(tenant_id))} if weights else {})
    text = json.dumps(parameters, sort_keys=True)
    version = f"c{hashlib.sha256(f'{text}|{at.isoformat()}'.encode()).hexdigest()[:15]}"
    row = {
        "tenant_id": tenant_id, "version": version, "fitted_at": at,
        "window_from": (pd.Timestamp(at) - pd.DateOffset(months=calibrate.WINDOW_MONTHS)).to_pydatetime(), "window_to": at,
        "method": made.method, "parameters": parameters,
        "metrics": {"log_loss": made.log_loss, "reason": made.reason, "change": asdict(change) if change else None},
        "label_count": made.lines,
    }  # fmt: skip
    connection.execute(calibrators.insert().values(row))
    return version


def _note_certificate(
    connection: sa.Connection,
    tenant_id: UUID,
    gate: Gate,
    calibrator_version: str,
    at: datetime,
) -> None:
    made, reason = gate.certificate, gate.closed
    before = _newest_certificate(connection, tenant_id)
    row = {
        "tenant_id": tenant_id, "number": before.number + 1 if before else 1, "certified_at": at, "expires_at": at + HOLDS,
        "threshold": None if reason else _decimal(made.threshold), "target": _decimal(made.target),
        "lower_bound": _decimal(made.lower_bound), "checked_count": made.checked, "right_count": made.right,
        "calibrator_version": calibrator_version, "reason": reason,
        "detail": {"steps": [asdict(step) for step in made.steps]},
    }  # fmt: skip
    connection.execute(certificates.insert().values(row))
    chain.append(
        connection, books_audit, tenant_id, "gate_closed" if reason else "gate_certified",
        actor=PIPELINE, at=at, number=row["number"], threshold=row["threshold"], reason=reason,
    )  # fmt: skip


def _newest_calibrator(connection: sa.Connection, tenant_id: UUID) -> sa.Row[Any] | None:
    newest = sa.select(calibrators).where(calibrators.c.tenant_id == tenant_id)
    return connection.execute(newest.order_by(calibrators.c.fitted_at.desc()).limit(1)).one_or_none()


def _newest_certificate(connection: sa.Connection, tenant_id: UUID) -> sa.Row[Any] | None:
    newest = sa.select(certificates).where(certificates.c.tenant_id == tenant_id)
    return connection.execute(newest.order_by(certificates.c.number.desc()).limit(1)).one_or_none()


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(f"{value:.8f}")
