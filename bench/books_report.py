"""What a replay of bank lines showed, by month, by tenant and over all: as one document and as tables for people."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.books_gates import compared, passes
from ml import certify, evaluate

_COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def report(
    log: pd.DataFrame,
    costs: pd.DataFrame,
    lines: pd.DataFrame,
    *,
    since: pd.Timestamp,
    peer: pd.Series | None = None,
    peer_seconds: float | None = None,
) -> dict[str, Any]:
    """The months from `since` on. `log` and `costs` are a replay's; `posted` counts the lines above the certified threshold
    that no brake held, `passed_every_gate` those that the other gates let through too; `peer` proposals by txn of another classifier under
    the same schedule; `lines` what the human ceiling is measured on."""
    seen = log[log["period"] >= since]
    seen = seen.assign(
        right=(seen["proposed"] == seen["account"]).to_numpy(),
        posted=passes(seen).to_numpy(),
        peer=seen["txn"].map(peer) if peer is not None else None,
    )
    spent = costs[costs["period"] >= since]
    parts = {
        "overall": _figures(seen, draws=200) | {"curve": _curve(seen)},
        "by_month": {str(month)[:7]: _figures(rows, draws=100) for month, rows in seen.groupby("period")},
        "by_tenant": {tenant: _figures(rows, draws=0) for tenant, rows in seen.groupby("tenant")},
        "seen_vendors": _figures(seen[~seen["is_new_vendor"]], draws=0),
        "new_vendors": _figures(seen[seen["is_new_vendor"]], draws=0),
        "probabilities": compared(log, since),
        "closures": _closures(seen),
        "brakes": {
            name: _figures(
                seen[(seen["brake"] == name) & (seen["calibrated_p"] >= seen["threshold"])], draws=0
            )
            for name in ("flood", "disputed")
        },
        "costs": {
            **{
                f"{step}_seconds": float(spent[step].sum())
                for step in ("import", "train", "gate", "decide", "label")
            },
            "slowest_training_seconds": float(spent["train"].max()),
            "peak_mib": float(spent["peak_mib"].max()),
            "peer_seconds": peer_seconds,
        },
    }
    ceiling = evaluate.human_ceiling(lines[lines["period"] >= since])
    parts["human_ceiling"] = {"agreement": ceiling.agreement, "pairs": ceiling.pairs, "lines": ceiling.lines}
    return parts | {"goals": _goals(parts)}


def _figures(rows: pd.DataFrame, *, draws: int) -> dict[str, Any]:
    if not len(rows):
        return {"lines": 0}
    right, posted = rows["right"].to_numpy(), rows[rows["posted"]]
    hits = int(posted["right"].sum())
    figures: dict[str, Any] = {
        "lines": len(rows),
        "accuracy": float(right.mean()),
        "macro_f1": evaluate.macro_f1(rows["proposed"], rows["account"]),
        "brier_multiclass": evaluate.brier_multiclass(
            rows[["p_1", "p_2", "p_3"]], rows[["top_1", "top_2", "top_3"]], rows["account"]
        ),
        "posted": len(posted),
        "passed_every_gate": int(rows["passed"].sum()),
        "precision_of_every_gate": float(right[rows["passed"]].mean()) if rows["passed"].any() else None,
        "coverage": len(posted) / len(rows),
        "precision": hits / len(posted) if len(posted) else None,
        "lower_bound": certify.lower_bound(hits, len(posted)) if len(posted) else None,
    }
    if rows["peer"].notna().any():
        figures["peer_accuracy"] = float((rows["peer"] == rows["account"]).mean())
        figures["peer_macro_f1"] = evaluate.macro_f1(rows["peer"], rows["account"])
    known = rows[rows["calibrated_p"].notna()]
    if len(known):
        p, hit = known["calibrated_p"].to_numpy(), known["right"].to_numpy(dtype=float)
        figures |= {
            "calibrated_lines": len(known),
            "brier": evaluate.brier(p, hit),
            "log_loss": evaluate.log_loss(p, hit),
            "ece_width": evaluate.ece_width(p, hit),
            "ece_mass": evaluate.ece_mass(p, hit),
            "ece_raw": evaluate.ece_mass(known["raw_p"], hit),
            "ece_mass_by_chance": evaluate.noise_floor(p, draws=100)[1],
        }
        if draws:
            for name, measure in (("ece_width", evaluate.ece_width), ("ece_mass", evaluate.ece_mass)):
                inside = evaluate.bootstrap(measure, p, hit, cluster=known["card"], draws=draws)
                figures[f"{name}_interval"] = [inside.low, inside.high]
    if draws and len(posted):
        inside = evaluate.bootstrap(
            np.mean, posted["right"].to_numpy(dtype=float), cluster=posted["card"], draws=draws
        )
        figures["precision_interval_by_card"] = [inside.low, inside.high]
    return figures


def _curve(rows: pd.DataFrame) -> dict[str, Any]:
    told = {}
    for name in ("p", "raw_p", "calibrated_p"):
        known = rows[rows[name].notna()]
        curve = evaluate.risk_coverage(known[name], known["right"])
        told[name] = {
            "area": curve.area,
            "accuracy_at": {str(at): curve.accuracy_at(at) for at in _COVERAGES},
        }
    return told


def _closures(rows: pd.DataFrame) -> list[dict[str, Any]]:
    shut = rows[rows["closed"] != ""].groupby(["period", "tenant", "closed"]).size()
    return [
        {"month": str(month)[:7], "tenant": tenant, "reason": reason, "lines": int(count)}
        for (month, tenant, reason), count in shut.items()
    ]


def _goals(parts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each goal with what was reached; a year's twelve months may miss the lower bound once."""
    overall = parts["overall"]
    months = {name: one for name, one in parts["by_month"].items() if one["posted"]}
    low = [name for name, one in months.items() if one["lower_bound"] < certify.PROMISE]
    under = [name for name, one in months.items() if one["precision"] < certify.PROMISE]
    worst = min((one["precision"] for one in parts["by_tenant"].values() if one["posted"]), default=None)
    goals = {
        "ece_at_most_0.02": (
            overall.get("ece_mass"),
            overall.get("ece_mass", 1) <= 0.02 >= overall.get("ece_width", 1),
        ),
        "coverage_at_least_0.50": (overall["coverage"], overall["coverage"] >= 0.5),
        "precision_at_least_0.90_every_month": (under, not under),
        "lower_bound_at_least_0.90_in_11_of_12_months": (low, len(low) * 12 <= len(parts["by_month"])),
        "precision_of_a_tenant_at_least_0.88": (worst, worst is not None and worst >= 0.88),
    }
    if "peer_accuracy" in overall:
        ahead = overall["accuracy"] - overall["peer_accuracy"]
        goals["accuracy_4_points_above_peer"] = (ahead, ahead >= 0.04)
        behind = overall["macro_f1"] - overall["peer_macro_f1"]
        goals["macro_f1_not_below_peer"] = (behind, behind >= 0)
    return {name: {"reached": reached, "holds": bool(holds)} for name, (reached, holds) in goals.items()}


def tables(told: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The document for people, as titles and rows: months and the whole, tenants and kinds of vendors, closed gates, goals."""
    months = told["by_month"] | {"all": told["overall"]}
    groups = told["by_tenant"] | {"seen vendors": told["seen_vendors"], "new vendors": told["new_vendors"]}
    goals = [
        {"goal": name.replace("_", " "), "reached": _plain(one["reached"]), "holds": "yes" if one["holds"] else "no"}
        for name, one in told["goals"].items()
    ]  # fmt: skip
    closures = [
        {"month": one["month"], "tenant": one["tenant"], "why": one["reason"]} for one in told["closures"]
    ]
    probabilities = {name.replace("_", " "): one for name, one in told["probabilities"].items()}
    return [
        ("Months", _rows("month", months)),
        ("Groups of lines", _rows("group", groups)),
        ("Gates by either probability", _rows("probability", probabilities, _OF_GATES)),
        ("Gates that closed themselves", closures),
        ("Goals", goals),
    ]


_OF_GATES = {"covered": "coverage", "precise": "precision", "ECE": "ece_mass"}
_COLUMNS = {
    "lines": "lines", "right": "accuracy", "peer": "peer_accuracy", "F1": "macro_f1", "peer F1": "peer_macro_f1",
    "Brier": "brier", "ECE": "ece_mass", "chance": "ece_mass_by_chance", "covered": "coverage", "precise": "precision",
    "bound": "lower_bound",
}  # fmt: skip


def _rows(
    first: str, figures: dict[str, dict[str, Any]], columns: dict[str, str] = _COLUMNS
) -> list[dict[str, Any]]:
    return [
        {first: name} | {title: _plain(one.get(key)) for title, key in columns.items()}
        for name, one in figures.items()
    ]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
