"""Published figures agree with each other; a document in which one of them was altered is found by name."""

from __future__ import annotations

import copy
import csv
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from kernel.books.contract import REASONS
from kernel.books.llm_budget import Status
from kernel.books.metrics import Facts, Window
from kernel.errors import RefusedError
from ml import metrics, shadow
from quality import books

AT = datetime(2026, 3, 10, 15, tzinfo=UTC)


def decided(lines: int = 2_000) -> list[Any]:
    """Lines whose probabilities are true, of which two thirds were labelled, and those below 0.9 wait."""
    draw = random.Random(7)
    rows = []
    for number in range(lines):
        p = round(draw.random(), 8)
        label = ("6300" if draw.random() < p else "6100") if draw.random() < 2 / 3 else None
        held = "below_threshold" if p < 0.9 else "cold_start" if draw.random() < 0.1 else None
        rows.append(
            SimpleNamespace(
                txn_id=UUID(int=number), proposed_account="6300", raw_p=Decimal(f"{p**2:.8f}"), calibrated_p=Decimal(f"{p:.8f}"),
                threshold=Decimal("0.9"), verdict="review" if held else "would_post", not_auto_post_reason=held,
                failures=[held] if held else [], is_new_vendor=draw.random() < 0.2, label=label, is_posted=False,
            )
        )  # fmt: skip
    return rows


def facts(rows: list[Any], **given: Any) -> Facts:
    known: dict[str, Any] = {
        "imbalance_count": 0, "lines": 20, "matched": 19, "calls": 50, "cost_usd": Decimal("0.125"),
        "budget": Status("2026-03", Decimal("0.125"), Decimal(3), Decimal(50), Decimal(1000), Decimal("0.4"), False, None, None),
    }  # fmt: skip
    return Facts(UUID(int=1), Window.of("30d", AT), rows, **known | given)


def document(rows: list[Any] | None = None, **given: Any) -> dict[str, Any]:
    return metrics.document(
        facts(decided() if rows is None else rows, **given),
        tenant="acme",
        threshold=Decimal("0.9"),
        versions={"ruleset": "r1", "model": "m1", "calibrator": "c1", "config": "v1", "calibration_method": "isotonic"},
        drift={"psi_vendor": 0.01, "psi_amount": 0.02, "psi_account": 0.04, "ks_amount": 0.03},
        at=AT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def honest() -> dict[str, Any]:
    return document()


def test_figures_made_of_rows_agree_with_each_other(honest: dict[str, Any]) -> None:
    assert books.broken(honest) == []
    assert honest["ece_calibrated"] < 0.05 < honest["ece_uncalibrated"]


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(given: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        for each in outer:
            given = given[int(each) if isinstance(given, list) else each]
        given[last] = value(given[last]) if callable(value) else value

    return change


BROKEN = {
    "I1": _set("review_rate", 0.5),
    "I2": _set("not_auto_post_counts.anomaly", lambda count: count + 1),
    "I3": _set("ece_bins.4.count", lambda count: count - 1),
    "I4": _set("ece_calibrated", 0.029),
    "I5": _set("overall_accuracy", 0.934),
    "I6": _set("brier_score", 0.118),
    "I7": _set("at_threshold_n", 3),
    "I8": _set("je_imbalance_count", 2),
    "I9": _set("ece_bins_merged.1.count", 87),
    "I10": _set("criteria.0.value", 499),
    "I11": _set("unit_cost_per_txn", Decimal("0.0023")),
    "I12": _set("labelled_n", 73),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_figure_that_was_altered_is_found_by_name(honest: dict[str, Any], name: str) -> None:
    altered = copy.deepcopy(honest)
    BROKEN[name](altered)
    assert name in books.broken(altered)


def test_every_invariant_is_broken_once() -> None:
    assert list(BROKEN) == list(books.INVARIANTS)


def test_a_window_in_which_nothing_was_decided_claims_nothing() -> None:
    empty = document([], calls=0, cost_usd=Decimal(0), lines=0, matched=0)
    assert books.broken(empty) == []
    assert (empty["ece_calibrated"], empty["overall_accuracy"], empty["reconciliation_rate"]) == (
        None,
        None,
        None,
    )
    assert {"calibration", "reconciliation_rate"} <= set(empty["unknown"])


def test_of_few_labelled_lines_no_calibration_error_is_published() -> None:
    few = document(decided(60))
    assert (few["ece_calibrated"], "ece_calibrated" in few["unknown"]) == (None, True)
    assert books.broken(few) == []


def test_labels_without_a_calibrated_probability_are_told_as_such() -> None:
    rows = [SimpleNamespace(**vars(row) | {"calibrated_p": None}) for row in decided(60)]
    labelled = sum(row.label is not None for row in rows)
    told = f"{labelled} lines were labelled since they were decided, none with a calibrated probability"
    assert document(rows)["unknown"]["calibration"] == told


def test_what_stood_as_it_was_proposed_is_automation() -> None:
    rows = decided(4)
    for row, (verdict, label, is_posted) in zip(
        rows, [("posted", None, True), ("posted", None, False), ("review", "6300", False), ("posted", "6100", True)],
        strict=True,
    ):  # fmt: skip
        row.verdict, row.label, row.is_posted = verdict, label, is_posted
    assert document(rows)["automation_rate"] == 0.5


def test_a_window_ends_at_the_midnight_behind_the_day_that_is_asked_on() -> None:
    window = Window.of("7d", AT)
    assert (window.starts, window.ends) == (
        datetime(2026, 3, 4, tzinfo=UTC),
        datetime(2026, 3, 11, tzinfo=UTC),
    )


def test_a_period_that_is_none_is_refused() -> None:
    with pytest.raises(RefusedError, match="use 7d, 30d"):
        Window.of("1w", AT)


def test_a_report_is_five_files_made_of_the_document(honest: dict[str, Any], tmp_path: Path) -> None:
    files = shadow.write(honest, tmp_path / "reports")
    assert [file.name for file in files] == [
        "shadow_report_acme_30d.json", "shadow_report_acme_30d.csv", "shadow_reason_counts_acme_30d.csv",
        "shadow_charts_acme_30d.txt", "shadow_charts_acme_30d.png",
    ]  # fmt: skip
    told = json.loads(files[0].read_text())
    assert (told["tenant_id"], told["population_n"]) == (str(UUID(int=1)), 2_000)
    rows = list(csv.reader(files[2].open()))
    assert rows[0] == ["reason", "count"]
    assert [row[0] for row in rows[1:]] == list(REASONS)
    assert sum(int(row[1]) for row in rows[1:]) == honest["review_n"]
    assert (
        f"below_threshold     {honest['not_auto_post_counts']['below_threshold']:>6} █"
        in files[3].read_text()
    )
    assert files[4].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_same_document_makes_the_same_bytes(honest: dict[str, Any], tmp_path: Path) -> None:
    once, again = (shadow.write(honest, tmp_path / name) for name in ("a", "b"))
    assert [file.read_bytes() for file in once] == [file.read_bytes() for file in again]
