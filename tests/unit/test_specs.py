"""The specifications say what the code does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from quality.certification import specs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository's specifications and dictionary, to be changed by a test."""
    for part in ("docs/specs", "docs/reference", "dbt/seeds"):
        shutil.copytree(ROOT / part, tmp_path / part)
    return tmp_path


def test_every_table_and_schema_is_what_code_and_data_say() -> None:
    assert specs.check(ROOT) == [], "run revenue-os certify specs --write"


def test_a_table_that_differs_is_found_and_brought_up_to_date(copy: Path) -> None:
    file = copy / "docs/specs/action-executor-map.md"
    file.write_text(file.read_text().replace("| pause | yes |", "| pause | - |"))
    assert specs.check(copy) == ["action-executor-map.md"]
    assert specs.write(copy) == ["action-executor-map.md"]
    assert specs.check(copy) == []


def test_a_metric_that_was_redefined_is_found(copy: Path) -> None:
    seed = copy / "dbt/seeds/metric_definitions.csv"
    seed.write_text(seed.read_text().replace("win_rate,Win rate,fraction", "win_rate,Win rate,percent"))
    assert specs.check(copy) == ["canonical-metrics.md"]


def test_prose_is_left_alone(copy: Path) -> None:
    file = copy / "docs/specs/change-process.md"
    before = file.read_text()
    specs.write(copy)
    assert file.read_text() == before
