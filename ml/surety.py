"""How sure one may be of what is proposed for a tenant's lines, by what was known at an instant: the second stage, the
calibrator behind it, and the brakes.

How each of them is made stands in `confidence`, `calibrate` and `certify`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import sqlalchemy as sa

from kernel.books.contract import BankLine, Scored, Sure, Surety
from ml import calibrate, certify, confidence, frames, learning


def of(
    connection: sa.Connection,
    tenant_id: UUID,
    others: Sequence[UUID],
    vendors: Sequence[str],
    parameters: Mapping[str, Any] | None,
    *,
    at: datetime,
) -> Surety:
    """Of a tenant's lines of these vendors. `others` learn with it; `parameters` are those of its calibrator, None without.

    What is known is read once, here; whoever asks about lines later is answered by it.
    """
    since = learning.first_day(at)
    labels = frames.labelled_around(connection, tenant_id, others, vendors, since=since, before=at)
    logged = frames.logged(connection, [tenant_id], since=confidence.first_instant(at), before=at)
    known = confidence.Known.of(labels, at=at)
    record = confidence.Record.of(calibrate.window(logged, at=at, months=confidence.WINDOW_MONTHS), at=at)

    def say(lines: Sequence[BankLine], scored: Sequence[Scored]) -> list[Sure]:
        if not lines:
            return []
        asked = _frame(tenant_id, lines, scored)
        seen = confidence.evidence(known, record, asked, asked["proposed"], _top_p(scored))
        raw = np.array([each.raw_p for each in scored])
        weights = parameters and parameters.get("confidence")
        sure = confidence.apply(weights, seen) if weights else raw
        calibrated = np.full(len(lines), np.nan)
        if parameters is not None:
            calibrated = calibrate.apply(parameters, sure).clip(0.0, 1.0)
        return [
            Sure(
                None if np.isnan(p) else round(p, 8), one if weights else None, kept,
                "disputed" if is_disputed else "flood" if is_flood else None,
            )
            for p, one, kept, is_disputed, is_flood in zip(
                calibrated.tolist(), sure.tolist(), confidence.kept(seen), certify.disputed(asked, labels),
                certify.floods(asked, labels), strict=True,
            )
        ]  # fmt: skip

    return say


def _frame(tenant_id: UUID, lines: Sequence[BankLine], scored: Sequence[Scored]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "tenant": str(tenant_id),
            "vendor": [line.vendor for line in lines],
            "card": [line.card for line in lines],
            "amount_minor": [line.amount_minor for line in lines],
            "proposed": [each.account for each in scored],
        }
    )


def _top_p(scored: Sequence[Scored]) -> np.ndarray:
    """Probabilities of the three likeliest accounts, 0 where there are fewer."""
    return np.array([([p for _, p in each.top] + [0.0] * 3)[:3] for each in scored], dtype=float)
