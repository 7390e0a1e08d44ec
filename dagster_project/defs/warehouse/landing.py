"""From landing files to the spine: one asset per fact, loaded by the contract of that fact."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache

import dagster as dg

from dagster_project.database import engine
from dagster_project.lib.checks import check_result
from dagster_project.lib.dbt import OWNER
from dagster_project.lib.freshness import daily_run
from dagster_project.settings import settings
from kernel.landing.contracts import FACTS
from kernel.landing.folder import FolderReport, load_pending
from quality import runner, suites

_BY_COMMAND = {
    "tenants": "Companies whose money side runs here; written by `revenue-os tenant`.",
    "config_versions": "Targets, guardrails and calendar of each tenant; written by `revenue-os tenant`.",
}
_ALL_TAKEN = "every_file_is_accepted"
_RECORDS = {
    "source_coverage": "The business days for which a source has handed over everything it had.",
    "source_watermarks": "The latest hand-over of each source on each day.",
}


@cache
def files() -> list[dg.AssetSpec]:
    """The CSV and Parquet files tenants hand over; nothing here writes them."""
    return [
        dg.AssetSpec(
            ["landing", fact.name],
            description=f"Files of fact `{fact.name}`: {fact.meaning}",
            group_name="landing",
            owners=[OWNER],
            kinds={"csv"},
        )
        for fact in FACTS.values()
    ]


@cache
def configured() -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            ["spine", name], description=text, group_name="spine", owners=[OWNER], kinds={"postgres"}
        )
        for name, text in _BY_COMMAND.items()
    ]


def _key(fact: str) -> dg.AssetKey:
    return dg.AssetKey(["spine", FACTS[fact].table.removeprefix("spine.")])


def _record(name: str) -> dg.AssetKey:
    return dg.AssetKey(["ops", name])


def _loaded(key: dg.AssetKey, facts: list[str], description: str, table: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=[["landing", fact] for fact in facts],
        description=description,
        group_name="spine",
        owners=[OWNER],
        kinds={"python", "postgres"},
        freshness_policy=daily_run(),
        metadata={"dagster/table_name": table},
    )


@cache
def loader() -> dg.AssetsDefinition:
    specs = [_loaded(_key(fact.name), [fact.name], fact.meaning, fact.table) for fact in FACTS.values()]
    specs += [_loaded(_record(name), list(FACTS), text, f"ops.{name}") for name, text in _RECORDS.items()]
    checks = [
        dg.AssetCheckSpec(
            "files_meet_the_contract",
            asset=_key(fact),
            description="A sample of the landed rows meets the landing contract; rows that do not are rejected.",
        )
        for fact in FACTS
    ]
    checks.append(
        dg.AssetCheckSpec(
            _ALL_TAKEN,
            asset=_record("source_coverage"),
            description="Something of every file that waited was accepted; the others are named with the reason.",
        )
    )

    @dg.multi_asset(name="load_landing_files", specs=specs, check_specs=checks, pool="warehouse")
    def load_landing_files(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Loads every file not loaded before; a refused file is named and stops no other."""
        report = load_pending(engine(), settings().landing_dir, now=datetime.now(UTC), log=context.log.info)
        yield from _results(report)
        for name, why in report.refused.items():
            context.log.warning(f"{name} was refused: {why}")

    return load_landing_files


def _results(report: FolderReport) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    for fact, counts in report.facts.items():
        metadata = {
            "files": counts.files,
            "rows_inserted": counts.inserted,
            "rows_updated": counts.updated,
            "rows_rejected": counts.rejected,
            "files_refused": counts.refused,
        }
        yield dg.MaterializeResult(_key(fact), metadata=metadata)
        if counts.files:
            suite = suites.landing(FACTS[fact], list(counts.sample.columns))
            yield check_result("files_meet_the_contract", _key(fact), runner.validate(counts.sample, suite))
        else:
            yield dg.AssetCheckResult(
                check_name="files_meet_the_contract", asset_key=_key(fact), passed=True, metadata={"files": 0}
            )
    for name in _RECORDS:
        yield dg.MaterializeResult(_record(name))
    yield dg.AssetCheckResult(
        check_name=_ALL_TAKEN,
        asset_key=_record("source_coverage"),
        passed=not report.refused,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"files_refused": report.refused},
    )


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[*files(), *configured(), loader()])
