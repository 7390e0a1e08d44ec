"""The code location: every definition under defs/, with what holds for all of them."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from dagster_project.lib import dbt
from dagster_project.lib.executor import executor
from dagster_project.settings import settings


@dg.definitions
def defs() -> dg.Definitions:
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    shared = dg.Definitions(resources={"dbt_cli": dbt.resource()}, executor=executor(settings().app_executor))
    return dg.Definitions.merge(found, shared)
