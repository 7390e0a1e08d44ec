"""Shadow reports: what would have happened in a period, as files for people and for programs.

Four files and a picture of each tenant, made of the document of `ml.metrics` alone. They are written whole or not at all.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from kernel.books.contract import REASONS

_METRICS = (
    "automation_rate", "auto_post_rate", "review_rate", "reconciliation_rate", "brier_score", "ece_calibrated",
    "overall_accuracy", "macro_f1", "llm_calls_per_txn", "unit_cost_per_txn",
)  # fmt: skip
_BLOCK = 5  # lines that one block stands for, or as many more as let the longest bar fit
_LONGEST_BAR = 40
_UNKNOWN = "-"


def write(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """The files of a report, as `shadow_*_<tenant>_<period>.*` in the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{document['tenant']}_{document['period']}"
    contents = {
        f"shadow_report_{name}.json": f"{json.dumps(document, indent=2, default=_json)}\n".encode(),
        f"shadow_report_{name}.csv": _table(
            ("metric", "value"), ((each, document[each]) for each in _METRICS)
        ),
        f"shadow_reason_counts_{name}.csv": _table(
            ("reason", "count"), ((each, document["not_auto_post_counts"][each]) for each in REASONS)
        ),
        f"shadow_charts_{name}.txt": charts(document).encode(),
        f"shadow_charts_{name}.png": picture(document),
    }
    return [_written(folder / file, content) for file, content in contents.items()]


def charts(document: Mapping[str, Any]) -> str:
    """The report as text of a fixed width."""
    budget, counts = document["llm_budget_status"], document["not_auto_post_counts"]
    block = max(_BLOCK, -(-max(counts.values()) // _LONGEST_BAR))
    lines = [
        "=" * 60,
        "SHADOW REPORT",
        f"Tenant: {document['tenant']}   Period: {document['period']}",
        f"{document['window_start_ts']} to {document['window_end_ts']}",
        "=" * 60,
        "",
        f"CORE METRICS ({document['population_n']} lines decided, "
        f"{document['labelled_n']} labelled since with a calibrated probability)",
        *(
            f"  {told:<20} {_percent(document[each])}"
            for told, each in (
                ("automation", "automation_rate"), ("auto-post", "auto_post_rate"), ("review", "review_rate"),
                ("reconciliation", "reconciliation_rate"),
            )
        ),
        "",
        "MODEL QUALITY",
        f"  {'brier':<20} {_number(document['brier_score'], 3)}",
        f"  {'ece':<20} {_number(document['ece_calibrated'], 3)}",
        f"  {'accuracy':<20} {_percent(document['overall_accuracy'])}",
        f"  {'macro-F1':<20} {_number(document['macro_f1'], 3)}",
        "",
        f"REVIEW REASONS (a block is {block} lines)",
        *(f"  {each:<20}{counts[each]:>6} {'█' * (counts[each] // block)}".rstrip() for each in REASONS),
        "",
        "COSTS",
        f"  {'calls a line':<20} {_number(document['llm_calls_per_txn'], 3)}",
        f"  {'USD a line':<20} {_number(document['unit_cost_per_txn'], 4)}",
        f"  {'tenant, USD':<20} {_number(budget['tenant_spend_usd'], 2)}",
        f"  {'everybody, USD':<20} {_number(budget['global_spend_usd'], 2)}",
        "",
        "VERSIONS",
        *(
            f"  {told:<20} {document[each] or _UNKNOWN}"
            for told, each in (
                ("rules", "ruleset_version_id"), ("model", "model_version_id"),
                ("calibrator", "calibrator_version_id"), ("calibration", "calibration_method"),
            )
        ),
        "",
        *(f"{each}: {why}" for each, why in sorted(document["unknown"].items())),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def picture(document: Mapping[str, Any]) -> bytes:
    """Reasons for review, and how probabilities held, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    reasons, reliability = figure.subplots(1, 2)
    counts = document["not_auto_post_counts"]
    bars = reasons.barh(
        [each.replace("_", " ") for each in reversed(REASONS)], [counts[each] for each in reversed(REASONS)]
    )
    reasons.bar_label(bars, padding=2)
    reasons.set_title(f"Why {document['review_n']} of {document['population_n']} lines wait")
    reasons.margins(x=0.15)
    seen = [each for each in document["ece_bins"] if each["count"]]
    reliability.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    reliability.scatter(
        [each["pred"] for each in seen], [each["obs"] for each in seen],
        s=[12 + 300 * each["count"] / document["labelled_n"] for each in seen], alpha=0.7,
    )  # fmt: skip
    reliability.set(xlim=(0, 1), ylim=(0, 1), xlabel="said", ylabel="was right")
    reliability.set_title(f"Probabilities of {document['labelled_n']} labelled lines")
    figure.suptitle(f"{document['tenant']}, {document['period']}")
    made = io.BytesIO()
    # Without the version of the program: the same figures make the same bytes.
    figure.savefig(made, format="png", dpi=110, metadata={"Software": None})
    return made.getvalue()


def _table(header: tuple[str, ...], rows: Any) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(("" if value is None else value for value in row) for row in rows)
    return text.getvalue().encode()


def _written(path: Path, content: bytes) -> Path:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    os.replace(partial, path)
    return path


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1%}"


def _number(value: float | Decimal | None, digits: int) -> str:
    return _UNKNOWN if value is None else f"{value:.{digits}f}"


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
