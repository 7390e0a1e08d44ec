"""`revenue-os metrics`: reading the canonical metrics, explaining one, computing a range of days."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime
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

    found = {
        (tenant.slug, row.metric_id): row
        for tenant in metrics.tenants_with_metrics(connection)
        for row in metrics.day(connection, tenant.tenant_id, day or tenant.date)
        if row.metric_id in HEADLINES
    }
    if as_json:
        ui.emit([{"tenant": slug} | asdict(row) for (slug, _), row in found.items()], as_json)
        return
    # A column of nothing, as of who only keeps books, would take the width that others need.
    every = list(dict.fromkeys(slug for slug, _ in found))
    slugs = [
        slug for slug in every if any(row.value for (of, _), row in found.items() if of == slug)
    ] or every
    silent = [slug for slug in every if slug not in slugs]
    days = sorted({row.date for (slug, _), row in found.items() if slug in slugs})
    rows = [
        {"metric_id": name}
        | {
            slug: (row.value if row.value is not None else row.value_status) if row else None
            for slug in slugs
            for row in (found.get((slug, name)),)
        }
        for name in HEADLINES
    ]
    if len(days) > 1:
        rows.insert(0, {"metric_id": "date"} | {slug: found[slug, HEADLINES[0]].date for slug in slugs})
    ui.emit(
        rows if slugs else [],
        as_json,
        title="Headline metrics" + (f" on {days[0]}" if len(days) == 1 else ""),
    )
    if silent:
        typer.echo(ui.lines(f"Without any figure: {', '.join(silent)}"))


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
    if not as_json:
        # Which run wrote a row, and when, is for machines.
        frame = frame.drop(columns=["computed_at", "run_id"], errors="ignore")
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
        record = asdict(row) | {
            "formula": told.definition["formula"],
            "first_day": told.first_day,
            "why": told.why,
        }
        ui.emit(record | {"sources": sources, "dimensions": list(told.dimensions)}, as_json)
        return
    days = "1 day" if row.window_days == 1 else f"{row.window_days} days"
    facts = {
        "metric": f"{row.metric_id}: {row.title}",
        "formula": told.definition["formula"],
        "value": row.value_status if row.value is None else f"{ui.shown(row.value)} {row.unit}",
        "numerator": row.numerator,
        "denominator": row.denominator,
        "counted": row.sample_size,
        "window": f"{told.first_day} to {row.date} ({days})",
        "status": f"{row.value_status}. {told.why}",
        "final": row.is_final,
        "computed_at": f"{row.computed_at:%Y-%m-%d %H:%M} UTC; the rows below are counted now",
    }
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
    whom = ", ".join(tenant) if tenant else "every tenant"
    ui.step("Computing", f"{first:%Y-%m-%d} to {last:%Y-%m-%d} for {whom}, new landing files first")
    with ui.spinner("One Dagster run", silent=as_json):
        done = runs.compute_metrics(
            first.date(), last.date(), ids, on_wait=lambda line: ui.step("Waiting", line)
        )
    ui.emit({"run_id": done.run_id, "succeeded": done.succeeded, "rows": done.row_count}, as_json)
    if not done.succeeded:
        ui.fail(done.why)


def _date(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


@app.command()
def latest(
    tenant: Tenant,
    period: Annotated[str, typer.Option(help="7d, 30d, 90d, 180d or 365d, up to today.")] = "30d",
    as_json: ui.Json = False,
) -> None:
    """The figures of a tenant's books: how much was automated, how right it was, what waits, what it cost."""
    from dagster_project.settings import settings
    from kernel import tenancy
    from ml import deciding

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        document = deciding.report(
            connection, found, period, at=datetime.now(UTC), limits=settings().llm_limits
        )
    if as_json:
        ui.emit(document, as_json)
        return
    rows = [
        {"metric": name, "value": f"{value:.4f}" if isinstance(value, float) else value}
        for name, value in document.items()
        if not isinstance(value, list | dict)
    ]
    rows += [
        {"metric": f"waits: {name}", "value": count}
        for name, count in document["not_auto_post_counts"].items()
    ]
    rows += [{"metric": f"unknown: {name}", "value": why} for name, why in document["unknown"].items()]
    ui.emit(rows, as_json, title=f"Books of {found.name}, {period}")
