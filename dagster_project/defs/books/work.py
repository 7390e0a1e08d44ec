"""The night of the books: statements come in, lines are decided, booked, reconciled and handed out; and the files that
arrive by day.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import dagster as dg
from pydantic import Field

from dagster_project.database import engine
from dagster_project.defs.books.shared import (
    SHOWN,
    by_tenant,
    each_tenant,
    finished,
    key,
    now,
    of_books,
    tables,
)
from dagster_project.lib.busy import is_busy
from dagster_project.lib.tables import table
from dagster_project.settings import settings
from kernel.tenancy import Tenant

TRANSACTIONS = key("transactions")
REPORT = key("shadow_report")
JOURNAL = key("journal_entries")


class Period(dg.Config):
    period: str = Field("30d", description="7d, 30d, 90d, 180d or 365d, up to today.")


class Targets(dg.Config):
    targets: list[str] = Field(["qbo_csv"], description="qbo_csv, xero_csv or beancount.")


@cache
def transactions() -> dg.AssetsDefinition:
    text = "Bank lines, each once, however many statements tell of it. Statements come from the inbox."

    taken = dg.AssetCheckSpec(
        "every_statement_was_taken", asset=TRANSACTIONS,
        description="Each statement of the inbox was imported, or refused for what it says: none failed otherwise.",
    )  # fmt: skip

    @dg.asset(**of_books("transactions", text, ["statement_files"], checks=[taken]))
    def import_statements(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        told, failed = _take(context)
        check = dg.AssetCheckResult(
            check_name=taken.name,
            asset_key=TRANSACTIONS,
            passed=not failed,
            metadata={"failed": failed[:SHOWN]},
        )
        return dg.MaterializeResult(metadata=told, check_results=[check])

    return import_statements


@cache
def llm_answers() -> dg.AssetsDefinition:
    text = "What a language model says of lines that neither a rule nor a person's answer knows, each vendor asked about once."

    @dg.asset(**by_tenant("llm_answers", text, ["transactions", "rules", "labels", "accounts"]))
    def ask(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from dagster_project.lib import books
        from kernel.books.llm_asking import Batch

        batch = Batch(engine(), settings().labeller(), settings().llm_limits, now)

        def step(tenant: Tenant) -> dict[str, Any] | None:
            made = batch.ask(tenant.id)
            if made and made.why:
                context.log.warning(f"{made.left} lines of {tenant.slug} are left: {made.why}")
            return made and books.asked(made)

        return finished("llm_answers", *each_tenant(step), empty="Nobody was asked.")

    return ask


@cache
def decisions() -> dg.AssetsDefinition:
    text = "What the machine proposes for each open line, how sure it is, and which gates hold: a log that nobody changes."
    reads = ["transactions", "calibration", "model", "rules", "accounts", "llm_answers"]

    @dg.asset(**by_tenant("decisions", text, reads))
    def decide(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from ml import deciding

        def step(tenant: Tenant) -> dict[str, Any]:
            with engine().begin() as connection:
                made = deciding.decide_open(
                    connection, tenant.id, settings().books_models, run_id=context.run_id, at=now(),
                    language_model=settings().llm_model,
                )  # fmt: skip
            return {
                "decided": made.count,
                **made.verdicts,
                "reasons": [f"{n} {why}" for why, n in made.reasons.items()],
            }

        return finished("decisions", *_filled(*each_tenant(step)))

    return decide


@cache
def report() -> dg.AssetsDefinition:
    from quality.books import INVARIANTS

    specs = [
        dg.AssetCheckSpec(name, asset=REPORT, description=claim) for name, (claim, _) in INVARIANTS.items()
    ]
    text = "What would have happened, and how well probabilities held: the figures of each tenant, and whether they agree."

    @dg.asset(**by_tenant("shadow_report", text, ["decisions", "labels"], checks=specs))
    def write_reports(context: dg.AssetExecutionContext, config: Period) -> Iterator[dg.MaterializeResult]:
        from ml import deciding, shadow
        from quality import books

        broken: dict[str, list[str]] = {name: [] for name in INVARIANTS}

        def step(tenant: Tenant) -> dict[str, Any]:
            with engine().begin() as connection:
                document = deciding.report(
                    connection, tenant, config.period, at=now(), limits=settings().llm_limits
                )
            shadow.write(document, settings().books_reports / tenant.slug)
            for each in books.check(document):
                if not each.holds:
                    broken[each.name].append(f"{tenant.slug}: {each.told}")
            names = (
                "population_n",
                "auto_post_rate",
                "automation_rate",
                "overall_accuracy",
                "ece_calibrated",
            )
            return {name: document[name] for name in names}

        rows, failures = each_tenant(step)
        checks = [
            dg.AssetCheckResult(
                check_name=name, asset_key=REPORT, passed=not found, severity=dg.AssetCheckSeverity.ERROR,
                metadata={"broken": found[:SHOWN]},
            )
            for name, found in broken.items()
        ]  # fmt: skip
        yield finished("shadow_report", rows, failures, *checks)

    return write_reports


@cache
def journal() -> dg.AssetsDefinition:
    text = "Proposals for what was decided; posted by the machine only where a tenant has earned it, and figures agree."

    once = dg.AssetCheckSpec(
        "each_line_is_booked_once", asset=JOURNAL, blocking=True,
        description="No bank line has two entries that stand, as its own or as the other side of a transfer.",
    )  # fmt: skip

    @dg.asset(**by_tenant("journal_entries", text, ["shadow_report"], checks=[once]))
    def book(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        from dagster_project.lib import books
        from kernel.books import journal

        twice: list[str] = []

        def step(tenant: Tenant) -> dict[str, Any]:
            with engine().begin() as connection:
                night = books.book(connection, tenant, at=now())
                twice.extend(f"{tenant.slug}: {line}" for line in journal.booked_twice(connection, tenant.id))
            return {
                "proposed": night.booked.proposed, "posted": night.booked.posted, "stage": night.watched.stage.stage,
                "taken_back": night.watched.demoted_for, "broken": list(night.broken),
                "held_back": [f"{count} {why}" for why, count in night.booked.held_back.items()],
            }  # fmt: skip

        rows, failures = each_tenant(step)
        check = dg.AssetCheckResult(
            check_name=once.name, asset_key=JOURNAL, passed=not twice, metadata={"first": twice[:SHOWN]}
        )
        yield finished("journal_entries", rows, failures, check)

    return book


@cache
def reconciliation() -> dg.AssetsDefinition:
    text = "Which bank lines stand for which posted entries, one to one; what could be several is told and not matched."

    @dg.asset(**by_tenant("reconciliation_matches", text, ["journal_entries", "transactions"]))
    def match(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from dataclasses import asdict

        from kernel.books import people, reconcile

        def step(tenant: Tenant) -> dict[str, Any]:
            with engine().begin() as connection:
                return asdict(reconcile.reconcile(connection, tenant.id, actor=people.PIPELINE, at=now()))

        return finished("reconciliation_matches", *each_tenant(step))

    return match


@cache
def export() -> dg.AssetsDefinition:
    text = "Files of posted entries for accounting systems: each entry goes out once."

    @dg.asset(**by_tenant("export_batches", text, ["journal_entries"]))
    def hand_out(context: dg.AssetExecutionContext, config: Targets) -> dg.MaterializeResult:
        from kernel.books import export

        def step(tenant: Tenant) -> dict[str, Any]:
            told: dict[str, Any] = {}
            for target in config.targets:
                made = export.export(
                    engine(),
                    tenant.id,
                    target,
                    settings().books_exports / tenant.slug,
                    actor="pipeline",
                    at=now(),
                )
                told |= {f"{target}_new": made.new, f"{target}_skipped": made.skipped}
            return told

        return finished("export_batches", *each_tenant(step))

    return hand_out


def _filled(
    rows: list[dict[str, Any]], failures: dict[str, str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows that all have the same columns."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, 0) for name in names} for row in rows], failures


def _take(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> tuple[dict[str, Any], list[str]]:
    """Imports what lies in the inbox: what came of it, and which files failed in a way that says nothing of them.

    Those were put aside, or wait for another run. Whatever becomes of a file, which is one tenant's, the steps behind go
    on for all.
    """
    from kernel.books import inbox
    from kernel.errors import RefusedError

    rows, refused, failed = [], [], []
    for file in inbox.waiting(settings().books_inbox):
        name = inbox.shown(file)
        try:
            made = inbox.take(engine(), file, at=now())
            for problem in made.problems:
                context.log.warning(f"{name}: {problem!s:.500}")
            rows.append(
                {
                    "file": name,
                    "new": made.new,
                    "known": made.known,
                    "rejected": made.rejected,
                    "tie_out": made.tie_out,
                }
            )
        except inbox.UnforeseenError as error:
            failed.append(f"{name} was put aside: {type(error.__cause__).__name__}")
            context.log.error(f"{name} was put aside: {error.__cause__!r:.500}")
        except RefusedError as error:
            refused.append(name)
            context.log.warning(f"{name} was put aside: {error!s:.500}")
        # One that fails does not keep those behind it, which may be others', from being taken.
        except Exception as error:
            failed.append(f"{name} waits for the next run: {type(error).__name__}")
            context.log.error(f"{name} waits for the next run: {type(error).__name__}: {error!s:.500}")
    told = {"files": len(rows), "refused": refused, "of_each": table(rows[:SHOWN], "No statement waited.")}
    return told, failed


keep_books = dg.define_asset_job(
    "keep_books",
    selection=dg.AssetSelection.assets(
        *(key(name) for name in (
            "transactions", "llm_answers", "decisions", "shadow_report", "journal_entries", "reconciliation_matches",
            "export_batches",
        ))
    ),
    description="Imports statements, asks about lines that nobody knows, decides, books, reconciles and exports, for every"
    " tenant that keeps books.",
)  # fmt: skip


@dg.schedule(
    job=keep_books, cron_schedule="30 3 * * *", execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Each night: statements that came, lines that are open.",
)  # fmt: skip
def keep_books_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y-%m-%d}")


@dg.sensor(job=keep_books, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def books_statements(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Statements in the inbox: one run takes all that lie there."""
    from kernel.books import inbox

    files = inbox.waiting(settings().books_inbox)
    if not files or is_busy(context, "keep_books"):
        return dg.SkipReason(f"{len(files)} statements wait")
    return dg.RunRequest(tags={"files": str(len(files))})


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        assets=[
            *tables(),
            transactions(),
            llm_answers(),
            decisions(),
            report(),
            journal(),
            reconciliation(),
            export(),
        ],
        jobs=[keep_books],
        schedules=[keep_books_daily],
        sensors=[books_statements],
    )
