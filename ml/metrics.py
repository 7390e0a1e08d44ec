"""The figures of a tenant's books as one document: the contract of `revenue-os metrics latest` and of shadow reports.

Every number is made of stored rows of a window; where too little is known a figure is None, and `unknown` says why.
What has to be true between the figures stands in `quality.books`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernel.books.metrics import Facts
from ml import evaluate
from ml.evaluate import Bin

SCHEMA_VERSION = "2.0"


def document(
    facts: Facts,
    *,
    tenant: str,
    threshold: Decimal,
    versions: Mapping[str, str | None],
    drift: Mapping[str, Any],
    at: datetime,
) -> dict[str, Any]:
    """`threshold` is the one that holds; `versions` gives ruleset, model, calibrator, config and calibration_method, `drift`
    psi_vendor, psi_amount, psi_account, ks_amount and, under `unknown`, why one of them is None.
    """
    judged = [row for row in facts.decided if row.label is not None and row.calibrated_p is not None]
    p = _floats([row.calibrated_p for row in judged])
    raw = _floats([row.raw_p for row in judged])
    right = _floats([row.label == row.proposed_account for row in judged])
    new = np.array([row.is_new_vendor for row in judged], dtype=bool)
    bins = evaluate.width_bins(p, right)
    merged, merges = evaluate.merged(bins) if len(judged) else ((), ())
    population, passed, budget = facts.population_n, facts.passed_n, facts.budget
    unknown = dict(drift.get("unknown", {}))
    labelled = sum(row.label is not None for row in facts.decided)
    if not labelled:
        unknown["calibration"] = "nobody has labelled a line of this window since it was decided"
    elif not judged:
        unknown["calibration"] = (
            f"{labelled} lines were labelled since they were decided, none with a calibrated probability"
        )
    elif len(judged) < evaluate.LEAST_IN_BIN:
        unknown["ece_calibrated"] = (
            f"{len(judged)} labelled lines with a calibrated probability, {evaluate.LEAST_IN_BIN} are needed"
        )
    if not facts.lines:
        unknown["reconciliation_rate"] = "every line of the window has an entry made from it"
    quality = _quality(judged, p, raw, right, new)
    return {
        "schema_version": SCHEMA_VERSION,
        "tenant_id": str(facts.tenant_id),
        "tenant": tenant,
        "period": facts.window.period,
        "window_start_ts": _instant(facts.window.starts),
        "window_end_ts": _instant(facts.window.ends),
        "population_n": population,
        "labelled_n": len(judged),
        "review_n": population - passed,
        "automation_rate": _share(facts.automated_n, population),
        "auto_post_rate": _share(passed, population),
        "review_rate": _share(population - passed, population),
        "reconciliation_rate": _share(facts.matched, facts.lines) if facts.lines else None,
        "je_imbalance_count": facts.imbalance_count,
        **quality,
        "calibration_method": versions.get("calibration_method") or "none",
        "ece_bins": _bins(bins, p, right),
        "ece_bins_merged": [_bin(each) for each in merged],
        "merges": list(merges),
        "gating_threshold": threshold,
        "at_threshold_n": sum(
            row.calibrated_p is not None and row.threshold is not None and row.calibrated_p >= row.threshold
            for row in facts.decided
        ),
        "not_auto_post_counts": facts.reasons(),
        "failed_gate_counts": facts.failures(),
        "psi_vendor": drift.get("psi_vendor"),
        "psi_amount": drift.get("psi_amount"),
        "psi_account": drift.get("psi_account"),
        "ks_vendor": None,
        "ks_amount": drift.get("ks_amount"),
        "llm_calls_n": facts.calls,
        "llm_cost_usd": facts.cost_usd,
        "llm_calls_per_txn": _share(facts.calls, population),
        "unit_cost_per_txn": facts.cost_usd / population if population else Decimal(0),
        "llm_budget_status": {
            "tenant_spend_usd": budget.tenant_spend_usd,
            "global_spend_usd": budget.global_spend_usd,
            "tenant_cap_usd": budget.tenant_cap_usd,
            "global_cap_usd": budget.global_cap_usd,
            "projected_usd": budget.projected_usd,
            "fallback_active": budget.fallback_active,
            "fallback_reason": budget.fallback_reason,
            "fallback_since": _instant(budget.fallback_since) if budget.fallback_since else None,
        },
        "ruleset_version_id": versions.get("ruleset"),
        "model_version_id": versions.get("model"),
        "calibrator_version_id": versions.get("calibrator"),
        "config_version_id": versions.get("config"),
        "criteria": _criteria(facts, quality, len(judged)),
        "unknown": unknown | {"ks_vendor": "vendors have no order: Kolmogorov and Smirnov's test needs one"},
        "timestamp": _instant(at),
    }


def _quality(
    judged: Sequence[Any],
    p: NDArray[np.float64],
    raw: NDArray[np.float64],
    right: NDArray[np.float64],
    new: NDArray[np.bool_],
) -> dict[str, Any]:
    names = (
        "brier_score", "ece_uncalibrated", "ece_calibrated", "ece_calibrated_interval", "overall_accuracy", "macro_f1",
        "new_vendor_accuracy", "new_vendor_n",
    )  # fmt: skip
    if not judged:
        return dict.fromkeys(names) | {"new_vendor_n": 0}
    eces: dict[str, Any] = dict.fromkeys(("ece_uncalibrated", "ece_calibrated", "ece_calibrated_interval"))
    if len(judged) >= evaluate.LEAST_IN_BIN:
        interval = evaluate.bootstrap(evaluate.ece_width, p, right)
        eces = {
            "ece_uncalibrated": evaluate.ece_width(raw, right),
            "ece_calibrated": interval.value,
            "ece_calibrated_interval": [interval.low, interval.high],
        }
    return {
        "brier_score": evaluate.brier(p, right),
        **eces,
        "overall_accuracy": float(right.mean()),
        "macro_f1": evaluate.macro_f1(
            [row.proposed_account for row in judged], [row.label for row in judged]
        ),
        "new_vendor_accuracy": float(right[new].mean()) if new.any() else None,
        "new_vendor_n": int(new.sum()),
    }


def _criteria(facts: Facts, quality: Mapping[str, Any], labelled: int) -> list[dict[str, Any]]:
    """What the first stage asks, beside what was found. The targets that were published for simulated data are no part
    of it: they are compared with, never required.
    """
    asked = (
        ("labelled decisions", labelled, 500, True),
        ("entries that do not balance", facts.imbalance_count, 0, False),
        ("Brier score", quality["brier_score"], 0.15, False),
        ("ECE", quality["ece_calibrated"], 0.05, False),
    )
    return [
        {"name": name, "value": value, "bound": bound, "is_least": is_least,
         "passed": value is not None and (value >= bound if is_least else value <= bound)}
        for name, value, bound, is_least in asked
    ]  # fmt: skip


def _bins(bins: Sequence[Bin], p: NDArray[np.float64], right: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Each bin with `within`: what its own lines' differences add to the Brier score, so that the score follows."""
    told = []
    for place, each in enumerate(bins):
        inside = (p >= each.low) & ((p < each.high) if place < len(bins) - 1 else (p <= each.high))
        spread = 0.0
        if each.count:
            off = p[inside] - each.pred
            spread = float(np.mean(off**2 - 2 * off * (right[inside] - each.obs)))
        told.append(_bin(each) | {"within": spread})
    return told


def _bin(each: Bin) -> dict[str, Any]:
    return {
        "bin": f"{each.low:g}-{each.high:g}", "pred": each.pred, "obs": each.obs, "count": each.count,
        "abs_gap": each.gap if each.count else None,
    }  # fmt: skip


def _floats(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([float(value) for value in values], dtype=float)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
