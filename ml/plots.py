"""How well probabilities held, as pictures and as files that people and other systems read."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ml import evaluate
from ml.calibrate import Calibrator
from ml.evaluate import Bin


def reliability(lines: pd.DataFrame) -> bytes:
    """The reliability diagram of lines with calibrated_p, proposed and account as a PNG: how often right against how sure,
    with the count of each bin of equal width below."""
    # Imported here: who draws nothing should not pay for it.
    from matplotlib.figure import Figure

    bins = evaluate.width_bins(*_judged(lines))
    full = [one for one in bins if one.count]
    figure = Figure(figsize=(4.4, 4.8), dpi=90, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    above.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    above.plot([one.pred for one in full], [one.obs for one in full], marker="o", markersize=4, linewidth=1.2)
    above.set_ylabel("share right", fontsize=8)
    above.set_ylim(0, 1)
    below.bar(
        [(one.low + one.high) / 2 for one in bins], [one.count for one in bins], width=0.09, color="0.6"
    )
    below.set_xlabel("calibrated probability", fontsize=8)
    below.set_ylabel("lines", fontsize=8)
    for axes in (above, below):
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    # Without the date and the version of the library the same lines give the same bytes.
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def write_calibration(
    folder: Path, lines: pd.DataFrame, calibrator: Calibrator, *, versions: dict[str, str], at: datetime
) -> tuple[Path, ...]:
    """Writes calibration_bins.json, calibration_metadata.json and reliability_plot.png; gives their paths.

    `lines` has raw_p, calibrated_p, proposed and account; `versions` names model_version_id and calibrator_version_id.
    What is written of the lines the calibrator was fitted on is no test of it, and the metadata say so by their window.
    """
    p, right = _judged(lines)
    raw = lines.loc[lines["calibrated_p"].notna(), "raw_p"].to_numpy(dtype=float)
    bins = evaluate.width_bins(p, right)
    merged, log = evaluate.merged(bins)
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(
        folder / name
        for name in ("calibration_bins.json", "calibration_metadata.json", "reliability_plot.png")
    )
    _write(
        paths[0],
        {"bins": [_row(one) for one in bins], "merged": [_row(one) for one in merged], "merges": list(log)},
    )
    _write(
        paths[1],
        {
            "method": calibrator.method,
            "parameters": calibrator.parameters,
            "reason": calibrator.reason,
            "log_loss": calibrator.log_loss,
            "train_samples": calibrator.lines,
            "train_errors": calibrator.errors,
            **versions,
            "created_at": at.isoformat(),
            "lines": len(right),
            **(_figures(raw, p, right) if len(right) else {}),
        },
    )
    paths[2].write_bytes(reliability(lines))
    return paths


def _figures(raw: np.ndarray, p: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    floor = {"width": evaluate.noise_floor(p, evaluate.ece_width), "mass": evaluate.noise_floor(p)}
    return {
        "accuracy": float(right.mean()),
        "brier_score": evaluate.brier(p, right),
        "brier_parts": asdict(evaluate.brier_parts(p, right)),
        "log_loss_calibrated": evaluate.log_loss(p, right),
        "ece_uncalibrated": evaluate.ece_width(raw, right),
        "ece": asdict(evaluate.bootstrap(evaluate.ece_width, p, right)),
        "ece_equal_mass": asdict(evaluate.bootstrap(evaluate.ece_mass, p, right)),
        "ece_by_chance_95": {name: round(high, 6) for name, (_, high) in floor.items()},
    }


def _judged(lines: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    known = lines[lines["calibrated_p"].notna()]
    return known["calibrated_p"].to_numpy(dtype=float), (known["proposed"] == known["account"]).to_numpy(
        dtype=float
    )


def _row(one: Bin) -> dict[str, Any]:
    name = f"{one.low:g}-{one.high:g}"
    return {"bin": name, "pred": one.pred, "obs": one.obs, "count": one.count, "abs_gap": one.gap}


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
