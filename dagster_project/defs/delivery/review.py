"""What deliveries are measured by, and the rules that nothing may have broken."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache

import dagster as dg
from pydantic import Field

from dagster_project.database import engine
from dagster_project.lib import plots
from dagster_project.lib.tables import table
from kernel import tenancy
from kernel.delivery.invariants import INVARIANTS

OWNER = "team:delivery"
FUNNEL = dg.AssetKey(["delivery", "run_funnel"])
LATENCY = dg.AssetKey(["delivery", "latency"])
_SLO = "start_p99_is_within_120_seconds"
_START_SECONDS = 120  # of the specification, Q3
_SHOWN = 50
# Of the hourly look at the rules; the nightly one is at everything. Twice what a missed night leaves out.
LATELY = timedelta(days=2)
# Written by the kernel: what the assets and the models of dbt read.
_TABLES = {
    "campaign_runs": "Runs of campaigns: what was approved and launched when, its counts and how it ended.",
    "job_queue": "The parts of a run that workers lease, with when they were due, begun and done.",
    "channel_outbox": "One intended message to one person, whatever became of it.",
    "attempts": "Every call of a provider, with its key, its outcome and the provider's id.",
    "provider_accounts": "Accounts with providers, and whether somebody stopped them.",
    "provider_events": "What providers told of by themselves, as it came.",
    "reconciliation_cases": "What is uncertain, whose it is, and how it was resolved.",
    "usage_entries": "Units by attempt: reserved, then committed or released.",
}


class Scope(dg.Config):
    everything: bool = Field(False, description="Look at all runs there ever were, not at those of late.")


def _now() -> datetime:
    return datetime.now(UTC)


@cache
def tables() -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            ["delivery", name],
            description=text,
            group_name="delivery",
            owners=[OWNER],
            kinds={"postgres"},
            metadata={"dagster/table_name": f"delivery.{name}"},
        )
        for name, text in _TABLES.items()
    ]


def _measured(key: dg.AssetKey, description: str, *reads: str, **more) -> dict:
    return {
        "key": key,
        "deps": [["delivery", name] for name in reads],
        "group_name": "delivery",
        "owners": [OWNER],
        "kinds": {"python", "postgres"},
        "description": description,
        **more,
    }


@cache
def run_funnel() -> dg.AssetsDefinition:
    text = "The runs of the last 30 days: how many were intended, and what became of each."

    @dg.asset(**_measured(FUNNEL, text, "campaign_runs", "channel_outbox"))
    def show_funnel() -> dg.MaterializeResult:
        from kernel.delivery import oversight

        with engine().begin() as connection:
            tenancy.service(connection)
            runs = oversight.funnel(connection, _now() - timedelta(days=30), most=_SHOWN)
            states = oversight.attempts_by_day(connection, _now() - timedelta(days=30))
        return dg.MaterializeResult(
            metadata={
                "runs_shown": len(runs),
                "open": sum(run["open"] for run in runs),
                "unknown": sum(run["unknown"] for run in runs),
                "newest": table(runs, "Nothing was launched in 30 days."),
                "attempts": plots.trend_markdown("attempts", _series(states, "state", "count")),
            }
        )

    return show_funnel


@cache
def latency() -> dg.AssetsDefinition:
    slo = dg.AssetCheckSpec(
        _SLO, asset=LATENCY, description="Of the jobs due in the last day, 99 % began in two minutes."
    )
    text = "How long jobs waited from their time until a worker began, and from there to their end."

    @dg.asset(**_measured(LATENCY, text, "campaign_runs", "job_queue", check_specs=[slo]))
    def show_latency() -> dg.MaterializeResult:
        from kernel.delivery import oversight

        with engine().begin() as connection:
            tenancy.service(connection)
            days = oversight.waits(connection, _now() - timedelta(days=30))
            lately = oversight.waits(connection, _now() - timedelta(days=1))[-1]
        whole = [
            {"day": row["day"], "percentile": name, "seconds": seconds}
            for row in days
            if row["day"] is not None and row["channel"] is None
            for name, seconds in zip(("p50", "p95", "p99"), row["start_seconds"], strict=True)
        ]
        return dg.MaterializeResult(
            metadata={
                "jobs": days[-1]["jobs"],
                "waiting": days[-1]["waiting"],
                "by_day": table([row for row in days if row["day"]], "No job was due in 30 days."),
                "start": plots.trend_markdown("seconds until begun", _series(whole, "percentile", "seconds")),
            },
            check_results=[_within(lately)],
        )

    return show_latency


def _within(lately: dict) -> dg.AssetCheckResult:
    # Nothing due is nothing late; that something is due and nobody begins it shows in the seconds.
    p99 = lately["start_seconds"][2] if lately["jobs"] else 0.0
    return dg.AssetCheckResult(
        check_name=_SLO,
        asset_key=LATENCY,
        passed=p99 <= _START_SECONDS,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"p99_seconds": p99, "jobs": lately["jobs"], "waiting": lately["waiting"]},
    )


@cache
def provider_health() -> dg.AssetsDefinition:
    key = dg.AssetKey(["delivery", "provider_health"])
    text = "Accounts with providers over the last day: outcomes, error classes, unknown rate, last success."

    @dg.asset(**_measured(key, text, "provider_accounts", "attempts"))
    def show_health() -> dg.MaterializeResult:
        from kernel.delivery import oversight

        with engine().begin() as connection:
            tenancy.service(connection)
            accounts = oversight.health(connection, _now() - timedelta(days=1))
        attempts = sum(account["attempts"] for account in accounts)
        unknown = sum(account["unknown"] for account in accounts)
        return dg.MaterializeResult(
            metadata={
                "accounts": len(accounts),
                "attempts": attempts,
                "unknown_rate_pct": 100 * unknown / attempts if attempts else 0.0,
                "by_account": table(accounts[:_SHOWN], "No tenant has an account with a provider."),
            }
        )

    return show_health


@cache
def rules() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name="rules_of_deliveries",
        specs=[
            dg.AssetCheckSpec(name, asset=FUNNEL, description=text, blocking=True)
            for name, text in INVARIANTS.items()
        ],
    )
    def check_rules(config: Scope) -> Iterator[dg.AssetCheckResult]:
        from kernel.delivery import invariants

        since = None if config.everything else _now() - LATELY
        broken = defaultdict(list)
        with engine().begin() as connection:
            for violation in invariants.check(connection, since=since):
                broken[violation.invariant].append(violation)
        for name in INVARIANTS:
            rows = [{"tenant": each.tenant_id, "row": each.id, "why": each.why} for each in broken[name]]
            metadata = {
                "looked_at": f"runs that go on or changed since {since:%Y-%m-%d %H:%M}"
                if since
                else "all runs",
                "violations_shown": len(rows),
                "first": table(rows[:_SHOWN], "None."),
            }
            yield dg.AssetCheckResult(check_name=name, asset_key=FUNNEL, passed=not rows, metadata=metadata)

    return check_rules


def _series(rows: list[dict], label: str, value: str) -> dict:
    import pandas as pd

    found = defaultdict(dict)
    for row in rows:
        found[row[label]][row["day"]] = row[value]
    return {name: pd.Series(days).sort_index() for name, days in found.items()}


review_deliveries = dg.define_asset_job(
    "review_deliveries",
    selection=dg.AssetSelection.assets(FUNNEL, LATENCY, ["delivery", "provider_health"]),
    description="Measures deliveries, and checks the rules that nothing may have broken.",
)
verify_deliveries = dg.define_asset_job(
    "verify_deliveries",
    selection=dg.AssetSelection.checks(*(dg.AssetCheckKey(FUNNEL, name) for name in INVARIANTS)),
    config={"ops": {"rules_of_deliveries": {"config": {"everything": True}}}},
    description="Checks the rules that nothing may have broken on everything that was ever sent.",
)
# At a quarter past, when the daily runs have their minute.
review_deliveries_hourly = dg.ScheduleDefinition(
    job=review_deliveries,
    description="Looks each hour at what changed of deliveries in two days: no invariant may be broken.",
    cron_schedule="15 * * * *",
    name="review_deliveries_hourly",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
# At the deadest hour, after the night's metrics and before people come.
verify_deliveries_nightly = dg.ScheduleDefinition(
    job=verify_deliveries,
    description="Looks each night at all deliveries there ever were: no invariant may be broken.",
    cron_schedule="30 3 * * *",
    name="verify_deliveries_nightly",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        assets=[*tables(), run_funnel(), latency(), provider_health()],
        asset_checks=[rules()],
        schedules=[review_deliveries_hourly, verify_deliveries_nightly],
    )
