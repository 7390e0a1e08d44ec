"""The commands by which a person follows and steers automation: trials, costs, settings, stages, trainings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from dagster_project.cli import books_learning
from kernel.books import canary, llm_budget
from ml.learning import Candidate, Pool
from models.books_release import books_stages
from tests.integration.books.deciding import AT, Deciding, deciding

Command = Callable[..., SimpleNamespace]


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return deciding(books_engine)


def test_what_is_on_trial_is_shown_with_what_was_checked_so_far(command: Command, books: Deciding) -> None:
    books.run(canary.start, "model", champion="m1", challenger="m2", by="bob", at=AT)
    text = command("canary").text
    assert ("m2" in text, "5 %" in text, "0 of 120" in text) == (True, True, True)
    (told,) = command("canary", "--json").json
    assert (told["kind"], told["percent"], told["status"], told["checked"]) == ("model", 5, "running", 0)


def test_a_trial_is_reverted_with_a_reason_by_anybody_of_the_tenant(
    command: Command, books: Deciding
) -> None:
    books.run(canary.start, "model", champion="m1", challenger="m2", by="bob", at=AT)
    assert "cannot be read" in command("canary", "--revert", "model").text
    done = command("canary", "--revert", "model", "--why", "it proposes Meals for fuel", user="carl")
    assert (done.code, "reverted" in done.text, "it proposes Meals for fuel" in done.text) == (0, True, True)
    refused = command("canary", "--revert", "model", "--why", "again")
    assert (refused.code, "no model is on trial" in refused.text) == (1, True)


def test_checked_lines_of_a_trial_are_counted(command: Command, books: Deciding) -> None:
    books.known()
    books.certify()
    books.enable(percent=5)
    ids = books.lines(*[-1000] * 40)
    books.decide(ids)
    later = AT + timedelta(hours=1)
    books.said(ids[:30], at=later)
    books.said(ids[30:], "6400", at=later)
    (told,) = command("canary", "--json", at=later).json
    assert told["checked"] >= 30
    assert told["right"] == sum(row.is_right for row in books.pinned(_PASSED))


_PASSED = """
    select labels.account_code = decisions.proposed_account as is_right
    from books.decisions join books.labels using (tenant_id, txn_id)
    where decisions.tenant_id = :tenant_id and (verdict = 'would_post' or is_audited)
"""


def test_what_language_models_cost_is_told_with_its_caps_and_the_fallback(
    command: Command, books: Deciding
) -> None:
    (line,) = books.lines(-1000)
    caps = llm_budget.Caps(Decimal(1), Decimal(50), Decimal(10_000))
    given = {"model": "m", "cache_key": "k", "caps": caps, "at": AT}
    books.run(llm_budget.reserve, line, micros=1_250_000, **given)
    assert "1.25 USD 50.00 USD" in command("budget").text
    books.run(llm_budget.reserve, line, micros=60_000_000, **given)
    (told,) = command("budget", "--json").json
    assert (told["tenant_spend_usd"], told["fallback_active"]) == ("1.25", True)
    assert "tenant budget exceeded" in command("budget").text


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("threshold=1.2", "threshold takes 0.80 to 0.98 or none, not 1.2: nothing was changed"),
        (
            "autopost_requested=maybe",
            "autopost_requested takes true or false, not maybe: nothing was changed",
        ),
        ("coldstart_min_labels=none", "coldstart_min_labels takes 1 to 50, not none: nothing was changed"),
        ("pool=", "pool takes 1 to 64 characters or none, not '': nothing was changed"),
        ("treshold=0.9", "'treshold' is no setting: did you mean threshold?"),
        ("threshold", "'threshold' is no NAME=VALUE: write as threshold=0.92"),
    ],
)
def test_a_setting_that_is_refused_is_told_as_it_was_typed(command: Command, given: str, why: str) -> None:
    refused = command("settings", "--set", given, "--why", "x")
    assert (refused.code, why in refused.text) == (1, True), refused.text
    assert command("settings", "--json").json["version"] == "v0"


def test_p3_asks_for_the_setting_that_requests_it(command: Command, books: Deciding) -> None:
    def setting(table: list[dict[str, Any]]) -> list[tuple[str, bool]]:
        return [
            (each["found"], each["met"]) for each in table if each["asked"] == "setting autopost_requested"
        ]

    for stage in ("P1", "P2"):
        books._insert(
            books_stages,
            number=books._count(books_stages) + 1,
            stage=stage,
            at=AT,
            actor="bob",
            reason="x",
            evidence_hash="0",
        )
    assert setting(command("stage", "--json").json) == [("false", False)]
    command("settings", "--set", "autopost_requested=true", "--why", "we want it")
    assert setting(command("stage", "--json").json) == [("true", True)]


@pytest.mark.parametrize(
    ("made", "active", "told"),
    [
        (("m2", ()), "m2", "it decides from now on: run revenue-os books decide"),
        (("m2", ()), "m1", "it is on trial with a part of the lines: revenue-os books canary shows how it does"),
        (("m2", ("12 labels are new",)), "m1", "it was refused, m1 goes on deciding: 12 labels are new"),
        (("m2", ("12 labels are new",)), None, "it was refused, rules alone decide: 12 labels are new"),
        (("m1", ("12 labels are new",)), "m1", "it was trained before, and goes on"),
        ((None, ("3 labels, 50 are needed",)), None, "nothing was trained: 3 labels, 50 are needed; answer"),
    ],
)  # fmt: skip
def test_a_training_says_what_became_of_it(made: Any, active: str | None, told: str) -> None:
    version, why = made
    candidate = Candidate(Pool(None, (uuid4(),)), version, 100, why=why)
    assert books_learning._outcome(candidate, active).startswith(told)
