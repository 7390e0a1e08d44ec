"""The last gate before anything that decides: the kernel's input frame, and the report of all suites."""

from functools import cache

import dagster as dg

from dagster_project.database import engine
from dagster_project.defs.warehouse.metrics import SNAPSHOTS
from dagster_project.lib.checks import check_result
from dagster_project.lib.dbt import OWNER
from dagster_project.lib.freshness import daily_run
from dagster_project.settings import settings
from kernel import metrics, tenancy
from quality import runner, suites


def _frame_and_suite() -> tuple:
    with engine().begin() as connection:
        tenancy.service(connection)
        return metrics.input_frame(connection), suites.kernel_input(metrics.known_ids(connection))


@cache
def kernel_input_is_fit() -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=SNAPSHOTS, blocking=True, description="What the kernel would read is complete and sane."
    )
    def kernel_input_is_fit() -> dg.AssetCheckResult:
        frame, suite = _frame_and_suite()
        return check_result("kernel_input_is_fit", SNAPSHOTS, runner.validate(frame, suite))

    return kernel_input_is_fit


@cache
def data_docs() -> dg.AssetsDefinition:
    @dg.asset(
        key=["quality", "data_docs"],
        deps=[SNAPSHOTS],
        group_name="metrics",
        owners=[OWNER],
        freshness_policy=daily_run(),
        kinds={"python", "html"},
        description="A browsable report of the suites over what Python consumes.",
    )
    def data_docs() -> dg.MaterializeResult:
        frame, suite = _frame_and_suite()
        page = runner.write_data_docs({"kernel_input": (frame, suite)}, settings().home / "data_docs")
        return dg.MaterializeResult(
            metadata={"dagster/row_count": len(frame), "page": dg.MetadataValue.path(page)}
        )

    return data_docs


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[data_docs()], asset_checks=[kernel_input_is_fit()])
