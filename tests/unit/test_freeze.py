"""Frozen components change with their specification, version and changelog line, or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kernel.errors import RefusedError
from quality.certification import freeze

REPOSITORY = Path(__file__).parents[2]
NAME = "metrics"
COMPONENT = next(component for component in freeze.COMPONENTS if component.name == NAME)


@pytest.mark.parametrize("name", [component.name for component in freeze.COMPONENTS])
def test_what_is_frozen_here_is_what_was_agreed(name: str):
    (state,) = (each for each in freeze.states(REPOSITORY) if each.component.name == name)
    assert not state.is_changed, f"{name} differs from {state.version}: see docs/specs/change-process.md"


def test_every_migration_that_makes_a_function_of_delivery_is_frozen():
    made = {
        str(file.relative_to(REPOSITORY))
        for file in (REPOSITORY / "models/migrations/versions").glob("*.py")
        if re.search(r"(create|replace|alter|drop) function delivery\.", file.read_text(encoding="utf-8"))
    }
    (component,) = (each for each in freeze.COMPONENTS if each.name == "delivery")
    assert made
    assert made <= {*component.files}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository in which every component was agreed at 1.0."""
    lines = []
    for component in freeze.COMPONENTS:
        for pattern in (*component.files, component.specification):
            file = tmp_path / pattern.replace("*", "one")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text('"""Says something."""\nRULE = 1  # why\n' if file.suffix == ".py" else "one\n")
        lines.append(f"* frozen {component.name} 1.0")
    (tmp_path / "CHANGELOG.md").write_text("\n".join(lines))
    for component in freeze.COMPONENTS:
        freeze.record(tmp_path, component.name, "1.0")
    return tmp_path


def _change(root: Path, specification: bool = True, changelog: str = "1.1") -> None:
    (root / COMPONENT.files[0]).write_text("two\n")
    if specification:
        (root / COMPONENT.specification).write_text("describes two\n")
    if changelog:
        with (root / "CHANGELOG.md").open("a") as file:
            file.write(f"\n* frozen {NAME} {changelog}: two")


def test_components_as_agreed_pass(root: Path) -> None:
    assert {state.version for state in freeze.check(root)} == {"1.0"}


def test_a_changed_component_fails_and_is_told_what_it_needs(root: Path) -> None:
    _change(root, specification=False, changelog="")
    with pytest.raises(RefusedError, match=r"metrics changed: update docs/specs/canonical-metrics\.md"):
        freeze.check(root)


def test_comments_docstrings_and_layout_may_change_freely(root: Path) -> None:
    (root / "models/rls.py").write_text('"""Says more."""\n\n# because\nRULE = (\n    1\n)\n')
    freeze.check(root)


def test_a_changed_rule_is_seen(root: Path) -> None:
    (root / "models/rls.py").write_text("RULE = 2\n")
    with pytest.raises(RefusedError, match="spine changed"):
        freeze.check(root)


def test_a_change_that_follows_the_rule_is_agreed(root: Path) -> None:
    _change(root)
    assert freeze.record(root, NAME, "1.1").version == "1.1"
    freeze.check(root)


@pytest.mark.parametrize(
    ("version", "specification", "changelog", "said"),
    [
        ("1.0", True, "1.0", "is not higher"),
        ("1.1", False, "1.1", "is as it was"),
        ("1.1", True, "", "has no line"),
        ("next", True, "1.1", "is not like"),
    ],
)
def test_a_change_that_breaks_the_rule_is_refused(
    root: Path, version: str, specification: bool, changelog: str, said: str
) -> None:
    _change(root, specification, changelog)
    with pytest.raises(RefusedError, match=said):
        freeze.record(root, NAME, version)


def test_an_unknown_component_is_refused(root: Path) -> None:
    with pytest.raises(RefusedError, match="is no frozen component"):
        freeze.record(root, "weather", "1.1")
