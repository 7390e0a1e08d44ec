"""What the documentation says of usage: every command with its options, every promise with a test. No database."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from dagster_project.settings import Settings
from kernel.usage import keys, watchtower
from models.usage import THRESHOLDS
from tests.unit.test_docs import COMMANDS, ROOT, group, text

CONFORMANCE = ROOT / "docs/specs/usage-conformance.md"
TELLING = ROOT / "docs/how-to/be-told-of-usage.md"
KEYS = ROOT / "docs/reference/usage-keys.md"

# Rows of tests, properties, and corrections, those that are not promised included.
PROMISES = {
    *(f"T{number}" for number in range(1, 18)),
    *(f"P{number}" for number in range(1, 11)),
    *(f"A{number}" for number in range(1, 12)),
    *(f"B{number}" for number in range(1, 10)),
    *(f"C{number}" for number in range(1, 8)),
    *(f"D{number}" for number in range(1, 9)),
    *(f"MC{number}" for number in range(1, 9)),
    *(f"F{number}" for number in range(1, 6)),
    *(f"G{number}" for number in range(1, 6)),
    *(f"H{number}" for number in range(1, 6)),
    *(f"SEC{number}" for number in range(1, 7)),
}


def proofs() -> list[str]:
    return re.findall(r"`([\w/]+\.py::\w+)`", text(CONFORMANCE))


@cache
def functions_in(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef))


def is_there(proof: str) -> bool:
    file, _, name = proof.partition("::")
    path = ROOT / "tests" / file
    return name.startswith("test_") and path.is_file() and name in functions_in(path)


def test_every_test_that_proves_a_promise_exists():
    assert [proof for proof in proofs() if not is_there(proof)] == []


@pytest.mark.parametrize(
    "proof",
    [
        "unit/usage/test_keys.py::test_nothing",
        "unit/usage/test_none.py::test_x",
        "unit/usage/test_keys.py::payload",
    ],
)
def test_a_proof_that_is_none_is_found(proof: str):
    assert not is_there(proof)


def test_every_promise_has_a_proof_or_is_said_not_to_be_one():
    rows = re.findall(r"^\| ([A-Z0-9, ]+) \| [^|]+ \| (.+) \|$", text(CONFORMANCE), flags=re.MULTILINE)
    proven = {name for names, named in rows if "::" in named for name in names.split(", ")}
    refused = set(re.findall(r"^\* ([A-Z]+\d+):", text(CONFORMANCE), flags=re.MULTILINE))
    assert proven | refused == PROMISES


def commands(known: dict[str, Any], before: str = "") -> Iterator[tuple[str, set[str]]]:
    for name, made in known.items():
        if hasattr(made, "commands"):
            yield from commands(made.commands, f"{before}{name} ")
        else:
            options = {max(each.opts, key=len) for each in made.params if each.opts[0].startswith("-")}
            yield f"{before}{name}", options - {"--json", "--help"}


def test_the_reference_lists_every_command_of_usage_with_its_options():
    rows = re.findall(
        r"^\| `usage ([a-z]+(?: [a-z]+)?)[^`]*` \| [^|]* \| ([^|]*)\|", text(COMMANDS), flags=re.MULTILINE
    )
    documented = {command: set(re.findall(r"`(--[a-z-]+)`", options)) for command, options in rows}
    assert documented == dict(commands(group("usage")))


def test_the_setting_of_keys_takes_the_versions_of_the_page_and_no_other():
    told = re.findall(r"^\| (\d) \| [^|]* \| [^|]* \| `(\d)`", text(KEYS), flags=re.MULTILINE)
    taken = get_args(Settings.model_fields["idempotency_version"].annotation)
    assert [setting for _, setting in told] == list(taken)
    assert [int(version) for version, _ in told] == [keys.version(setting) for setting in taken]


def test_thresholds_and_states_of_telling_are_the_codes():
    first, last = ", ".join(map(str, THRESHOLDS[:-1])), THRESHOLDS[-1]
    assert f"passes {first} or {last} %" in text(TELLING)
    assert set(re.findall(r'"check": "(\w+)"', text(TELLING))) <= set(watchtower.CHECKS)
