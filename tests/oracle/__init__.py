"""Every metric of the dictionary computed a second time, in plain Python, to test the warehouse against.

It follows the dictionary and `docs/reference/metric-conventions.md` literally, one day at a time, and
shares nothing with the dbt models. Preparing facts stands in `frames` and `book`, formulas by domain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import localcontext

import pandas as pd

from tests.oracle import conversion, demand, economics, paid, quality
from tests.oracle.book import Book, Coverage
from tests.oracle.comparison import compare
from tests.oracle.frames import Tenant, instant, read
from tests.oracle.results import Rows, dictionary

__all__ = ["COLUMNS", "Tenant", "compare", "compute"]

COLUMNS = [
    "date", "metric_id", "dimension_key", "value", "value_status", "numerator", "denominator", "sample_size",
    "window_days", "is_final",
]  # fmt: skip
DOMAINS = (demand, paid, conversion, economics, quality)


def compute(
    facts: Mapping[str, pd.DataFrame],
    tenant: Tenant,
    dates: Sequence[date],
    *,
    coverage: Sequence[tuple[str, str, date, date, bool]],
    as_of: datetime,
    watermarks: Sequence[tuple[str, datetime]] = (),
    restate_days: int = 7,
) -> pd.DataFrame:
    """Every metric row the tenant must have on the dates that have closed for it at `as_of`.

    `facts` are frames in landing-contract columns with `source_system`, after all corrections.
    `coverage` holds (source_system, fact, covered_from, covered_to, is_required), `watermarks` every
    (source_system, instant) of a hand-over. Gives the columns COLUMNS; numbers are Decimal or None.
    """
    now = instant(as_of)
    # Sums of cents and rates stay exact in 60 digits, and no quotient loses one that matters.
    with localcontext(prec=60):
        book = Book(
            read(facts, tenant),
            tenant,
            [Coverage(*row) for row in coverage],
            [(source, instant(at)) for source, at in watermarks],
            _metrics(),
        )
        today = book.local_day(now)
        rows = [
            (day, metric_id, key, result.value, result.status, result.numerator, result.denominator,
             result.sample_size, result.window_days or definition.window_days,
             (today - day).days > restate_days)
            for day in sorted(dates)
            if book.day_end(day) <= now
            for metric_id, definition in dictionary().items()
            for key, result in book.rows(metric_id, day).items()
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def _metrics() -> dict[str, Callable[[Book, date], Rows]]:
    """The function of each metric: the one of its name in a domain module."""
    return {
        metric_id: next(vars(domain)[metric_id] for domain in DOMAINS if metric_id in vars(domain))
        for metric_id in dictionary()
    }
