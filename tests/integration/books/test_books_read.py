"""What people read of the books: why a line waits, what a rule would change, what a filter left; numbers and no literals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.books import promotion
from kernel.books.ledger import Entry, Line
from models.books_lines import transactions
from tests.integration.books.deciding import AT, ON, Deciding, deciding

Command = Callable[..., SimpleNamespace]


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return deciding(books_engine)


def suspect(books: Deciding, line: UUID, other: UUID) -> None:
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        connection.execute(transactions.update().where(transactions.c.id == line).values(suspected_of=other))


# Why a line waits.


def test_each_gate_that_does_not_hold_is_explained_by_its_numbers(command: Command, books: Deciding) -> None:
    books.certify("0.95")
    books.known("6400", times=2)
    (line,) = books.lines(-1000)
    books.decide([line], "6300", 0.9)
    told = command("explain", line).text
    assert "proposed 6300 Supplies" in told
    assert "0.900 calibrated, 0.900 as it was blended; 0.950 is asked for" in told
    assert "cold_start 2 labels of this vendor and direction" in told
    assert "the newest names 6400" in told
    assert "below_threshold 0.900 is less than 0.950" in told


def test_a_gate_that_is_closed_is_explained_by_why(command: Command, books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    assert "below_threshold the gate is closed: nothing is certified yet" in command("explain", line).text


def test_a_line_that_may_be_another_one_is_explained_with_that_one(command: Command, books: Deciding) -> None:
    one, other = books.lines(-1000, -1000)
    suspect(books, other, one)
    books.decide([other])
    assert f"anomaly may be another line told twice: line {str(one)[:8]}" in command("explain", other).text


def test_what_speaks_for_which_account_is_told_with_the_newest_label(
    command: Command, books: Deciding
) -> None:
    (line,) = books.lines(-1000)
    books.decide([line], "6300", 0.9)
    assert command("correct", f"{line}=6400").code == 0
    told = command("explain", line).text
    assert "model 6300 Supplies 0.900, 4000" in told
    assert "label 6400 Meals, by ann on 2026-03-01 10:00 UTC" in told


def test_an_explanation_as_json_has_all_that_was_stored(command: Command, books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.decide([line], "6300", 0.9)
    told = command("explain", line, "--json").json
    assert (told["transaction_id"], told["failures"][0], told["model"]["p"]) == (str(line), "cold_start", 0.9)


# The queue.


def test_a_filter_that_nothing_matches_does_not_say_that_no_line_waits(
    command: Command, books: Deciding
) -> None:
    books.decide(books.lines(-1000, -2000))
    assert "that wait: 2, none of them for imbalance." in command("queue", "--reason", "imbalance").text
    assert "that wait: 2, none of them of vendor 'nobody'." in command("queue", "--vendor", "nobody").text


def test_a_reason_that_is_none_is_refused_with_those_there_are(command: Command) -> None:
    refused = command("queue", "--reason", "cold")
    assert (refused.code, "cold_start, below_threshold, imbalance" in refused.text) == (1, True)


def test_the_queue_says_of_which_bank_account_a_line_is_where_there_are_several(
    command: Command, books: Deciding
) -> None:
    books.decide(books.lines(-1000, code="1010"))
    assert "bank account" in command("queue").text
    (name,) = books.pinned("select name from books.bank_accounts where account_code = '1010'")
    assert name.name in command("queue").text


# What is decided, tried and certified.


def test_what_came_of_deciding_is_told_without_literals(command: Command, books: Deciding) -> None:
    books.lines(-1000, -2000)
    told = command("decide").text
    assert "reasons 2 cold_start" in told
    assert not set("{}[]'") & set(told)


def test_a_trial_of_a_rule_shows_which_lines_it_would_change(command: Command, books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.decide([line], "6400", 0.4)
    given = {"match": "exact_vendor", "pattern": "acme", "account": "6300", "by": "carl", "at": AT}
    rule = books.run(promotion.propose, **given)
    told = command("rules", "try", str(rule)[:8]).text
    assert "Lines that it would change: 1 of 1 shown" in told
    assert f"{str(line)[:8]} {ON} -10.00 USD acme 6400, cold_start 6300, cold_start" in told
    assert "Not enough to promote it: 0 labelled lines, needs 20" in told
    assert not set("{}()") & set(told)


def test_a_precision_is_not_counted_while_no_certificate_holds(command: Command, books: Deciding) -> None:
    books.enable()
    found = {each["asked"]: (each["found"], each["met"]) for each in command("stage", "--json").json}
    untold = ("not counted while no certificate holds", False)
    assert found["labelled decisions at the threshold"] == untold
    assert found["lower 95 % bound of their precision"] == untold


def test_a_stage_that_would_be_left_out_is_named_with_the_one_that_comes_next(
    command: Command, books: Deciding
) -> None:
    refused = command("stage", "--to", "P3", "--why", "we want it", user="bob")
    assert (refused.code, "in P0, from where it goes to P1 alone, and not to P3" in refused.text) == (1, True)


# The ledger and its files.


def test_an_account_without_movement_has_the_columns_of_the_others(command: Command, books: Deciding) -> None:
    lines = (Line("6300", debit=Decimal("10.00")), Line("1000", credit=Decimal("10.00")))
    books.posted(Entry(date(2026, 1, 5), "USD", lines))
    told = command("ledger", "2026-02", "--account", "6300").text
    assert "debit credit balance" in told
    assert "Closing balance 0.00 0.00 10.00" in told


def test_a_trial_balance_ends_with_its_totals(command: Command, books: Deciding) -> None:
    lines = (Line("6300", debit=Decimal("10.00")), Line("1000", credit=Decimal("10.00")))
    books.posted(Entry(ON, "USD", lines))
    assert "TOTALS - - USD 10.00 10.00 0.00" in command("balance").text
    assert [row["code"] for row in command("balance", "--json").json] == ["1000", "6300"]


def test_a_target_that_is_none_is_refused_with_those_there_are(command: Command) -> None:
    refused = command("export", "--target", "quicken")
    assert (refused.code, "use qbo_csv, xero_csv or beancount" in refused.text) == (1, True)


# Statements that come in.


def statement(folder: Path, text: str) -> Path:
    file = folder / "october.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_same_bytes_again_are_told_with_when_they_came(
    command: Command, books: Deciding, tmp_path: Path
) -> None:
    file = statement(tmp_path, "Date,Description,Amount\n2026-02-03,Coffee,-3.50\n")
    given: tuple[Any, ...] = ("import", file, "--account", "1000")
    assert command(*given).code == 0
    again = command(*given, at=AT + timedelta(days=1))
    assert "october.csv: the same bytes were imported before, on 2026-03-01 10:00 UTC" in again.text


def test_a_statement_that_cannot_be_read_is_named(command: Command, books: Deciding, tmp_path: Path) -> None:
    file = statement(tmp_path, "Date,Amount\n2026-02-03,-3.50\n")
    refused = command("import", file, "--account", "1000")
    assert (refused.code, "Error: october.csv: " in refused.text) == (1, True), refused.text
