"""A tenant's open lines decided by what holds now: its rules, model, calibrator and gate; and the report of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import sqlalchemy as sa

from kernel import tenancy
from kernel.books import (
    canary,
    certificate,
    decide,
    evidence,
    llm_asking,
    llm_budget,
    metrics,
    promotion,
    reconcile,
    rules,
    settings,
    stages,
    watch,
)
from kernel.books.canary import Canary
from kernel.books.contract import BankLine, Scored, Stage, Surety
from kernel.books.decide import Decided
from kernel.books.evidence import Evidence, Outside
from kernel.books.llm_asking import Heard
from kernel.books.llm_budget import Limits
from kernel.books.metrics import Window
from kernel.books.people import PIPELINE
from kernel.books.promotion import Trial
from kernel.books.watch import Signals, Watched
from ml import certify, drift, evaluate, frames, gate_records, learning, surety
from ml import metrics as documents

# What changed is measured between the newest month and the year before it.
_NOW, _BEFORE = timedelta(days=30), timedelta(days=365)
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Drift:
    """Distances between the newest month and the year before; `accuracy_drop` is in points of a hundred."""

    psi_vendor: drift.Signal
    psi_amount: drift.Signal
    psi_account: drift.Signal
    ks_amount: drift.Signal
    accuracy_drop: float | None


def decide_open(
    connection: sa.Connection,
    tenant_id: UUID,
    folder: Path,
    *,
    run_id: str,
    at: datetime,
    language_model: str | None = None,
) -> Decided:
    """Decides about every line that is open and that what holds now has not decided about, or about which a language model
    answered since. `language_model`: whose answers count; nobody is asked here.
    """
    held = settings.current(connection, tenant_id)
    ruleset = rules.load(connection, tenant_id)
    calibrator_version, _ = gate_records.calibrator(connection, tenant_id)
    model = learning.active(connection, tenant_id, folder)
    on_trial = canary.running(connection, tenant_id, "model") if model else None
    versions = {
        "models": [model.version if model else "none", *([on_trial.challenger] if on_trial else [])],
        "calibrator_version": calibrator_version, "ruleset_version": ruleset.version, "config_version": held.version,
    }  # fmt: skip
    heard = Heard() if language_model is None else llm_asking.heard(connection, tenant_id, language_model)
    lines = frames.open_lines(connection, tenant_id, at=at, versions=versions, news=heard.news)
    if lines.empty:
        return Decided(0)
    modelled = learning.scored(lines, model) if model else None
    shadow: dict[UUID, Scored] = {}
    if on_trial and modelled:
        challenger = learning.named(connection, tenant_id, on_trial.challenger, folder)
        modelled, shadow = _tried(tenant_id, modelled, learning.scored(lines, challenger), on_trial)
    return decide.decide(
        connection, tenant_id, bank_lines(lines), modelled, run_id=run_id, at=at,
        surety=_surety(connection, tenant_id, held, lines["vendor"], at=at), calibrator_version=calibrator_version,
        budget_fallback=llm_budget.is_fallen_back(connection, tenant_id, at=at),
        ruleset=ruleset, shadow=shadow, opinions=heard.opinions,
    )  # fmt: skip


def try_rule(connection: sa.Connection, tenant_id: UUID, rule_id: UUID, *, at: datetime) -> Trial:
    """What a rule would change of the decisions of the last 90 days, by the calibrator and the gates that hold."""
    held = settings.current(connection, tenant_id)
    return promotion.try_out(
        connection, tenant_id, rule_id, surety=_surety(connection, tenant_id, held, (), at=at), at=at
    )


def _surety(
    connection: sa.Connection, tenant_id: UUID, held: settings.Held, vendors: Sequence[str], *, at: datetime
) -> Surety:
    _, parameters = gate_records.calibrator(connection, tenant_id)
    pool = learning.pool_of(connection, tenant_id).tenant_ids if held.settings.pool else ()
    others = [each for each in pool if each != tenant_id]
    return surety.of(connection, tenant_id, others, vendors, parameters, at=at)


def promote(connection: sa.Connection, candidate: learning.Candidate, *, at: datetime) -> None:
    """Has a candidate that did no worse hold: at once, and for tenants whose lines are posted by steps, as a canary."""
    posting = [
        tenant_id
        for tenant_id in candidate.pool.tenant_ids
        if stages.current(connection, tenant_id, at=at).stage == "P3"
    ]
    learning.settle(connection, candidate, at=at, later=posting if candidate.may_hold else ())
    for tenant_id in posting if candidate.may_hold else ():
        holding = learning.holding(connection, tenant_id)
        if holding == candidate.version:
            continue
        if canary.running(connection, tenant_id, "model"):
            canary.revert(connection, tenant_id, "model", by=PIPELINE, at=at, reason="a newer one is there")
        canary.start(
            connection, tenant_id, "model", champion=holding or "none", challenger=candidate.version, by=PIPELINE, at=at
        )  # fmt: skip


def step(connection: sa.Connection, tenant_id: UUID, *, at: datetime) -> None:
    """Moves what is on trial, and takes P3 back where it is not deserved any more."""
    moved = canary.step(connection, tenant_id, "model", by=PIPELINE, at=at)
    if moved is not None and moved.status == "promoted":
        learning.bring(connection, tenant_id, moved.challenger, at=at)
    canary.step(connection, tenant_id, "autopost", by=PIPELINE, at=at)


def withhold(connection: sa.Connection, tenant_id: UUID, broken: Sequence[str], *, at: datetime) -> None:
    """Takes P3 back from a tenant whose figures or logs contradict themselves: they prove nothing."""
    if stages.newest(connection, tenant_id).stage == "P3":
        why = f"figures or logs contradict themselves: {', '.join(broken)}"
        stages.demote(connection, tenant_id, by=PIPELINE, at=at, reason=why)


def look(connection: sa.Connection, tenant_id: UUID, *, at: datetime, limits: Limits = _LIMITS) -> Watched:
    """Whether the tenant may stay in P3, by what changed and what the audit found."""
    seen = changed(connection, tenant_id, at=at)
    psi = max(
        (
            each.value
            for each in (seen.psi_vendor, seen.psi_amount, seen.psi_account)
            if each.value is not None
        ),
        default=None,
    )
    caps = limits.caps(settings.current(connection, tenant_id).settings)
    budget = llm_budget.status(connection, tenant_id, caps=caps, at=at)
    signals = Signals(psi, seen.accuracy_drop, budget.fallback_since)
    return watch.watch(connection, tenant_id, at=at, signals=signals)


def changed(connection: sa.Connection, tenant_id: UUID, *, at: datetime) -> Drift:
    """How far the newest month of labelled lines is from the year before it."""
    lines = frames.labelled(connection, [tenant_id], since=(at - _BEFORE - _NOW).date(), before=at)
    is_new = lines["post_date"] >= (at - _NOW).date()
    before, now = lines[~is_new], lines[is_new]
    logged = frames.logged(connection, [tenant_id], since=at - 4 * _NOW, before=at)
    right = (logged["proposed"] == logged["account"]).astype(float)
    recent = logged["decided_at"] >= at - _NOW
    drop = None
    if min(recent.sum(), (~recent).sum()) >= drift.LEAST_LINES:
        drop = 100 * float(right[~recent].mean() - right[recent].mean())
    return Drift(
        drift.psi_vendor(before["vendor"], now["vendor"]),
        drift.psi_amount(before["amount_minor"], now["amount_minor"]),
        drift.psi_category(before["account"], now["account"]),
        drift.ks_amount(before["amount_minor"], now["amount_minor"]),
        drop,
    )


def report(
    connection: sa.Connection,
    tenant: tenancy.Tenant,
    period: str,
    *,
    at: datetime,
    limits: Limits = _LIMITS,
) -> dict[str, Any]:
    """The document of a tenant's books for a period that ends with the day of `at`."""
    held = settings.current(connection, tenant.id)
    caps = limits.caps(held.settings)
    found = metrics.read(connection, tenant.id, Window.of(period, at), caps=caps, at=at)
    gate = certificate.gate(connection, tenant.id, held.settings, at=at)
    seen = changed(connection, tenant.id, at=at)
    names = ("psi_vendor", "psi_amount", "psi_account", "ks_amount")
    signals = {name: getattr(seen, name) for name in names}
    unknown = {name: each.reason for name, each in signals.items() if each.value is None}
    return documents.document(
        found, tenant=tenant.slug,
        threshold=gate.threshold or held.settings.threshold or Decimal(str(certify.FLOOR)),
        versions=gate_records.versions(connection, tenant.id)
        | {"ruleset": rules.load(connection, tenant.id).version, "config": held.version},
        drift={name: each.value for name, each in signals.items()} | {"unknown": unknown},
        at=at,
    )  # fmt: skip


def gather(
    connection: sa.Connection, tenant: tenancy.Tenant, stage: Stage, *, broken: list[str] | None, at: datetime
) -> Evidence:
    """What there is for the tenant to enter a stage. `broken`: invariants that do not hold of its newest report."""
    outside = Outside(
        ece=evaluate.ece_width,
        noise_floor=lambda p: evaluate.noise_floor(p, evaluate.ece_width)[1],
        broken_invariants=broken,
        reconciled=reconcile.locked_months(connection, tenant.id),
    )
    return evidence.gather(connection, tenant.id, stage, at=at, outside=outside)


def _tried(
    tenant_id: UUID, champion: list[Scored], challenger: list[Scored], on_trial: Canary
) -> tuple[list[Scored], dict[UUID, Scored]]:
    """Who decides about each line, and what the other one says of it."""
    decides, shadow = [], {}
    for one, other in zip(champion, challenger, strict=True):
        takes = on_trial.takes(tenant_id, one.txn_id)
        decides.append(other if takes else one)
        shadow[one.txn_id] = one if takes else other
    return decides, shadow


def bank_lines(lines: pd.DataFrame) -> list[BankLine]:
    """Lines of `frames.open_lines`, as they are decided about."""
    return [
        BankLine(
            UUID(row.txn), row.bank_account_id, row.post_date, int(row.amount_minor), row.currency, row.description,
            row.counterparty, row.vendor, row.card, row.bank_category,
        )
        for row in lines.itertuples(index=False)
    ]  # fmt: skip
