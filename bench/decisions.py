"""Workload 3: one night of decisions for many tenants, from snapshots as the metrics leave them."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import sqlalchemy as sa

from bench.measure import migrated, own_server, run
from kernel import tenancy
from kernel.warehouse import snapshots
from models import server

_DBT = Path(__file__).resolve().parent.parent / "dbt"
LAST_DAY = date(2026, 6, 30)
MORNING = datetime(2026, 7, 1, 6, 30, tzinfo=UTC)
# One tenant in three each: meets its targets, misses them, breaks its gates.
PROFILES: tuple[Mapping[str, float], ...] = (
    {"payback_months": 6.7, "gross_margin_pct": 72, "cash_runway_months": 18, "cac_blended": 1200},
    {"payback_months": 13, "gross_margin_pct": 60, "cash_runway_months": 9, "cac_blended": 2600},
    {"payback_months": 32, "gross_margin_pct": 46, "cash_runway_months": 5, "cac_blended": 3600},
)


@dataclass(frozen=True, slots=True)
class Point:
    """One size: wall seconds of the whole command, and the peak private memory of it and of the server."""

    tenants: int
    seconds: float
    milliseconds_per_tenant: float
    actions: int
    peak_mib: float


def curve(sizes: tuple[int, ...] = (125, 250, 500, 1000)) -> Iterator[Point]:
    """Decides for the first `size` of the same tenants, each size on its own copy of their database."""
    with own_server() as running:
        with migrated(running) as engine:
            populate(engine, max(sizes))
        for size in sizes:
            yield _point(running, size)


def _point(running: server.Server, size: int) -> Point:
    url = _copy(running, size)
    program = "from dagster_project.cli.decide import app; app()"
    command = [sys.executable, "-c", program, "run", "--json", "--at", MORNING.isoformat()]
    home = running.data_dir.with_name("state")
    environment = {**os.environ, "DATABASE_URL": url, "REVENUE_OS_HOME": str(home)}
    cost = run(command, environment, running)
    told = json.loads(cost.output.strip().splitlines()[-1])
    if told["completed"] != size:
        raise RuntimeError(f"{size} tenants were asked for and {told['completed']} were decided")
    return Point(
        size,
        round(cost.seconds, 1),
        round(cost.seconds * 1000 / size, 1),
        told["actions"],
        round(cost.peak_mib),
    )


def _copy(running: server.Server, size: int) -> str:
    """A copy of the populated database in which the first `size` tenants are switched on; gives its URL."""
    name = f"bench_{size}"
    admin = sa.create_engine(running.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f'create database "{name}" template "bench"'))
    admin.dispose()
    engine = sa.create_engine(running.url(name))
    with engine.begin() as connection:
        connection.execute(
            sa.text("update spine.tenants set revenue_os_enabled = slug <= :last"),
            {"last": f"bench-{size:05}"},
        )
    engine.dispose()
    return running.url(name)


def populate(engine: sa.Engine, tenants: int) -> None:
    """`tenants` companies with 35 days of every metric, two campaigns of two channels each, and their spend."""
    with (_DBT / "seeds" / "metric_definitions.csv").open(encoding="utf-8", newline="") as file:
        metrics = {row["metric_id"]: row["unit"] for row in csv.DictReader(file)}
    values = [
        {
            "metrics": list(metrics),
            "values": [float(profile.get(metric, _usual(unit))) for metric, unit in metrics.items()],
            "profile": number,
        }
        for number, profile in enumerate(PROFILES)
    ]
    with engine.begin() as connection:
        snapshots.create(connection)
        tenancy.service(connection)
        connection.execute(sa.text(_TENANTS), {"tenants": tenants})
        for profile in values:
            connection.execute(
                sa.text(_SNAPSHOTS),
                profile | {"profiles": len(PROFILES), "last": LAST_DAY, "computed_at": MORNING},
            )
        for statement in (_CAMPAIGNS, _CHANNELS, _SPEND):
            connection.execute(sa.text(statement), {"last": LAST_DAY})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("analyze"))


def _usual(unit: str) -> float:
    """A value that is possible for the unit."""
    if unit.startswith("currency"):
        return 50_000
    return {"fraction": 0.4, "percent": 60}.get(unit, 12)


_TENANTS = """
insert into spine.tenants (id, slug, name, revenue_os_enabled, cfo_expansion_enabled)
select md5('bench ' || n)::uuid, 'bench-' || lpad(n::text, 5, '0'), 'Bench ' || n, true, true
from generate_series(1, :tenants) as n
"""
_SNAPSHOTS = """
insert into analytics.metric_snapshots_daily
    (tenant_id, date, metric_id, dimension, dimension_key, value, value_status, sample_size, window_days, computed_at,
    run_id, is_final)
select tenants.id, day::date, metric_id, '{}', '',
    -- Each day up to a tenth off, the same in every run.
    base * (1 + (abs(hashtext(tenants.slug || metric_id || day)) % 200 - 100) / 1000.0), 'ok', 100, 30,
    :computed_at, 'bench', false
from spine.tenants
cross join generate_series(cast(:last as date) - 34, cast(:last as date), interval '1 day') as day
cross join unnest(cast(:metrics as text[]), cast(:values as numeric[])) as definitions (metric_id, base)
where tenants.slug like 'bench-%' and right(tenants.slug, 5)::integer % :profiles = :profile
"""
_CAMPAIGNS = """
insert into spine.spine_campaigns (tenant_id, id, name, objective, status, budget_total, start_date)
select id, md5(slug || n)::uuid, 'Campaign ' || n, 'pipeline', 'running', 90000, cast(:last as date) - 200
from spine.tenants cross join generate_series(1, 2) as n
"""
_CHANNELS = """
insert into spine.spine_campaign_channels (tenant_id, id, campaign_id, channel, status, daily_budget, is_paid)
select tenant_id, md5(id::text || channel)::uuid, id, channel, 'active', 200, channel = 'paid_search'
from spine.spine_campaigns cross join unnest(array['paid_search', 'email']) as channel
where cast(:last as date) is not null
"""
_SPEND = """
insert into spine.channel_spend_daily (tenant_id, channel_id, date, spend, leads)
select tenant_id, id, day::date, 190, 4
from spine.spine_campaign_channels
cross join generate_series(cast(:last as date) - 34, cast(:last as date), interval '1 day') as day
"""
