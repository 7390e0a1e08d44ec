"""The pages people read are the contracts the loader keeps, the mappings that ship, and the words and defaults of code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kernel.landing import description, reference
from kernel.landing.contracts import FACTS
from kernel.tenancy import Config

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.mark.parametrize("path", reference.PAGES, ids=lambda path: path.name)
def test_a_page_that_is_made_from_code_is_current(path) -> None:
    assert path.read_text(encoding="utf-8") == reference.PAGES[path](), (
        "run python -m kernel.landing.reference"
    )


def test_every_word_a_contract_allows_stands_in_the_vocabulary() -> None:
    page = (DOCS / "vocabulary.md").read_text(encoding="utf-8")
    words = {
        word for fact in FACTS.values() for column in fact.columns for word in column.choices
        if column.name != "size_bucket"
    }  # fmt: skip
    assert sorted(word for word in words if f"`{word}`" not in page) == []


def rows_of(page: str) -> dict[str, list[str]]:
    """The first column of every table to the rest of its row."""
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split(" | ")] for name, rest in lines}


def test_the_configuration_page_has_every_field_with_its_default() -> None:
    told = {name: cells[0].strip("`") for name, cells in rows_of("configuration.md").items()}
    assert told == {name: _shown(value) for name, value in Config().model_dump(mode="json").items()}


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, {}) else str(value)


def test_the_page_of_tenant_yaml_has_every_field() -> None:
    described = description.Description.model_fields
    assert set(described) <= set(rows_of("tenant-yaml.md"))
