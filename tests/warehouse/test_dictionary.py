"""The dictionary is the contract: every id is produced, described and pinned by a unit test, and nothing else is."""

from __future__ import annotations

import csv
import re

import pytest

from dagster_project.lib import dbt
from kernel.landing.contracts import FACTS
from tests.warehouse.build import PROJECT

REQUIRED = (
    "metric_id",
    "title",
    "unit",
    "direction",
    "domain",
    "owner",
    "kind",
    "window_days",
    "null_rule",
    "formula",
)


@pytest.fixture(scope="module")
def definitions() -> dict[str, dict[str, str]]:
    with (PROJECT / "seeds" / "metric_definitions.csv").open(encoding="utf-8", newline="") as file:
        return {row["metric_id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def manifest() -> dict:
    return dbt.manifest()


def test_the_dictionary_holds_the_46_frozen_ids_and_the_agreed_additions(definitions) -> None:
    added = {
        "bookings_count", "opps_created", "data_coverage_pct", "cpl_paid", "impressions_paid", "clicks_paid",
        "cost_per_opportunity_paid", "ltv_avg", "churn_rate", "burn_rate",
    }  # fmt: skip
    assert added <= set(definitions)
    assert len(set(definitions) - added) == 46


def test_every_definition_is_complete(definitions) -> None:
    assert [(name, field) for name, row in definitions.items() for field in REQUIRED if not row[field]] == []
    sources = {fact for row in definitions.values() for fact in row["sources"].split(";")}
    assert sources - {"all"} <= set(FACTS)


def test_every_id_has_a_unit_test_that_names_it(definitions, manifest) -> None:
    named = {
        metric
        for test in manifest["unit_tests"].values()
        for metric in (test["config"].get("meta") or {}).get("metrics", [])
    }
    assert sorted(set(definitions) - named) == []
    assert sorted(named - set(definitions)) == []


def test_every_id_is_produced_by_the_family_of_its_domain(definitions) -> None:
    folder = PROJECT / "models" / "intermediate"
    produced = {
        family: set(
            re.findall(
                r"'([a-z_0-9]+)'", (folder / family / f"metrics_{family}.sql").read_text(encoding="utf-8")
            )
        )
        for family in {row["domain"] for row in definitions.values()}
    }
    assert [name for name, row in definitions.items() if name not in produced[row["domain"]]] == []


def test_every_alias_stands_for_an_id(definitions) -> None:
    with (PROJECT / "seeds" / "metric_aliases.csv").open(encoding="utf-8", newline="") as file:
        aliases = {row["alias"]: row["metric_id"] for row in csv.DictReader(file)}
    assert set(aliases.values()) <= set(definitions)
    assert not set(aliases) & set(definitions)


def test_every_model_and_column_of_a_mart_is_described(manifest) -> None:
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    assert [node["name"] for node in models if not node["description"]] == []
    marts = [node for node in models if node["fqn"][1] == "marts"]
    assert [
        (node["name"], name)
        for node in marts
        for name, column in node["columns"].items()
        if not column["description"]
    ] == []
