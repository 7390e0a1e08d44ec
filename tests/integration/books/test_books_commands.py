"""The commands of books, typed one after another as an accountant does."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.books import ledger
from kernel.books.ledger import Entry, Line
from models.books_lines import statement_files
from tests.integration.books.deciding import AT, ON, Deciding, deciding

Command = Callable[..., SimpleNamespace]


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return deciding(books_engine)


def posted(books: Deciding, *amounts: str, on: date = ON, memo: str = "") -> list[UUID]:
    """Entries by what they say of checking: out of it for supplies, or into it from sales."""
    made = []
    for amount in map(Decimal, amounts):
        debit, credit = ("6300", "1000") if amount < 0 else ("1000", "4000")
        made.append(
            Entry(on, "USD", (Line(debit, debit=abs(amount)), Line(credit, credit=abs(amount))), memo)
        )
    return books.posted(*made)


def test_a_deposit_is_matched_with_its_sales_and_fee_by_short_ids(command: Command, books: Deciding) -> None:
    (deposit,) = books.lines(9700)
    entries = posted(books, "60.00", "40.00", "-3.00")
    named = [word for each in entries for word in ("--entry", f"JE-{each.hex[:10]}")]
    done = command("match", str(deposit)[:8], *named, "--json")
    assert (done.code, [each["amount"] for each in done.json]) == (0, ["60.00", "40.00", "-3.00"])
    told = command("open-items", "--json").json
    assert (told["lines"], told["entries"]) == ([], [])


def test_several_lines_are_matched_with_one_entry(command: Command, books: Deciding) -> None:
    lines = books.lines(-2000, -1000)
    (entry,) = posted(books, "-30.00")
    done = command("match", *lines, "--entry", entry)
    assert (done.code, "-20.00" in done.text, "-10.00" in done.text) == (0, True, True)


def test_several_lines_and_several_entries_do_not_say_what_belongs_together(
    command: Command, books: Deciding
) -> None:
    lines = books.lines(-2000, -1000)
    one, two = posted(books, "-20.00", "-10.00")
    refused = command("match", *lines, "--entry", one, "--entry", two)
    assert (refused.code, "do not say what belongs together" in refused.text) == (1, True)


def test_what_does_not_add_up_is_not_matched(command: Command, books: Deciding) -> None:
    (deposit,) = books.lines(9700)
    one, two = posted(books, "60.00", "40.00")
    refused = command("match", deposit, "--entry", one, "--entry", two)
    assert (
        refused.code,
        "is of 97.00 USD, and 100.00 is allocated: nothing was matched" in refused.text,
    ) == (1, True)


def test_a_match_is_taken_back_with_a_reason_that_is_kept(command: Command, books: Deciding) -> None:
    (line,) = books.lines(-2000)
    (entry,) = posted(books, "-20.00")
    command("match", line, "--entry", entry)
    assert command("unmatch", str(line)[:8], "--why", "of another customer").code == 0
    told = command("open-items", "--json").json
    assert [each["id"] for each in told["lines"]] == [str(line)]
    (kept,) = books.pinned(
        "select detail ->> 'reason' as why from books.books_audit where event = 'allocation_taken_back'"
    )
    assert kept.why == "of another customer"


def test_an_entry_that_is_not_there_is_named_as_it_was_typed(command: Command, books: Deciding) -> None:
    (line,) = books.lines(-2000)
    assert "no entry begins with JE-00000000" in command("match", line, "--entry", "JE-00000000").text
    assert "'JE-1' is no journal number" in command("match", line, "--entry", "JE-1").text


def test_open_items_are_aged_in_steps_of_thirty_days(command: Command, books: Deciding) -> None:
    day = AT.date()
    for age, minor in ((0, -100), (30, -200), (31, 300), (90, -400), (91, -500)):
        books.lines(minor, on=day - timedelta(days=age))
    told = command("open-items", "--json").json
    assert [(each["age"], each["items"], each["money_in"], each["money_out"]) for each in told["ageing"]] == [
        ("0 to 30 days", 2, "0.00", "3.00"),
        ("31 to 60 days", 1, "3.00", "0.00"),
        ("61 to 90 days", 1, "0.00", "4.00"),
        ("over 90 days", 1, "0.00", "5.00"),
    ]
    assert [each["days"] for each in told["lines"]] == [91, 90, 31, 30, 0]


def test_open_items_say_how_many_there_are(command: Command, books: Deciding) -> None:
    books.lines(-100, -200, -300)
    posted(books, "-7.00")
    text = command("open-items", "--most", 2).text
    assert "Bank lines without an entry: 2 of 3 shown" in text
    assert "Entries without a bank line: 1 of 1 shown" in text


def test_nothing_open_is_said(command: Command) -> None:
    assert "is open on 2026-03-01" in command("open-items").text


def statement(books: Deciding, first: date, last: date, opening: int | None, closing: int | None) -> None:
    row = {
        "tenant_id": books.tenant_id, "bank_account_id": books.bank_ids["1000"], "id": uuid4(), "sha256": uuid4().hex,
        "name": f"{first:%B}.csv", "format": "csv", "size_bytes": 1, "imported_by": "ann", "imported_at": AT,
        "first_date": first, "last_date": last, "opening_minor": opening, "closing_minor": closing,
    }  # fmt: skip
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        connection.execute(statement_files.insert().values(row))


def test_statements_that_agree_end_with_0_and_a_gap_between_them_with_1(
    command: Command, books: Deciding
) -> None:
    statement(books, date(2026, 1, 1), date(2026, 1, 31), 10_000, 10_000)
    assert command("tie-out", "--account", "1000").code == 0
    statement(books, date(2026, 2, 1), date(2026, 2, 28), 12_500, 12_500)
    told = command("tie-out", "--account", "1000")
    assert (told.code, "25.00" in told.text, "1 statement does not agree" in told.text) == (1, True, True)
    (first, second) = command("tie-out", "--account", "1000", "--json").json
    assert (first["gap"], second["gap"], second["unbooked"]) == (None, "25.00", "125.00")


def test_the_ledger_of_a_month_leads_from_the_opening_to_the_closing_balance(
    command: Command, books: Deciding
) -> None:
    posted(books, "-10.00", on=date(2026, 1, 5))
    posted(books, "-1234.56", "-2.50", on=date(2026, 2, 3), memo="chairs")
    told = command("ledger", "2026-02", "--account", "6300", "--json").json
    (account,) = told
    assert (account["code"], account["opening"], account["closing"], len(account["lines"])) == (
        "6300",
        "10.00",
        "1247.06",
        2,
    )
    shown = command("ledger", "2026-02", "--account", "6300", "--most", 1)
    assert "6300 Supplies, USD, 1 of 2 lines shown" in shown.text
    assert "Closing balance 1,237.06 0.00 1,247.06" in shown.text


def test_the_ledger_is_written_to_a_file_with_every_account(
    command: Command, books: Deciding, tmp_path: Path
) -> None:
    posted(books, "-10.00", on=date(2026, 2, 3))
    file = tmp_path / "ledger.csv"
    assert command("ledger", "2026-02", "--to", file).code == 0
    rows = list(csv.DictReader(file.open(encoding="utf-8", newline="")))
    assert [(row["Account"], row["Balance"]) for row in rows] == [("1000", "-10.00"), ("6300", "10.00")]


def test_a_month_without_entries_says_so(command: Command) -> None:
    told = command("ledger", "2026-02")
    assert (told.code, told.text) == (0, "Nothing was posted in 2026-02.")


def test_who_locks_a_month_is_told_how_many_of_its_lines_wait(command: Command, books: Deciding) -> None:
    lines, month = books.lines(-1000, -2000, -3000), f"{ON:%Y-%m}"
    sides = Line("6300", debit=Decimal(10)), Line("1000", credit=Decimal(10))
    books.posted(Entry(ON, "USD", sides, source_txn_id=lines[0]))
    # Approved by one person, and another one is needed.
    waiting = Entry(ON, "USD", sides, source_txn_id=lines[1])
    books.do(ledger.propose, [waiting])
    books.do(ledger.approve, [waiting.id])
    assert command("lock", month, "--json").json["lines_not_posted"] == 2
    command("reopen", month, "--why", "two lines wait")
    assert "reopen" in command("lock", month).text


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("ledger", "2026-13"), "'2026-13' is no month: write it as 2026-01"),
        (("lock", "February"), "'February' is no month: write it as 2026-01"),
        (("lock", "9999-12"), "'9999-12' is no month: write it as 2026-01"),
        (("ledger", "--account", "6301"), "no '6301': did you mean 6300?"),
        (("ledger", "--to", "/nowhere/x.csv"), "/nowhere/x.csv cannot be written"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_sentence(command: Command, words: Any, why: str) -> None:
    refused = command(*words)
    assert (refused.code, why in refused.text) == (1, True), refused.text


def test_a_trial_balance_is_shown_to_the_cent(command: Command, books: Deciding, tmp_path: Path) -> None:
    posted(books, "-12345.67")
    assert "-12,345.67" in command("balance").text
    command("balance", "--to", tmp_path / "trial.csv")
    assert "TOTALS,,,USD,12345.67,12345.67,0.00" in (tmp_path / "trial.csv").read_text(encoding="utf-8")


def test_the_queue_says_how_many_wait_in_all_and_why(command: Command, books: Deciding) -> None:
    books.decide(books.lines(-1000, -2000, -3000))
    books.decide(books.lines(-4000), account="1000")
    told = command("queue", "--most", 2)
    assert "2 of 4 shown" in told.text
    assert "In all: 4 cold_start" in told.text
    found = command("queue", "--most", 1, "--json").json
    assert (found["total"], found["by_reason"], len(found["lines"])) == (4, {"cold_start": 4}, 1)


def test_an_empty_queue_says_so(command: Command) -> None:
    assert "There are no lines of" in command("queue").text
    assert "drawn to be looked at" in command("queue", "--audit").text


def test_a_column_that_no_line_fills_is_not_shown(command: Command, books: Deciding) -> None:
    books.decide(books.lines(-1000), account=None)
    assert "proposed" not in command("queue").text
    books.decide(books.lines(-1000))
    assert "proposed" in command("queue").text


def test_amounts_stand_under_each_other_by_their_last_digit(command: Command, books: Deciding) -> None:
    books.decide(books.lines(-1_262_120, -100))
    large, small = (line for line in command("queue").lines if " USD" in line)
    assert large.index(" USD") == small.index(" USD")


def test_a_title_is_one_line_however_narrow_its_table_is(command: Command, books: Deciding) -> None:
    statement(books, date(2026, 1, 1), date(2026, 1, 31), None, None)
    assert "Statements of 1000, USD" in [
        line.rstrip() for line in command("tie-out", "--account", "1000").lines
    ]


def test_every_table_keeps_within_a_hundred_columns(command: Command, books: Deciding) -> None:
    books.decide(books.lines(-123_456_789, vendor="a vendor of a long name indeed", text="LONG TEXT " * 9))
    posted(books, "-1234567.89", memo="of a long memo " * 9)
    statement(books, date(2026, 1, 1), date(2026, 1, 31), 123_456_789, -123_456_789)
    for words in (
        ("queue",),
        ("open-items",),
        ("tie-out",),
        ("ledger",),
        ("balance",),
        ("settings",),
        ("stage",),
        ("budget",),
    ):
        lines = command(*words).lines
        wide = [line for line in lines if len(line.rstrip()) > 100 and not line.startswith("Error")]
        assert wide == [], words


def test_an_entry_that_waits_for_a_second_person_is_shown_with_who_approved_it(
    command: Command, books: Deciding
) -> None:
    command("settings", "--set", "four_eyes_above=5", "--why", "two people", user="bob")
    (line,) = books.lines(-2000)
    books.decide([line])
    books.book()
    assert command("approve", line).code == 0
    waiting = command("countersign")
    assert ("-20.00 USD" in waiting.text, "ann" in waiting.text) == (True, True)
    (entry,) = command("countersign", "--json").json
    done = command("countersign", f"JE-{UUID(entry['entry_id']).hex[:8]}", "--json", user="bob")
    assert (done.code, done.json["posted"]) == (0, 1)


def test_a_rule_is_named_by_the_beginning_of_its_id(command: Command, books: Deciding) -> None:
    made = command("rules", "propose", "acme", "--account", "6300", "--json").json["rule"]
    assert made[:8] in command("rules", "list").text
    assert command("rules", "reject", made[:8]).code == 0
    assert [each["status"] for each in command("rules", "list", "--json").json] == ["rejected"]


def test_an_export_is_written_again_by_the_beginning_of_its_id(
    command: Command, books: Deciding, tmp_path: Path
) -> None:
    posted(books, "-10.00")
    (file,) = command("export", "--to", tmp_path, "--json").json["files"]
    (made,) = command("export", "--history", "--to", tmp_path, "--json").json
    again = command("export", "--again", made["id"][:8], "--to", tmp_path / "again", "--json").json["file"]
    assert Path(again).read_bytes() == Path(file).read_bytes()


def test_lines_are_set_aside_listed_with_who_did_it_and_taken_back_in(
    command: Command, books: Deciding
) -> None:
    (line,) = books.lines(-1000, text="Stapler")
    assert command("set-aside").text.endswith("is set aside.")
    told = command("set-aside", str(line)[:8], "--why", "told twice", "--json")
    assert told.json == {"lines": 1, "reversed": 0, "rejected": 0, "already": 0}
    listed = command("set-aside").text
    assert all(each in listed for each in (str(line)[:8], "-10.00 USD", "Stapler", "ann", "told twice"))
    assert command("set-aside", line, "--back", "--why", "it was not", "--json").json["taken_back"] == 1
    assert command("set-aside", "--json").json == []


def test_a_statement_is_set_aside_by_its_name_and_account(command: Command, books: Deciding) -> None:
    books.lines(-1000, -2000)
    of_file = ("set-aside", "--file", "a.csv", "--account", "1000")
    told = command(*of_file, "--why", "of another account", "--json").json
    assert (told["lines"], told["told_by_another_statement"]) == (2, 0)
    assert command(*of_file, "--back", "--why", "it was right", "--json").json["taken_back"] == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--file", "a.csv", "--why", "twice"), "--file and its bank account with --account"),
        (("1a2b3c4d", "--file", "a.csv", "--account", "1000"), "name lines, or a statement"),
        (("1a2b3c4d",), "the reason '' cannot be read"),
    ],
)
def test_what_cannot_be_set_aside_is_refused_in_a_sentence(command: Command, words: Any, why: str) -> None:
    told = command("set-aside", *words)
    assert told.code == 1
    assert why in told.text


def test_an_import_names_a_few_lines_that_were_rejected_and_how_many_more(
    command: Command, books: Deciding, tmp_path: Path
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("Date,Description,Amount\n2026-02-01,a,-1.00\n" + "2026-02-01,b,nothing\n" * 7)
    told = command("import", path, "--account", "1000")
    assert (told.text.count("422_INVALID_DATA_FORMAT"), "2 more lines were rejected" in told.text) == (
        5,
        True,
    )
    path.write_text(path.read_text() + "2026-02-01,c,none\n")
    (row,) = command("import", path, "--account", "1000", "--json").json
    assert [each["line"] for each in row["rejects"]] == list(range(3, 11))


def test_a_line_that_was_answered_before_is_told_to_wait_for_nobody_when_it_is_taken_back_in(
    command: Command, books: Deciding
) -> None:
    (line,) = books.lines(-1000)
    command("correct", f"{line}=6400")
    command("set-aside", line, "--why", "twice")
    told = command("set-aside", line, "--back", "--why", "it was not")
    assert "book them with revenue-os books correct" in told.text
