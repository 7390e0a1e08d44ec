"""What a stage of automation asks for, and whether a tenant has it: figures from stored rows, with counts and intervals.

What other rooms compute is handed in: the calibration error, the invariants of the metrics, statement reconciliation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from kernel import tenancy
from kernel.books import certificate, intervals, settings
from kernel.books.contract import Stage
from models.statements import array, statements

LEAST_LABELLED, LEAST_DAYS = 500, 90
MOST_BRIER, MOST_ECE = 0.15, 0.05
LEAST_PASSED, LEAST_PRECISION = 200, 0.90
LEAST_RECONCILED = 0.95
# Predictions of the half year before: what was true of older ones says little of the next month.
_WINDOW = timedelta(days=180)


@dataclass(frozen=True, slots=True)
class Outside:
    """What is computed elsewhere. None: it was not looked at, which is no evidence.

    `ece` and `noise_floor` take probabilities and whether they were right; the floor is what a perfect model would show
    with so many lines, at its 95th percentile. `broken_invariants` are names. `reconciled`: of each of the last closed
    months how many lines of statements stand for an entry, of how many.
    """

    ece: Callable[[np.ndarray, np.ndarray], float] | None = None
    noise_floor: Callable[[np.ndarray], float] | None = None
    broken_invariants: Sequence[str] | None = None
    reconciled: Mapping[str, tuple[int, int]] | None = None


@dataclass(frozen=True, slots=True)
class Criterion:
    name: str
    needed: str
    found: str
    is_met: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """`told` is all of it as it is stored, and `hash` the SHA-256 of its JSON: a line with sorted names and no spaces."""

    tenant_id: UUID
    stage: Stage
    at: datetime
    criteria: tuple[Criterion, ...]
    told: Mapping[str, Any]
    hash: str

    @classmethod
    def of(
        cls, tenant_id: UUID, stage: Stage, at: datetime, criteria: tuple[Criterion, ...], figures: Mapping[str, Any]
    ) -> Evidence:  # fmt: skip
        told = {
            "stage": stage,
            "at": at.isoformat(),
            "criteria": [asdict(each) for each in criteria],
            "figures": figures,
        }
        told = json.loads(json.dumps(told, default=str))
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return cls(tenant_id, stage, at, criteria, told, hashlib.sha256(f"{text}\n".encode()).hexdigest())

    @property
    def is_complete(self) -> bool:
        return all(each.is_met for each in self.criteria)


def gather(
    connection: sa.Connection, tenant_id: UUID, stage: Stage, *, at: datetime, outside: Outside | None = None
) -> Evidence:
    """What there is for a tenant to enter a stage, whether it is enough or not."""
    tenancy.service(connection, tenant_id)
    if stage in ("P0", "P1"):
        criteria, figures = _set_up(connection, tenant_id, stage)
    else:
        logged = _logged(connection, tenant_id, at)
        gathered = _assisting if stage == "P2" else _posting
        criteria, figures = gathered(connection, tenant_id, logged, at, outside or Outside())
    return Evidence.of(tenant_id, stage, at, tuple(criteria), figures)


def _set_up(
    connection: sa.Connection, tenant_id: UUID, stage: Stage
) -> tuple[list[Criterion], dict[str, Any]]:
    row = connection.execute(statements("books_stages")["set_up"], {"tenant_id": tenant_id}).one()
    figures = row._asdict()
    held = settings.current(connection, tenant_id)
    criteria = [
        _least("accounts in the chart", row.accounts, 2),
        _least("people of the tenant", row.people, 1),
        _least("version of the settings", held.number, 1),
    ]
    if stage == "P1":
        criteria += [_least("bank accounts", row.bank_accounts, 1), _least("bank lines", row.lines, 1)]
    return criteria, figures


def _assisting(
    connection: sa.Connection, tenant_id: UUID, logged: Sequence[sa.Row], at: datetime, outside: Outside
) -> tuple[list[Criterion], dict[str, Any]]:
    p = np.array([float(row.calibrated_p) for row in logged])
    right = np.array([row.proposed == row.account for row in logged], float)
    days = (max(row.post_date for row in logged) - min(row.post_date for row in logged)).days if logged else 0
    set_up = connection.execute(statements("books_stages")["set_up"], {"tenant_id": tenant_id}).one()
    criteria = [
        _least("labelled decisions with a calibrated probability", len(logged), LEAST_LABELLED),
        _least("days that they are of", days, LEAST_DAYS),
        _least("calibrators", set_up.calibrators, 1),
        *_sound(connection, tenant_id, outside),
    ]
    figures: dict[str, Any] = {"labelled": len(logged), "days": days}
    if logged:
        brier, _, upper = intervals.mean(((p - right) ** 2).tolist())
        figures |= {"brier": brier, "brier_upper": upper, "accuracy": float(right.mean())}
        criteria.append(_most("upper 95 % bound of the Brier score", upper, MOST_BRIER))
    if logged and outside.ece is not None:
        floor = outside.noise_floor(p) if outside.noise_floor else 0.0
        figures |= {"ece": outside.ece(p, right), "ece_noise_floor": floor}
        criteria.append(_most("calibration error (ECE)", figures["ece"], max(MOST_ECE, floor)))
    else:
        criteria.append(_unlooked("calibration error (ECE)"))
    return criteria, figures


def _posting(
    connection: sa.Connection, tenant_id: UUID, logged: Sequence[sa.Row], at: datetime, outside: Outside
) -> tuple[list[Criterion], dict[str, Any]]:
    held = settings.current(connection, tenant_id).settings
    gate = certificate.gate(connection, tenant_id, held, at=at)
    passing = [row for row in logged if gate.threshold is not None and row.calibrated_p >= gate.threshold]
    right = sum(row.proposed == row.account for row in passing)
    lower, upper = intervals.wilson(right, len(passing))
    new = [row for row in logged if row.is_new_vendor]
    new_right = sum(row.proposed == row.account for row in new)
    figures: dict[str, Any] = {
        "threshold": gate.threshold,
        "passing": len(passing),
        "passing_right": right,
        "precision_interval": [lower, upper],
        "new_vendors": {
            "lines": len(new),
            "right": new_right,
            "interval": intervals.wilson(new_right, len(new)),
        },
        "reconciled": outside.reconciled,
    }
    criteria = [
        Criterion(
            "certificate of the gate", "one that holds", gate.why or "holds", gate.threshold is not None
        ),
        *_passed(gate, len(passing), lower),
        *_sound(connection, tenant_id, outside),
    ]
    told = "true" if held.autopost_requested else "false"
    criteria.append(Criterion("setting autopost_requested", "true", told, held.autopost_requested))
    months = sorted((outside.reconciled or {}).items())[-2:]
    if len(months) < 2:
        criteria.append(_unlooked("reconciliation of the last two closed months"))
    for month, (matched, count) in months:
        # Without a line that no entry was made from there is nothing that another source would have to agree to.
        criteria.append(_least(f"reconciled in {month}", matched / count if count else 1.0, LEAST_RECONCILED))
    return criteria, figures


def _passed(gate: certificate.Gate, count: int, lower: float) -> list[Criterion]:
    """Without a threshold no decision is at it: that is no count of nought."""
    asked = (
        _least("labelled decisions at the threshold", count, LEAST_PASSED),
        _least("lower 95 % bound of their precision", lower, LEAST_PRECISION),
    )
    if gate.threshold is not None:
        return list(asked)
    return [replace(each, found="not counted while no certificate holds", is_met=False) for each in asked]


def _sound(connection: sa.Connection, tenant_id: UUID, outside: Outside) -> list[Criterion]:
    imbalanced = connection.scalar(statements("books_metrics")["imbalanced"], {"tenant_id": tenant_id})
    broken = outside.broken_invariants
    return [
        Criterion("entries that do not balance", "0", str(imbalanced), imbalanced == 0),
        _unlooked("invariants of the metrics")
        if broken is None
        else Criterion("invariants of the metrics", "all hold", ", ".join(broken) or "all hold", not broken),
    ]


def _logged(connection: sa.Connection, tenant_id: UUID, at: datetime) -> list[sa.Row]:
    """Decisions whose label came after them, of those that a calibrator gave a probability to."""
    given = {"tenants": array([tenant_id]), "since": at - _WINDOW, "before": at}
    rows = connection.execute(statements("books_frames")["logged"], given)
    return [row for row in rows if row.calibrated_p is not None]


def _least(name: str, found: float, needed: float) -> Criterion:
    return Criterion(name, f"at least {needed:.4g}", _told(found), found >= needed)


def _most(name: str, found: float, needed: float) -> Criterion:
    return Criterion(name, f"at most {needed:.4g}", _told(found), found <= needed)


def _told(found: float) -> str:
    return str(found) if isinstance(found, int) else f"{found:.4f}"


def _unlooked(name: str) -> Criterion:
    return Criterion(name, "looked at", "not looked at", False)
