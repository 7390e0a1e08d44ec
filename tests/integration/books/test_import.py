"""Importing statements: each line of an account is stored once, nothing is lost, and a file is imported whole or not at all."""

from __future__ import annotations

import os
import signal
import threading
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books.ingest.importing import import_file
from kernel.books.ingest.mapping import Mapping
from kernel.books.ingest.statement import StatementError
from kernel.errors import RefusedError
from models.books import books_audit
from tests.integration.books import bookkeeping
from tests.integration.books.bookkeeping import AT, Books
from tests.integration.books.importing import Importer, importer

STATEMENTS = Path(__file__).resolve().parents[2] / "fakes" / "statements"
COFFEE = "2026-01-05,Coffee,-4.50"


@pytest.fixture
def checking(books: Books, tmp_path: Path) -> Importer:
    return importer(books, tmp_path)


def test_the_same_bytes_again_change_nothing(checking: Importer) -> None:
    path = checking.path("Date,Description,Amount\n2026-01-05,Coffee,-4.50\n2026-01-05,Tea,0\n")
    first = checking.file(path)
    assert (first.is_new, first.new, first.known, first.rejected) == (True, 1, 0, 1)
    before = checking.stored(), checking.rows("select * from books.books_audit")
    again = checking.file(path)
    assert (again.is_new, again.file_id, again.new, again.known, again.rejected) == (
        False,
        first.file_id,
        0,
        1,
        1,
    )
    assert (checking.stored(), checking.rows("select * from books.books_audit")) == before


DMY, MDY = Mapping(date_order="dmy"), Mapping(date_order="mdy")
EITHER = "Date,Description,Amount\n03/04/2026,Rent,-100.00\n05/05/2026,Coffee,-5.00\n"


def set_aside(into: Importer, *descriptions: str) -> None:
    for each in descriptions:
        into.books.pinned(
            "insert into books.set_aside_lines (tenant_id, txn_id, why, set_aside_by, set_aside_at)"
            " select tenant_id, id, 'read wrongly', 'ann', created_at from books.transactions"
            " where tenant_id = :tenant_id and bank_account_id = :account_id and description = :description",
            account_id=into.account_id, description=each,
        )  # fmt: skip


def test_bytes_that_were_read_otherwise_are_refused_as_long_as_lines_of_that_reading_stand(
    checking: Importer,
) -> None:
    path = checking.path(EITHER)
    assert checking.file(path, mapping=MDY).new == 2
    before = checking.stored(), checking.rows("select * from books.statement_files")
    told = (
        r"was imported on 2026-06-01 and read otherwise.*: set those aside first .*"
        rf"set-aside --file {path.name} --account {checking.account_id}\) and import it again"
    )
    with pytest.raises(StatementError, match=told):
        checking.file(path, mapping=DMY)
    assert (checking.stored(), checking.rows("select * from books.statement_files")) == before
    set_aside(checking, "Rent")
    made = checking.file(path, mapping=DMY)
    assert (made.new, made.known, made.problems) == (1, 1, ())
    assert checking.file(path, mapping=DMY).is_new is False


def test_lines_that_two_readings_of_a_file_tell_and_that_are_set_aside_are_named(checking: Importer) -> None:
    path = checking.path(EITHER)
    checking.file(path, mapping=MDY)
    set_aside(checking, "Rent", "Coffee")
    made = checking.file(path, mapping=DMY)
    (problem,) = made.problems
    assert (made.new, made.known) == (1, 1)
    assert problem.message.startswith("1 of its lines were set aside before and stay so, ")


def test_a_reading_that_tells_all_lines_again_and_some_that_were_rejected_is_taken(
    checking: Importer,
) -> None:
    path = checking.path("Date,Text,Billed,Original\n2026-01-05,Rent,-1.50,\n2026-01-06,Coffee,,-2.00\n")
    columns: dict[str, Any] = {"post_date": "Date", "description": "Text", "amount": "Billed"}
    first = checking.file(path, mapping=Mapping(columns=columns))
    assert (first.new, first.rejected) == (1, 1)
    repaired = checking.file(path, mapping=Mapping(columns=columns | {"amount": ["Billed", "Original"]}))
    assert (repaired.new, repaired.known, repaired.problems) == (1, 1, ())


def test_a_line_that_other_bytes_told_of_too_stands_by_those(checking: Importer) -> None:
    path = checking.path(EITHER)
    checking.file(path, mapping=MDY)
    checking.lines("2026-03-04,Rent,-100.00")
    assert checking.file(path, mapping=DMY).new == 1


def test_a_coffee_that_was_bought_twice_stays_two(checking: Importer) -> None:
    assert checking.lines(COFFEE, COFFEE).new == 2
    assert checking.lines(COFFEE, COFFEE, "2026-01-06,Tea,-1.00").known == 2
    assert checking.lines(COFFEE, COFFEE, COFFEE).new == 1
    assert [row[-1] for row in sorted(checking.stored(), key=lambda row: row[-1])] == [1, 1, 2, 3]


def test_overlapping_statements_tell_of_a_line_again(checking: Importer) -> None:
    checking.lines(COFFEE, "2026-01-06,Tea,-1.00")
    second = checking.lines("2026-01-06,TEA,-1.00", "2026-01-07,Milk,-2.00")
    assert (second.new, second.known, second.suspected) == (1, 1, 0)
    (again,) = checking.rows("select file_id, line_no from books.sightings")
    assert (again.file_id, again.line_no) == (second.file_id, 2)


def test_the_banks_own_id_makes_a_line_one_and_another_amount_suspicious(checking: Importer) -> None:
    told = "Date,Description,Amount,Transaction ID\n"
    first = checking.text(
        f"{told}2026-01-05,Coffee,-4.50,a\n2026-01-05,Coffee,-4.50,a\n2026-01-05,Coffee,-5.50,a\n"
    )
    assert (first.new, first.known, first.suspected) == (2, 1, 1)
    assert checking.text(f"{told}2026-01-09,Coffee,-6.50,a\n2026-01-05,Coffee,-4.50,b\n").suspected == 1
    suspects = checking.rows(
        "select fresh.amount_minor, earlier.amount_minor from books.transactions as fresh"
        " inner join books.transactions as earlier on earlier.id = fresh.suspected_of order by 1"
    )
    assert [tuple(row) for row in suspects] == [(-650, -450), (-550, -450)]


@pytest.mark.parametrize(
    ("line", "suspected"),
    [
        ("2026-01-05,COFFEE SHOP #12,-4.50", 1),
        ("2026-01-06,Coffee shop,-4.50", 1),
        ("2026-01-07,Coffee shop,-4.50", 0),
        ("2026-01-05,Coffee shop #12,-4.51", 0),
        ("2026-01-05,Teahouse,-4.50", 0),
    ],
)
def test_a_line_that_another_file_told_otherwise_is_kept_and_suspected(
    checking: Importer, line: str, suspected: int
) -> None:
    checking.lines("2026-01-05,Coffee shop,-4.50")
    found = checking.lines(line)
    assert (found.new, found.suspected) == (1, suspected)


def test_a_statement_that_tells_of_both_says_that_they_are_two(checking: Importer) -> None:
    checking.lines("2026-01-05,Coffee shop,-4.50")
    both = checking.lines("2026-01-05,Coffee shop,-4.50", "2026-01-05,Coffee shop again,-4.50")
    assert (both.new, both.suspected) == (1, 0)


@pytest.mark.parametrize(("card", "suspected"), [("1111", 1), ("", 1), ("2222", 0)])
def test_what_two_cards_bought_alike_is_not_suspected(checking: Importer, card: str, suspected: int) -> None:
    told = "Date,Description,Amount,Card\n"
    checking.text(f"{told}2026-01-05,Coffee shop,-4.50,1111\n")
    assert checking.text(f"{told}2026-01-06,Coffee shop,-4.50,{card}\n").suspected == suspected


def test_a_dry_run_tells_all_and_keeps_nothing(checking: Importer) -> None:
    found = checking.lines(COFFEE, "2026-02-30,Never,-1.00", dry_run=True)
    assert (found.new, found.rejected, found.rejects[0].number) == (1, 1, 3)
    assert checking.stored() == checking.rows("select * from books.statement_files") == []
    assert checking.lines(COFFEE).new == 1


def test_rejected_lines_are_kept_as_they_came(checking: Importer) -> None:
    checking.lines(COFFEE, '2026-02-30,"=HYPERLINK(""x"")",-1.00', "2026-01-05,zero,0.00")
    kept = checking.rows("select line_no, code, reason, raw from books.rejected_lines order by line_no")
    assert [tuple(row) for row in kept] == [
        (3, "422_INVALID_DATA_FORMAT", "'2026-02-30' is no date of this calendar", '2026-02-30,"=HYPERLINK(""x"")",-1.00'),
        (4, "422_INVALID_DATA_FORMAT", "its amount is zero: nothing moved", "2026-01-05,zero,0.00"),
    ]  # fmt: skip


def test_what_means_something_to_the_database_is_stored_as_it_stands(checking: Importer) -> None:
    told = ["\\N", "\\.", "C:\\new\\table", "\\", "NULL", "null", "a\x01b"]
    path = checking.path(
        "Date,Description,Amount,Note\n"
        + "".join(f'2026-01-05,{text},-1.00,"{text} ""x"""\n' for text in told)
        + '2026-01-05,"a\tb\\\nc",never,\n'
    )
    assert checking.file(path).new == len(told)
    stored = checking.rows(
        "select description, raw ->> 'Note' as note from books.transactions order by first_line_no"
    )
    assert [tuple(row) for row in stored] == [(text, f'{text} "x"') for text in told]
    (rejected,) = checking.rows("select raw from books.rejected_lines")
    assert rejected.raw == '2026-01-05,"a\tb\\\nc",never,'


def test_a_file_that_cannot_be_read_leaves_nothing(checking: Importer) -> None:
    with pytest.raises(StatementError):
        checking.lines("01/02/2026,Coffee,-4.50")
    assert checking.rows("select * from books.statement_files") == []


def test_a_statement_that_does_not_add_up_says_by_how_much(checking: Importer) -> None:
    text = "Date,Description,Amount,Balance\n2026-01-05,a,-1.00,99.00\n2026-01-06,b,-2.00,90.00\n"
    found = checking.text(text)
    assert (found.tie_out, found.off) == ("off", Decimal("-7.00"))
    assert [problem.code for problem in found.problems] == ["422_RECONCILIATION_FAILED"]
    (kept,) = checking.rows(
        "select opening_minor, closing_minor, tie_out, off_minor from books.statement_files"
    )
    assert tuple(kept) == (10_000, 9_000, "off", -700)


@pytest.mark.parametrize(
    ("name", "currency", "new", "rejected", "tie_out"),
    [
        ("checking.ofx", "USD", 4, 3, "unknown"),
        ("giro.xml", "EUR", 2, 1, "tied"),
        ("giro.mt940", "EUR", 4, 1, "tied"),
    ],
)
def test_every_format_is_imported(
    books: Books, tmp_path: Path, name: str, currency: str, new: int, rejected: int, tie_out: str
) -> None:
    into = importer(books, tmp_path, currency=currency)
    found = into.file(STATEMENTS / name)
    assert (found.new, found.known, found.rejected, found.tie_out) == (new, 0, rejected, tie_out)
    path = tmp_path / name
    path.write_bytes((STATEMENTS / name).read_bytes() + b"\n")
    assert (into.file(path).new, into.file(path).is_new) == (0, False)


def test_accounts_of_one_tenant_and_of_another_have_their_own_lines(
    books_engine: sa.Engine, checking: Importer, tmp_path: Path
) -> None:
    savings = importer(checking.books, tmp_path)
    stranger = importer(bookkeeping.books(books_engine), tmp_path)
    assert [each.lines(COFFEE).new for each in (checking, savings, stranger)] == [1, 1, 1]
    assert checking.stored() != savings.stored()
    with pytest.raises(RefusedError, match="has no bank account"):
        import_file(
            books_engine,
            checking.books.tenant_id,
            stranger.account_id,
            checking.path("x"),
            actor="ann",
            at=AT,
        )


def test_who_imported_what_stands_in_the_audit(checking: Importer) -> None:
    checking.lines(COFFEE)
    (event,) = checking.rows("select actor, event, detail ->> 'new_count' as new from books.books_audit")
    assert tuple(event) == ("ann", "statement_imported", "1")
    with checking.books.engine.begin() as connection:
        tenancy.service(connection, checking.books.tenant_id)
        assert chain.broken(connection, books_audit, checking.books.tenant_id) is None


def test_of_imports_at_the_same_time_each_line_is_stored_once(checking: Importer) -> None:
    days = [f"2026-01-{day:02},Coffee,-4.50" for day in range(1, 29)]
    paths = [
        checking.path("Date,Description,Amount\n" + "\n".join(days[at : at + 14]) + "\n")
        for at in (0, 4, 8, 14, 0)
    ]
    start, new = threading.Barrier(len(paths)), []

    def work(path: Path) -> None:
        start.wait()
        new.append(checking.file(path).new)

    threads = [threading.Thread(target=work, args=[path]) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(new) == len(checking.stored()) == 28


def test_an_import_that_is_killed_at_any_step_leaves_nothing(checking: Importer) -> None:
    """A step is a statement of its transaction; the lines and the rejected ones are copied between two of them."""
    path = checking.path("Date,Description,Amount,Txn ID\n2026-01-05,Coffee,-4.50,1\n2026-01-05,Tea,0,2\n")

    def dies_at(step: int) -> bool:
        child = os.fork()
        if not child:
            engine, steps = sa.create_engine(checking.books.engine.url), count(1)

            @sa.event.listens_for(engine, "after_cursor_execute")
            def _die(*_: object) -> None:
                if next(steps) == step:
                    os.kill(os.getpid(), signal.SIGKILL)

            import_file(engine, checking.books.tenant_id, checking.account_id, path, actor="ann", at=AT)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    tables = ("statement_files", "transactions", "sightings", "rejected_lines", "books_audit")
    for step in count(1):
        if not dies_at(step):
            break
        # Whoever is dead holds the account until the server notices.
        assert checking.lines("2026-03-01,Wait,-1.00", dry_run=True).new == 1
        assert [table for table in tables if checking.rows(f"select 1 from books.{table}")] == [], step
    assert step > 10
    assert len(checking.stored()) == len(checking.rows("select 1 from books.rejected_lines")) == 1


def test_a_line_of_a_day_that_has_not_come_is_put_aside(checking: Importer) -> None:
    made = checking.lines("2026-06-07,Announced,-1.00", "2029-01-01,Mistyped,-2.00")
    assert (made.new, made.rejected) == (1, 1)
    (rejected,) = made.rejects
    assert rejected.reason == "is dated 2029-01-01, and that day has not come"
    assert "Mistyped -2.00 USD" in rejected.raw


def test_the_same_file_in_another_account_is_told(books: Books, tmp_path: Path, checking: Importer) -> None:
    path = checking.path("Date,Description,Amount\n2026-01-05,Coffee,-4.50\n")
    assert checking.file(path).problems == ()
    other = importer(books, tmp_path, kind="card", currency="USD")
    (problem,) = other.file(path, mapping=Mapping(out_is="negative")).problems
    assert problem.message.startswith("the same file was imported into ")
