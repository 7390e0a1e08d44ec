"""`revenue-os metrics`: reading the canonical metrics, explaining one, computing a range of days."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

import typer

from dagster_project.cli import ui

app = typer.Typer(
    help="The canonical daily metrics: show, history, explain, list, backfill.", no_args_is_help=True
)

Tenant = Annotated[str, typer.Option("--tenant", "-t", help="Slug or id of the tenant.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day; the newest when left out.")]

# What a person asks for first, in the order of the story: demand, conversion, economics, cash, data.
HEADLINES = (
    "pipeline_total", "bookings_new", "mrr_total", "win_rate", "cac_blended", "payback_months",
    "gross_margin_pct", "net_revenue_retention", "cash_runway_months", "data_coverage_pct",
)  # fmt: skip


@app.command()
def show(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="One tenant, every metric.")] = None,
    day: Day = None,
    as_json: ui.Json = False,
) -> None:
    """The headline metrics of every tenant, or every metric of one."""
    from kernel import metrics, tenancy

    with ui.connection() as connection:
        if tenant is None:
            headlines(connection, as_json, _date(day))
            return
        found = tenancy.find(connection, tenant)
        on = _date(day) or metrics.newest_day(connection, found.id)
        rows = [
            {
                "metric_id": row.metric_id,
                "value": row.value,
                "unit": row.unit,
                "status": row.value_status,
                "n": row.sample_size,
                "window_days": row.window_days,
                "final": row.is_final,
            }
            for row in metrics.day(connection, found.id, on)
        ]
    ui.emit(rows, as_json, title=f"{found.name} on {on}")


def headlines(connection: Any, as_json: bool, day: date | None = None) -> None:
    """Prints a row per headline metric, a column per tenant; a value that is not known shows its status."""
    from kernel import metrics

    rows = {name: {"metric_id": name} for name in ("date", *HEADLINES)}
    for tenant in metrics.tenants_with_metrics(connection):
        on = day or tenant.date
        rows["date"][tenant.slug] = on
        for row in metrics.day(connection, tenant.tenant_id, on):
            if row.metric_id in rows:
                rows[row.metric_id][tenant.slug] = row.value if row.value is not None else row.value_status
    title, days = "Headline metrics", {on for name, on in rows["date"].items() if name != "metric_id"}
    if len(days) == 1 and not as_json:
        title += f" on {days.pop()}"
        del rows["date"]
    ui.emit(list(rows.values()), as_json, title=title)


@app.command("list")
def list_dictionary(as_json: ui.Json = False) -> None:
    """The dictionary: every metric with its unit, direction and formula."""
    from kernel import metrics

    with ui.connection() as connection:
        ui.emit(metrics.dictionary(connection), as_json, title="Metric dictionary")


@app.command()
def history(
    metric: Annotated[str, typer.Argument(help="A metric id or alias.")],
    tenant: Tenant,
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"])] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"])] = None,
    dimension: Annotated[str, typer.Option(help="Dimension key, for example window=T30.")] = "",
    as_json: ui.Json = False,
) -> None:
    """A metric day by day; the last 30 days when no span is given."""
    from datetime import timedelta

    from kernel import metrics, tenancy

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        until = _date(last) or metrics.newest_day(connection, found.id)
        since = _date(first) or until - timedelta(days=29)
        frame = metrics.history(connection, found.id, metric, since, until, dimension)
    ui.emit(frame.to_dict("records"), as_json, title=f"{metric} of {found.name}, {since} to {until}")


@app.command()
def explain(
    metric: Annotated[str, typer.Argument(help="A metric id or alias.")],
    tenant: Tenant,
    day: Day = None,
    as_json: ui.Json = False,
) -> None:
    """Where a number comes from: formula, numerator, denominator, window, source rows, status and why."""
    from kernel import metrics, tenancy

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        on = _date(day) or metrics.newest_day(connection, found.id)
        told = metrics.explain(connection, found.id, metric, on)
    row = told.row
    facts = {
        "metric": f"{row.metric_id}: {row.title}",
        "formula": told.definition["formula"],
        "value": f"{row.value} {row.unit}" if row.value is not None else row.value_status,
        "numerator": row.numerator,
        "denominator": row.denominator,
        "counted": row.sample_size,
        "window": f"{told.first_day} to {row.date} ({row.window_days} days)",
        "status": f"{row.value_status}. {told.why}",
        "final": row.is_final,
        "computed_at": row.computed_at,
    }
    sources = [
        {
            "source": source.fact,
            "rows_in_window": source.rows_in_window,
            "covered_from": source.covered_from,
            "covered_to": source.covered_to,
        }
        for source in told.sources
    ]
    if as_json:
        ui.emit(facts | {"sources": sources, "dimensions": list(told.dimensions)}, as_json)
        return
    ui.emit(facts, as_json, title=f"{found.name} on {row.date}")
    ui.emit(sources, as_json, title="Read from")
    if told.dimensions:
        ui.emit(list(told.dimensions), as_json, title="By dimension")


@app.command()
def backfill(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")],
    tenant: Annotated[list[str] | None, typer.Option("--tenant", "-t", help="Only these tenants.")] = None,
    as_json: ui.Json = False,
) -> None:
    """Computes the days for every tenant, or the named ones, in one Dagster run."""
    from dagster_project import runs
    from kernel import tenancy

    with ui.connection() as connection:
        ids = [str(tenancy.find(connection, name).id) for name in tenant or []]
    with ui.spinner(f"Computing {first:%Y-%m-%d} to {last:%Y-%m-%d}", silent=as_json):
        done = runs.compute_metrics(first.date(), last.date(), ids)
    ui.emit({"run_id": done.run_id, "succeeded": done.succeeded, "rows": done.row_count}, as_json)
    if not done.succeeded:
        ui.fail(done.why)


def _date(moment: datetime | None) -> date | None:
    return moment.date() if moment else None
