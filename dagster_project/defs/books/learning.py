"""What is learnt from people each week: models, compared before they hold, and the gates that logged predictions prove."""

from collections.abc import Iterator
from datetime import timedelta
from functools import cache

import dagster as dg

from dagster_project.database import engine
from dagster_project.defs.books.shared import SHOWN, by_tenant, finished, key, now, of_books
from dagster_project.lib.tables import table
from dagster_project.settings import settings

CANDIDATE = key("model_candidate")
_PICTURES = 5  # of the first tenants: one is some 30 kB of metadata


@cache
def weeks() -> dg.WeeklyPartitionsDefinition:
    return dg.WeeklyPartitionsDefinition(start_date=settings().partition_start.isoformat(), timezone="UTC")


@cache
def features() -> dg.AssetsDefinition:
    text = "The lines that models of a week may learn from: those whose label was known before it ended."

    @dg.asset(**of_books("features", text, ["transactions", "labels"], partitions_def=weeks()))
    def count_labels(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from ml import frames, learning

        before = context.partition_time_window.end
        rows = []
        with engine().begin() as connection:
            for pool in learning.pools(connection):
                lines = frames.labelled(
                    connection, pool.tenant_ids, since=learning.first_day(before), before=before
                )
                rows.append(
                    {"pool": pool.name or "-", "tenants": len(pool.tenant_ids), "lines": len(lines),
                     "vendors": lines["vendor"].nunique(), "accounts": lines["account"].nunique(),
                     "newest": lines["labelled_at"].max() if len(lines) else None}
                )  # fmt: skip
        return dg.MaterializeResult(
            metadata={
                "lines": sum(row["lines"] for row in rows),
                "of_each": table(rows[:SHOWN], "Nobody keeps books."),
            }
        )

    return count_labels


@cache
def candidate() -> dg.AssetsDefinition:
    compared = dg.AssetCheckSpec(
        "candidates_did_no_worse", asset=CANDIDATE,
        description="Each was compared with the model that holds, on lines that neither had learnt; those that did worse are"
        " refused and change nothing.",
    )  # fmt: skip
    text = "Models trained on the labels of a week's end, beside those that hold."

    @dg.asset(**by_tenant("model_candidate", text, ["features"], checks=[compared], partitions_def=weeks()))
    def train(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        from ml import learning

        before, rows, failed = context.partition_time_window.end, [], {}
        with engine().begin() as connection:
            pools = learning.pools(connection)
        for pool in pools:
            try:
                with engine().begin() as connection:
                    made = learning.train(connection, pool, settings().books_models, before=before, at=now())
            # One pool's failure never stops another's; what it was, the run says in the end.
            except Exception as error:
                failed[pool.name or str(pool.tenant_ids[0])] = f"{type(error).__name__}: {str(error)[:300]}"
                continue
            rows.append(
                {"pool": pool.name or "-", "tenants": len(pool.tenant_ids), "version": made.version,
                 "labels": made.labels, "why_not": list(made.why)}
            )  # fmt: skip
        refused = [row for row in rows if row["version"] and row["why_not"]]
        check = dg.AssetCheckResult(
            check_name=compared.name, asset_key=CANDIDATE, passed=not refused,
            severity=dg.AssetCheckSeverity.WARN, metadata={"refused": table(refused[:SHOWN], "None.")},
        )  # fmt: skip
        yield finished("model_candidate", rows, failed, check)

    return train


@cache
def model() -> dg.AssetsDefinition:
    text = (
        "The model that holds for each tenant: a candidate that did no worse, at once or by way of a canary."
    )

    @dg.asset(**of_books("model", text, ["model_candidate"], partitions_def=weeks()))
    def promote(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from ml import deciding, learning

        rows = []
        with engine().begin() as connection:
            for made in learning.candidates(connection, before=context.partition_time_window.end):
                deciding.promote(connection, made, at=now())
                rows.append(
                    {"pool": made.pool.name or "-", "version": made.version, "holds": made.may_hold,
                     "why_not": list(made.why)}
                )  # fmt: skip
        return dg.MaterializeResult(metadata={"of_each": table(rows[:SHOWN], "No candidate waits.")})

    return promote


@cache
def calibration() -> dg.AssetsDefinition:
    text = "What raw probabilities are worth, and from which on lines may be posted: fitted and certified on predictions that"
    text += " were logged before their labels were known."

    @dg.asset(**of_books("calibration", text, ["model", "labels"]))
    def certify(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from dagster_project.lib.plots import image_markdown
        from ml import gate_records, learning, plots

        rows, pictures, at = [], {}, now()
        with engine().begin() as connection:
            pools = learning.pools(connection)
        for pool in pools:
            with engine().begin() as connection:
                for made in gate_records.gate(connection, pool, at=at):
                    rows.append(gate_records.told(connection, made, settings().books_reports, at=at))
                    if len(made.gate.lines) and len(pictures) < _PICTURES:
                        name = rows[-1]["tenant"]
                        pictures[f"reliability_{name}"] = image_markdown(
                            name, plots.reliability(made.gate.lines)
                        )
        return dg.MaterializeResult(
            metadata={"of_each": table(rows[:SHOWN], "Nobody keeps books."), **pictures}
        )

    return certify


learn_books = dg.define_asset_job(
    "learn_books",
    selection=dg.AssetSelection.assets(key("features"), key("model_candidate"), key("model")),
    description="Trains a week's candidates, compares them, and lets those that did no worse hold.",
)
certify_books = dg.define_asset_job(
    "certify_books",
    selection=dg.AssetSelection.assets(key("calibration")),
    description="Fits calibrators and certifies gates on the newest labels.",
)


@dg.schedule(
    job=learn_books, cron_schedule="30 1 * * 1", execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The week before: what people said in it is learnt.",
)  # fmt: skip
def learn_books_weekly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    last = weeks().get_last_partition_key(current_time=context.scheduled_execution_time)
    return dg.RunRequest(partition_key=last, run_key=last)


@dg.sensor(job=certify_books, minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.RUNNING)
def books_labels(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Labels that no calibrator has seen: a hundred of a tenant, or any after a day."""
    from dagster_project.lib.busy import is_busy
    from ml import gate_records

    with engine().begin() as connection:
        due = gate_records.unseen(connection, at=now(), many=100, after=timedelta(days=1))
    if not due or is_busy(context, "certify_books"):
        return dg.SkipReason(f"{len(due)} tenants have labels to be seen")
    return dg.RunRequest(tags={"tenants": str(len(due))})


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        assets=[features(), candidate(), model(), calibration()],
        jobs=[learn_books, certify_books],
        schedules=[learn_books_weekly],
        sensors=[books_labels],
    )
