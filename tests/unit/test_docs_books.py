"""What the documentation says of the books: every command with its options, gates, settings, figures, codes. No database."""

from __future__ import annotations

import re
from dataclasses import astuple
from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args
from uuid import UUID

import pytest

from kernel.books import canary, evidence, llm_budget, onboard, stages
from kernel.books.contract import REASONS
from kernel.books.ingest.statement import Code
from kernel.books.metrics import Facts, Window
from kernel.books.settings import Settings, takes
from ml import certify, confidence, gate_records, learning
from ml.metrics import document
from quality.books import INVARIANTS
from tests.unit.test_docs import COMMANDS, ROOT, group, text
from tests.unit.test_docs_usage import commands

BOOKS = ROOT / "docs/reference/books.md"
IMPORTING = ROOT / "docs/how-to/import-bank-statements.md"
LEARNING = ROOT / "docs/how-to/learn-and-automate-books.md"

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def table(header: str) -> list[list[str]]:
    """The cells of the rows under a header line of the reference."""
    rows = text(BOOKS).split(f"| {header} |")[1].split("\n\n")[0].strip().splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_the_reference_lists_every_command_of_books_with_its_options():
    rows = re.findall(
        r"^\| `books ([a-z-]+(?: [a-z]+)?)[^`]*` \| [^|]* \| ([^|]*)\|", text(COMMANDS), flags=re.MULTILINE
    )
    documented = {command: set(re.findall(r"`(--[a-z-]+)`", options)) for command, options in rows}
    assert documented == dict(commands(group("books")))


def test_the_gates_stand_in_the_order_in_which_they_are_reasons():
    assert [names(row[0])[0] for row in table("Reason | The gate holds when")] == list(REASONS)


def test_every_setting_is_described_with_what_it_is_at_first():
    rows = {names(row[0])[0]: row[1].strip("`") for row in table("Setting | At first | Takes | Means")}
    first = {True: "true", False: "false", None: "none"}
    held = Settings().model_dump()
    assert rows == {
        name: first[value] if value is None or isinstance(value, bool) else str(value)
        for name, value in held.items()
    }


def test_what_every_setting_takes_is_the_codes():
    rows = {names(row[0])[0]: row[2] for row in table("Setting | At first | Takes | Means")}
    assert rows == {name: takes(name) for name in Settings.model_fields}


def test_templates_are_the_codes():
    rows = table("Template | Threshold | Labels | Cap, USD | Asks for P3")
    told = {names(row[0])[0]: row[1:] for row in rows}
    made = {name: [str(each) for each in astuple(given)[2:]] for name, given in onboard.TEMPLATES.items()}
    asks = {name: "yes" if given.autopost_requested else "no" for name, given in onboard.TEMPLATES.items()}
    assert told == {name: [*figures, asks[name]] for name, figures in made.items()}


def test_every_field_of_the_document_is_described_and_no_other():
    budget = llm_budget.Status("2026-01", *[Decimal(0)] * 5, False, None, None)
    nothing = Facts(UUID(int=1), Window.of("30d", NOW), (), 0, 0, 0, 0, Decimal(0), budget)
    made = document(nothing, tenant="acme", threshold=Decimal("0.9"), versions={}, drift={}, at=NOW)
    told = {name for row in table("Field | Is") for name in names(row[0])}
    assert told == set(made)


def test_invariants_claim_what_is_asked():
    rows = {row[0]: row[1] for row in table("Name | Claims that")}
    assert rows == {name: claim for name, (claim, _) in INVARIANTS.items()}


def test_every_code_of_a_refused_statement_is_explained():
    assert set(re.findall(r"`(4\d\d_[A-Z_]+)`", text(IMPORTING))) == set(get_args(Code))


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        (BOOKS, f"{evidence.LEAST_LABELLED} labelled decisions with a calibrated probability, over {evidence.LEAST_DAYS} days"),
        (BOOKS, f"the Brier score at most {evidence.MOST_BRIER}; ECE at most {evidence.MOST_ECE}"),
        (BOOKS, f"{evidence.LEAST_PASSED} labelled decisions at the threshold"),
        (BOOKS, f"a person's approval for {stages.LONGEST_APPROVAL.days} days at most"),
        (BOOKS, f"each step after {canary.LEAST_CHECKED} checked lines"),
        (BOOKS, "{}, {}, {} and {} % of the lines that pass".format(*canary.STEPS)),
        (BOOKS, f"A certificate ends after {gate_records.HOLDS.days} days"),
        (BOOKS, f"no step\ngoes under {certify.FLOOR:.2f}"),
        (BOOKS, f"From {confidence.LEAST_LINES:,} decisions with a later label on"),
        (LEARNING, f"from {learning.LEAST_LABELS} on, of lines of the last {learning.TRAIN_MONTHS} months"),
        (LEARNING, f"A certificate holds for {gate_records.HOLDS.days} days"),
    ],
)  # fmt: skip
def test_a_number_of_the_books_is_the_codes(page, sentence: str):
    assert sentence in text(page)
