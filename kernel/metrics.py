"""Reading the canonical metrics: a day, a history, an explanation. Computing them is dbt's work."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas as pd
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.landing.contracts import FACTS
from models.statements import statements

_SHOWN_KEYS = 20


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One total of one day. `value` is None unless `value_status` is ok."""

    metric_id: str
    title: str
    unit: str
    domain: str
    direction: str
    date: date
    value: Decimal | None
    value_status: str
    numerator: Decimal | None
    denominator: Decimal | None
    sample_size: int
    window_days: int
    is_final: bool
    computed_at: datetime


@dataclass(frozen=True, slots=True)
class SourceUse:
    """A fact a metric reads: how many of its rows lie in the window, and the days it speaks for."""

    fact: str
    rows_in_window: int | None
    covered_from: date | None
    covered_to: date | None


@dataclass(frozen=True, slots=True)
class Explanation:
    definition: dict[str, Any]
    row: MetricRow
    first_day: date
    sources: tuple[SourceUse, ...]
    dimensions: tuple[dict[str, Any], ...]
    why: str


def resolve(connection: sa.Connection, asked: str) -> str:
    """The dictionary's id for an id or alias. Raises RefusedError for an unknown one, naming the nearest."""
    known = {row.asked: row.metric_id for row in connection.execute(_sql("dictionary"))}
    if asked in known:
        return known[asked]
    near = difflib.get_close_matches(asked, known, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "see revenue-os metrics list"
    raise RefusedError(f"metric {asked!r} is not in the dictionary: {hint}")


def known_ids(connection: sa.Connection) -> list[str]:
    """The ids of the dictionary, aliases left out."""
    return sorted({row.metric_id for row in connection.execute(_sql("dictionary"))})


def tenants_with_metrics(connection: sa.Connection) -> list[Any]:
    """tenant_id, slug, name and newest day of every tenant that has snapshots."""
    return list(connection.execute(_sql("tenants_latest")))


def dictionary(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every metric: id, unit, direction, domain, formula."""
    return [dict(row._mapping) for row in connection.execute(_sql("definitions"))]


def newest_day(connection: sa.Connection, tenant_id: UUID) -> date:
    for row in connection.execute(_sql("tenants_latest")):
        if row.tenant_id == tenant_id:
            return row.date
    raise RefusedError(f"tenant {tenant_id} has no metrics yet: run revenue-os metrics backfill")


def day(connection: sa.Connection, tenant_id: UUID, on: date) -> list[MetricRow]:
    """Every total of the tenant's day, by domain; empty when the day was not computed."""
    rows = connection.execute(_sql("day"), {"tenant_id": tenant_id, "date": on})
    return [MetricRow(**row._mapping) for row in rows]


def history(
    connection: sa.Connection,
    tenant_id: UUID,
    metric_id: str,
    first: date,
    last: date,
    dimension_key: str = "",
) -> pd.DataFrame:
    """One row per day: date, value, value_status, numerator, denominator, sample_size, is_final, computed_at.

    Raises RefusedError for a dimension key that the tenant's rows of the metric never had, naming those there are.
    """
    metric_id = resolve(connection, metric_id)
    _refuse_unknown_dimension(connection, tenant_id, metric_id, dimension_key)
    found = connection.execute(
        _sql("history"),
        {
            "tenant_id": tenant_id,
            "metric_id": metric_id,
            "first": first,
            "last": last,
            "dimension_key": dimension_key,
        },
    )
    return pd.DataFrame([dict(row._mapping) for row in found])


def _refuse_unknown_dimension(connection: sa.Connection, tenant_id: UUID, metric_id: str, asked: str) -> None:
    key = sa.column("dimension_key")
    known = (
        sa.select(key)
        .distinct()
        .select_from(sa.table("metric_snapshots_daily", schema="analytics"))
        .where(sa.column("tenant_id") == tenant_id, sa.column("metric_id") == metric_id, key != "")
    )
    if not asked or asked in (names := sorted(connection.execute(known).scalars())):
        return
    shown = ", ".join(names[:_SHOWN_KEYS]) + (", …" if len(names) > _SHOWN_KEYS else "")
    raise RefusedError(
        f"{metric_id} has no dimension {asked!r}: "
        + (f"choose among {shown}" if names else "it has its total only")
    )


def by_tenant(connection: sa.Connection, metric_id: str, first: date, last: date) -> dict[str, pd.Series]:
    """Daily values of the first eight tenants by slug, as floats for drawing; unknown days are NaN."""
    rows = connection.execute(_sql("by_tenant"), {"metric_id": metric_id, "first": first, "last": last})
    frame = pd.DataFrame([dict(row._mapping) for row in rows], columns=list(rows.keys()))
    frame["value"] = frame["value"].astype("float64")
    return {str(slug): part.set_index("date")["value"] for slug, part in frame.groupby("slug")}


def explain(connection: sa.Connection, tenant_id: UUID, metric_id: str, on: date) -> Explanation:
    """Where a number comes from: formula, parts, window, source rows, and why it has the status it has."""
    metric_id = resolve(connection, metric_id)
    row = next((row for row in day(connection, tenant_id, on) if row.metric_id == metric_id), None)
    if row is None:
        raise RefusedError(f"{metric_id} has no row on {on}: run revenue-os metrics backfill for that day")
    key = {"tenant_id": tenant_id, "metric_id": metric_id, "date": on}
    definition = dict(connection.execute(_sql("definition"), key).one()._mapping)
    first_day = on - timedelta(days=row.window_days - 1)
    sources = _sources(connection, tenant_id, definition["sources"].split(";"), first_day, on)
    dimensions = tuple(dict(found._mapping) for found in connection.execute(_sql("dimensions"), key))
    return Explanation(definition, row, first_day, sources, dimensions, _why(row, definition, sources))


def input_frame(connection: sa.Connection) -> pd.DataFrame:
    """What the kernel reads: tenant_id, date, metric_id, value, value_status of each tenant's newest day."""
    rows = connection.execute(_sql("kernel_input"))
    return pd.DataFrame([dict(row._mapping) for row in rows], columns=list(rows.keys()))


def _sources(
    connection: sa.Connection, tenant_id: UUID, facts: list[str], first: date, last: date
) -> tuple[SourceUse, ...]:
    every = facts == ["all"]
    found = connection.execute(_sql("coverage"), {"tenant_id": tenant_id, "facts": facts, "all_facts": every})
    covered = {row.fact: (row.covered_from, row.covered_to) for row in found}
    names = list(FACTS) if every else facts
    return tuple(
        SourceUse(
            name, _rows_in_window(connection, tenant_id, name, first, last), *covered.get(name, (None, None))
        )
        for name in names
    )


def _rows_in_window(
    connection: sa.Connection, tenant_id: UUID, fact: str, first: date, last: date
) -> int | None:
    """Rows of a fact in a span of UTC days, close enough for a person; None for facts without a date."""
    contract = FACTS[fact]
    if contract.happened is None:
        return None
    column = sa.column(contract.column(contract.happened).spine_column)
    table = sa.table(contract.table.split(".")[1], schema=contract.table.split(".")[0])
    counted = (
        sa.select(sa.func.count())
        .select_from(table)
        .where(sa.column("tenant_id") == tenant_id, column >= first, column < last + timedelta(days=1))
    )
    return connection.execute(counted).scalar_one()


def _why(row: MetricRow, definition: dict[str, Any], sources: tuple[SourceUse, ...]) -> str:
    if row.value_status == "ok":
        return "Every source covers the day and the formula has what it needs."
    missing = [
        source.fact for source in sources if source.covered_to is None and source.rows_in_window is not None
    ]
    # A metric over all sources does without the ones a tenant never had.
    if row.value_status == "undefined" and missing and definition["sources"] != "all":
        return f"Nothing was ever loaded for {', '.join(missing)}."
    if row.value_status == "stale_source":
        late = [s for s in sources if s.covered_to is not None and s.covered_to < row.date]
        return "; ".join(f"{source.fact} ends on {source.covered_to}" for source in late) + "."
    return f"The rule for this metric: {definition['null_rule']}."


def _sql(name: str) -> sa.TextClause:
    return statements("metrics")[name]
