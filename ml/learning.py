"""Models and gates of tenants, from what people said to what holds now: trained, compared, promoted, calibrated, certified.

How lines become features, and probabilities maps, stands in the other modules; here stand the order of things and what
is written down of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import settings
from kernel.books.contract import Scored
from kernel.books.people import PIPELINE
from kernel.errors import RefusedError
from ml import calibrate, certify, classifier, confidence, frames, gates, plots, promote
from ml.gates import Gate
from models.books import books_audit
from models.books_learning import calibrators, certificates
from models.statements import array, statements

TRAIN_MONTHS = 24
LEAST_LABELS = 50
# Certificates are renewed each week; one that was not, ends.
HOLDS = timedelta(days=35)


@dataclass(frozen=True, slots=True)
class Pool:
    """Tenants that learn together; one alone, unless its settings name a pool."""

    name: str | None
    tenant_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """`why` says what kept it from being trained, or from taking the place of the active model."""

    pool: Pool
    version: str | None
    labels: int
    comparison: promote.Comparison | None = None
    why: tuple[str, ...] = ()

    @property
    def may_hold(self) -> bool:
        return self.version is not None and not self.why


@dataclass(frozen=True, slots=True)
class Certified:
    """A tenant's gate as it was written down: the version of its calibrator, and what that does otherwise than the last."""

    tenant_id: UUID
    calibrator_version: str
    gate: Gate
    change: calibrate.Change | None


def pools(connection: sa.Connection) -> list[Pool]:
    """Every tenant that keeps books, with those it learns with."""
    tenancy.service(connection)
    together: dict[str, list[UUID]] = {}
    alone = []
    for row in connection.execute(_sql("pools")):
        if row.pool:
            together.setdefault(row.pool, []).append(row.tenant_id)
        else:
            alone.append(Pool(None, (row.tenant_id,)))
    return [*(Pool(name, tuple(ids)) for name, ids in sorted(together.items())), *alone]


def pool_of(connection: sa.Connection, tenant_id: UUID) -> Pool:
    """The pool that a tenant learns with. Raises RefusedError for one that keeps no books."""
    for pool in pools(connection):
        if tenant_id in pool.tenant_ids:
            return pool
    raise RefusedError("the tenant keeps no books yet: onboard it, or give it settings")


def train(
    connection: sa.Connection, pool: Pool, folder: Path, *, before: datetime, at: datetime
) -> Candidate:
    """Trains a candidate on the labels that were known before an instant, and compares its kind with the active model.

    The comparison is made on the labels that the active model does not know, by a model that was trained without them; what
    is registered is the same recipe trained with them. Without an active model there is nothing to compare with.
    """
    lines = frames.labelled(connection, pool.tenant_ids, since=first_day(before), before=before)
    if len(lines) < LEAST_LABELS:
        return Candidate(pool, None, len(lines), why=(f"{len(lines)} labels, {LEAST_LABELS} are needed",))
    comparison, why = _compared(connection, pool, folder, before)
    made = classifier.fit(lines, before=before)
    saved = made.save(folder)
    given = {
        "tenants": array(pool.tenant_ids), "version": made.version, "pool": pool.name, "place": saved.name,
        "sha256": hashlib.sha256(saved.read_bytes()).hexdigest(), "trained_before": before, "at": at,
        "label_count": len(lines), "parameters": "{}",
        "metrics": json.dumps({"comparison": _told(comparison), "why": why}),
    }  # fmt: skip
    tenancy.service(connection)
    connection.execute(_sql("register"), given)
    return Candidate(pool, made.version, len(lines), comparison, why)


def candidates(connection: sa.Connection, *, before: datetime) -> list[Candidate]:
    """What was trained on the labels of before an instant and waits to hold or to be refused."""
    tenancy.service(connection)
    waiting: dict[tuple[str, str | None], list[sa.Row[Any]]] = {}
    for row in connection.execute(_sql("candidates"), {"before": before}):
        waiting.setdefault((row.version, row.pool), []).append(row)
    return [
        Candidate(
            Pool(pool, tuple(row.tenant_id for row in rows)), version, rows[0].label_count, why=tuple(rows[0].metrics["why"])
        )
        for (version, pool), rows in waiting.items()
    ]  # fmt: skip


def settle(
    connection: sa.Connection, candidate: Candidate, *, at: datetime, later: Collection[UUID] = ()
) -> None:
    """Lets a candidate take the place of the active model, or writes down why not; of each tenant of its pool.

    Of tenants in `later` it stays a candidate.
    """
    if candidate.version is None:
        return
    for tenant_id in candidate.pool.tenant_ids:
        if tenant_id in later:
            continue
        if candidate.may_hold:
            bring(connection, tenant_id, candidate.version, at=at)
            continue
        tenancy.service(connection, tenant_id)
        reason = "; ".join(candidate.why)
        given = {"tenant_id": tenant_id, "version": candidate.version, "status": "refused", "reason": reason}
        if connection.execute(_sql("settle"), given).rowcount:
            chain.append(
                connection, books_audit, tenant_id, "model_refused",
                actor=PIPELINE, at=at, version=candidate.version, reason=reason,
            )  # fmt: skip


def bring(connection: sa.Connection, tenant_id: UUID, version: str, *, at: datetime) -> None:
    """Has a registered model hold for a tenant, in place of the one that does."""
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "version": version}
    held = connection.execute(_sql("active"), given).one_or_none()
    if held is not None and held.version == version:
        return
    connection.execute(_sql("retire"), given | {"reason": f"{version} took its place"})
    connection.execute(_sql("settle"), given | {"status": "active", "reason": None})
    chain.append(
        connection, books_audit, tenant_id, "model_promoted",
        actor=PIPELINE, at=at, version=version, instead_of=held.version if held else None,
    )  # fmt: skip


def active(connection: sa.Connection, tenant_id: UUID, folder: Path) -> classifier.Model | None:
    """The model that holds for a tenant. Raises RefusedError when its file is not the one that was registered."""
    tenancy.service(connection, tenant_id)
    found = connection.execute(_sql("active"), {"tenant_id": tenant_id}).one_or_none()
    return None if found is None else _loaded(found, folder)


def named(connection: sa.Connection, tenant_id: UUID, version: str, folder: Path) -> classifier.Model:
    """A registered model by its version. Raises RefusedError as `active`."""
    tenancy.service(connection, tenant_id)
    found = connection.execute(_sql("named"), {"tenant_id": tenant_id, "version": version}).one()
    return _loaded(found, folder)


def _loaded(found: sa.Row[Any], folder: Path) -> classifier.Model:
    place = folder / found.place
    try:
        written = place.stat()
        return _read(place, found.sha256, written.st_mtime_ns, written.st_size)
    except (FileNotFoundError, _OtherFile):
        raise RefusedError(
            f"model {found.version} is not in {place} as it was registered: put its file back, or train anew"
        ) from None


class _OtherFile(Exception):
    """The bytes are not those that were registered."""


# Tenants that learn together are gone through one after another. A file that was written to is read anew.
@lru_cache(maxsize=2)
def _read(place: Path, sha256: str, written_ns: int, size: int) -> classifier.Model:
    if hashlib.sha256(place.read_bytes()).hexdigest() != sha256:
        raise _OtherFile
    return classifier.load(place)


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
    return list(connection.execute(_sql("unseen"), given).scalars())


def told(connection: sa.Connection, made: Certified, folder: Path, *, at: datetime) -> dict[str, Any]:
    """Writes a gate's calibration files into the tenant's folder; what people read of it."""
    tenant = tenancy.find(connection, str(made.tenant_id))
    found, fitted = made.gate.certificate, made.gate.calibrator
    holding = versions(connection, made.tenant_id)["model"] or "none"
    plots.write_calibration(
        folder / tenant.slug, made.gate.lines, fitted,
        versions={"model_version_id": holding, "calibrator_version_id": made.calibrator_version}, at=at,
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


def scored(lines: pd.DataFrame, model: classifier.Model) -> list[Scored]:
    """What a model says of lines, in their order."""
    found = model.score(lines)
    hashes = found.feature_hash
    return [
        Scored(
            UUID(txn), account, float(p), top, bool(new), feature_hash, model.version, sources,
        )
        for txn, account, p, top, new, feature_hash, sources in zip(
            lines["txn"], found.account, found.p, found.top, found.is_new_vendor, hashes, found.sources, strict=True
        )
    ]  # fmt: skip


def _compared(
    connection: sa.Connection, pool: Pool, folder: Path, before: datetime
) -> tuple[promote.Comparison | None, tuple[str, ...]]:
    holding = active(connection, pool.tenant_ids[0], folder)
    if holding is None:
        return None, ()
    # As many months as the active one learnt, up to where it did: with fewer, a candidate would know fewer rare accounts.
    began = first_day(holding.trained_before)
    lines = frames.labelled(connection, pool.tenant_ids, since=began, before=before)
    since = pd.Timestamp(holding.trained_before)
    newest, earlier = lines[lines["labelled_at"] >= since], lines[lines["labelled_at"] < since]
    if len(newest) < promote.LEAST_LINES or len(earlier) < LEAST_LABELS:
        return None, (
            f"{len(newest)} labels that the active model does not know, {promote.LEAST_LINES} are needed to compare",
        )
    candidate = classifier.fit(earlier, before=since.to_pydatetime())
    compared = promote.compare(_predicted(newest, holding), _predicted(newest, candidate))
    return compared, compared.reasons


def _predicted(lines: pd.DataFrame, model: classifier.Model) -> pd.DataFrame:
    found = model.score(lines)
    return lines.assign(proposed=found.account, raw_p=found.p, is_new_vendor=found.is_new_vendor)


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
        "window_from": _midnight(_months_before(at, calibrate.WINDOW_MONTHS), at), "window_to": at,
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


def first_day(before: datetime) -> date:
    """Of the lines that a model learns from."""
    return _months_before(before, TRAIN_MONTHS)


def _months_before(at: datetime, months: int) -> date:
    return (pd.Timestamp(at) - pd.DateOffset(months=months)).date()


def _midnight(day: date, at: datetime) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=at.tzinfo)


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(f"{value:.8f}")


def _told(comparison: promote.Comparison | None) -> Any:
    return None if comparison is None else json.loads(json.dumps(asdict(comparison), default=_plain))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _sql(name: str) -> sa.TextClause:
    return statements("books_frames")[name]


def versions(connection: sa.Connection, tenant_id: UUID) -> dict[str, str | None]:
    """Which model and calibrator hold for a tenant, and how the calibrator was made."""
    tenancy.service(connection, tenant_id)
    found = connection.execute(_sql("active"), {"tenant_id": tenant_id}).one_or_none()
    newest = _newest_calibrator(connection, tenant_id)
    return {
        "model": found.version if found else None,
        "calibrator": newest.version if newest else None,
        "calibration_method": newest.method if newest else None,
    }
