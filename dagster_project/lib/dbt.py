"""The dbt project as assets: its manifest, how its nodes are named, and the window each run hands over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject

from dagster_project.database import dbt_environment
from dagster_project.lib.freshness import daily_run
from dagster_project.settings import REPOSITORY, settings

_FOLDER = REPOSITORY / "dbt"
OWNER = "team:data-engineering"
# Folders of models that no night computes: they read no window.
WITHOUT_WINDOW = ("delivery", "usage")
_KEPT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Window:
    """What a dbt run computes: days `first` to `last` (both included) of the tenants, as known at `as_of`.

    `holder` is the session without which it must not go on.
    """

    first: date
    last: date
    as_of: datetime
    run_id: str
    tenant_ids: Sequence[str] = ()
    holder: int | None = None

    def environment(self) -> dict[str, str]:
        end = date.fromordinal(self.last.toordinal() + 1)
        return {
            "DBT_WINDOW_START": self.first.isoformat(),
            "DBT_WINDOW_END": end.isoformat(),
            "DBT_AS_OF": self.as_of.isoformat(),
            "DBT_RUN_ID": self.run_id,
            "DBT_TENANT_IDS": ",".join(self.tenant_ids),
            "DBT_RESTATE_DAYS": str(settings().restate_days),
            "DBT_LOCK_HOLDER": "" if self.holder is None else str(self.holder),
        }


@contextmanager
def exported(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables while dbt is spawned; `--vars` would force a full parse of the project."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@cache
def project() -> DbtProject:
    """The project with a manifest as new as its files."""
    made = DbtProject(project_dir=_FOLDER, profiles_dir=_FOLDER, target_path=settings().home / "dbt")
    if _newest_source() > _modified(made.manifest_path):
        parse(made)
    return made


def parse(made: DbtProject) -> None:
    """Writes the manifest. Parsing reads no database, so any host will do."""
    command = [
        str(Path(sys.executable).with_name("dbt")),
        "parse",
        "--quiet",
        "--target-path",
        str(made.target_path),
    ]
    environment = {**os.environ, "DBT_PG_HOST": "nowhere"}
    done = subprocess.run(command, cwd=_FOLDER, env=environment, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"dbt could not read the project in {_FOLDER.name}/: {done.stdout[-2000:]}")


def _modified(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _newest_source() -> float:
    kinds = ("*.sql", "*.yml", "*.csv")
    folders = ("models", "macros", "seeds", "tests")
    files = [file for folder in folders for kind in kinds for file in (_FOLDER / folder).rglob(kind)]
    return max(_modified(file) for file in [*files, _FOLDER / "dbt_project.yml"])


def resource() -> DbtCliResource:
    return DbtCliResource(project_dir=project(), dbt_executable=str(Path(sys.executable).with_name("dbt")))


@contextmanager
def running(window: Window) -> Iterator[None]:
    """The environment of one dbt invocation: where the database is, which window to build, where its logs go."""
    records = settings().home / "dbt" / "runs"
    _forget_old(records)
    with exported({**dbt_environment(), **window.environment(), "DBT_TARGET_PATH": str(records)}):
        yield


def _forget_old(records: Path) -> None:
    """Every invocation leaves a folder of some megabytes; its results are in the run's record."""
    if records.is_dir():
        for folder in records.iterdir():
            if time.time() - _modified(folder) > _KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


@cache
def manifest() -> dict[str, Any]:
    return json.loads(project().manifest_path.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class NodeResult:
    """How one node of an invocation ended: `status` is dbt's word, `failures` counts a test's rows."""

    node: Mapping[str, Any]
    status: str
    message: str
    failures: int
    seconds: float

    @property
    def succeeded(self) -> bool:
        return self.status in ("success", "pass", "warn")


def invoke(dbt: DbtCliResource, arguments: Sequence[str], log: Callable[[str], None]) -> list[NodeResult]:
    """Runs dbt to its end and gives every node's result, also when some failed.

    Raises DagsterDbtCliRuntimeError when dbt broke off before it ran any node.
    """
    invocation = dbt.cli(list(arguments), raise_on_error=False)
    for event in invocation.stream_raw_events():
        if line := str(event):
            log(line)
    invocation.wait()
    try:
        results = invocation.get_artifact("run_results.json")["results"]
    except FileNotFoundError:
        raise invocation.get_error() or RuntimeError("dbt ended without results") from None
    nodes = {**manifest()["nodes"], **manifest()["unit_tests"]}
    return [
        NodeResult(
            nodes[result["unique_id"]],
            result["status"],
            (result["message"] or "").strip(),
            result["failures"] or 0,
            result["execution_time"],
        )
        for result in results
        if result["unique_id"] in nodes
    ]


def nodes_under(*folders: str) -> list[Mapping[str, Any]]:
    """The models of these folders of dbt/models that a night computes; those of deliveries read no window."""
    return [
        node
        for node in manifest()["nodes"].values()
        if node["resource_type"] == "model"
        and node["fqn"][1] in folders
        and node["fqn"][2] not in WITHOUT_WINDOW
    ]


def tests_of(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The data tests that `dbt build` of these nodes runs."""
    ids = {node["unique_id"] for node in nodes}
    return [
        node
        for node in manifest()["nodes"].values()
        if node["resource_type"] == "test" and ids & set(node["depends_on"]["nodes"])
    ]


def spec(node: Mapping[str, Any]) -> dg.AssetSpec:
    return Translator().get_asset_spec(manifest(), node["unique_id"], project())


class Translator(DagsterDbtTranslator):
    """Keys are [schema or layer, name]; groups are the folders analysts know."""

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = manifest["nodes"].get(unique_id) or manifest["sources"][unique_id]
        return spec.replace_attributes(
            key=_key(node),
            description=node["description"],  # without the SQL that dagster-dbt appends to it
            group_name=_group(node),
            owners=[OWNER],
            kinds={"dbt", "postgres"},
            freshness_policy=daily_run(),
        )


def _key(node: Mapping[str, Any]) -> dg.AssetKey:
    if node["resource_type"] == "source":
        return dg.AssetKey([node["source_name"], node["name"]])
    if node["resource_type"] == "seed":
        return dg.AssetKey(["dictionary", node["name"]])
    layer = node["fqn"][1]
    return dg.AssetKey(["analytics" if layer == "marts" else layer, node["name"]])


def _group(node: Mapping[str, Any]) -> str:
    if node["resource_type"] in ("source", "seed"):
        return {"source": "spine", "seed": "dictionary"}[node["resource_type"]]
    layer, *folders = node["fqn"][1:-1]
    if layer == "staging":
        return layer
    # A mart in a folder of its own is not among the metrics of a night.
    return folders[0] if folders else "metrics"
