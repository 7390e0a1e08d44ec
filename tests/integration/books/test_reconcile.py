"""Bank lines and entries in a database: what was made of a line, what people say, and whether statements tie out."""

from __future__ import annotations

import time
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.books import ledger, reconcile
from kernel.books.ledger import Entry, Line
from kernel.books.reconcile import Allocation, Reconciled
from kernel.errors import RefusedError
from models.books import bank_accounts
from models.books_lines import statement_files, transactions
from tests.integration.books.bookkeeping import AT, ON, Books, entry


def run(books: Books) -> Reconciled:
    return books.do(reconcile.reconcile)


def matches(books: Books) -> dict[tuple[UUID, UUID], tuple[str, Decimal]]:
    rows = books.pinned("select txn_id, entry_id, kind, score from books.reconciliation_matches")
    return {(row.txn_id, row.entry_id): (row.kind, row.score) for row in rows}


def paid(amount: str, *, on: date = ON, account: str = "6300", **given: Any) -> Entry:
    """Out of checking; a negative amount comes in."""
    value = Decimal(amount)
    sides = Line(account, debit=abs(value)), Line("1000", credit=abs(value))
    if value < 0:
        sides = Line("1000", debit=abs(value)), Line(account, credit=abs(value))
    return Entry(on, "USD", sides, **given)


def test_an_entry_stands_for_the_line_that_it_was_made_from_whatever_its_day(books: Books) -> None:
    line = books.bank_line(-1234)
    other = books.bank_line(-1234)
    (own,) = books.posted(entry(source_txn_id=line, on=ON + timedelta(days=9)))
    found = run(books)
    assert matches(books) == {(line, own): ("link", Decimal(1))}
    assert (found.links, found.open_lines, found.open_entries) == (1, 1, 0)
    assert other not in {txn for txn, _ in matches(books)}


def test_amounts_are_signed(books: Books) -> None:
    books.bank_line(10_000)
    books.posted(paid("100.00"))
    assert run(books).open_lines == 1
    assert matches(books) == {}


def test_the_same_day_goes_before_days_nearby_and_days_are_scored(books: Books) -> None:
    same, near = books.bank_line(-1234), books.bank_line(-777, on=ON + timedelta(days=2))
    first, second = books.posted(entry("12.34"), entry("7.77"))
    found = run(books)
    assert (found.exact, found.heuristic) == (1, 1)
    assert matches(books) == {
        (same, first): ("exact", Decimal(1)),
        (near, second): ("heuristic", Decimal("0.667")),
    }


def test_what_is_proposed_or_reversed_stands_for_no_line(books: Books) -> None:
    books.bank_line(-1234)
    (posted,) = books.posted(entry("12.34"))
    books.do(ledger.reverse, posted, on=ON, reason="wrong")
    books.do(ledger.propose, [entry("12.34")])
    found = run(books)
    assert (found.exact, found.open_lines, found.open_entries) == (0, 1, 0)


def test_a_match_goes_when_its_entry_is_reversed_and_the_next_one_takes_its_place(books: Books) -> None:
    line = books.bank_line(-1234)
    (first,) = books.posted(entry("12.34"))
    run(books)
    books.do(ledger.reverse, first, on=ON, reason="wrong")
    (second,) = books.posted(entry("12.34"))
    run(books)
    assert list(matches(books)) == [(line, second)]


def test_two_entries_that_are_as_likely_are_told_and_not_chosen(books: Books) -> None:
    line = books.bank_line(-1234, description="x")
    one, two = books.posted(paid("12.34"), paid("12.34", account="4000"))
    found = run(books)
    assert matches(books) == {}
    (told,) = found.ambiguous
    assert (told.line_ids, set(told.entry_ids)) == ((line,), {one, two})


def test_another_currency_is_another_account(books: Books) -> None:
    books.bank_line(-1234)
    books.posted(entry("12.34", currency="EUR"))
    assert matches(books) == {}
    assert run(books).exact == 0


def test_a_line_whose_own_entry_has_another_amount_is_told(books: Books) -> None:
    line = books.bank_line(-9999)
    (own,) = books.posted(entry("12.34", source_txn_id=line))
    found = run(books)
    assert found.off == ((line, own),)
    assert (matches(books), found.open_lines) == ({}, 1)


def test_a_run_again_changes_nothing(books: Books) -> None:
    books.bank_line(-1234)
    books.posted(entry("12.34"))
    first = run(books)
    before = books.pinned("select * from books.reconciliation_matches")
    assert books.do(reconcile.reconcile, at=AT + timedelta(days=1)) == first
    assert books.pinned("select * from books.reconciliation_matches") == before


def test_a_better_entry_that_came_later_is_taken(books: Books) -> None:
    line = books.bank_line(-1234)
    (far,) = books.posted(entry("12.34", on=ON + timedelta(days=3)))
    run(books)
    assert list(matches(books)) == [(line, far)]
    (same,) = books.posted(entry("12.34"))
    run(books)
    assert list(matches(books)) == [(line, same)]


def test_what_lies_in_a_locked_month_stays(books: Books) -> None:
    line = books.bank_line(-1234)
    (far,) = books.posted(entry("12.34", on=ON + timedelta(days=3)))
    run(books)
    books.posted(entry("12.34"))
    books.do(ledger.lock, "2026-01")
    assert run(books).kept == 1
    assert list(matches(books)) == [(line, far)]


def second_account(books: Books, code: str = "2100") -> UUID:
    account_id = uuid4()
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        connection.execute(
            bank_accounts.insert().values(
                tenant_id=books.tenant_id,
                id=account_id,
                name="Card",
                kind="card",
                currency="USD",
                account_code=code,
            )
        )
    return account_id


def moved(books: Books, line: UUID, account_id: UUID) -> UUID:
    """A line like this one, of another account and the other way round."""
    file_id = statement(books, account_id, ON, ON, None, None)
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        row = dict(
            connection.execute(sa.select(transactions).where(transactions.c.id == line)).mappings().one()
        )
        row |= {
            "id": uuid4(),
            "bank_account_id": account_id,
            "amount_minor": -row["amount_minor"],
            "first_file_id": file_id,
        }
        connection.execute(transactions.insert().values(row))
    return row["id"]


def test_both_lines_of_a_transfer_stand_for_its_one_entry(books: Books) -> None:
    out = books.bank_line(-5000)
    back = moved(books, out, second_account(books))
    transfer = Entry(
        ON, "USD", (Line("2100", debit=Decimal(50)), Line("1000", credit=Decimal(50))), source_txn_id=out
    )
    books.posted(transfer)
    books.pinned(
        "insert into books.transfers (tenant_id, entry_id, txn_id) values (:tenant_id, :entry, :txn)",
        entry=transfer.id, txn=back,
    )  # fmt: skip
    assert run(books).links == 2
    assert set(matches(books)) == {(out, transfer.id), (back, transfer.id)}


def test_a_line_of_one_account_does_not_stand_for_an_entry_of_another(books: Books) -> None:
    books.bank_line(-1234)
    second_account(books)
    value = Decimal("12.34")
    books.posted(Entry(ON, "USD", (Line("6300", debit=value), Line("2100", credit=value))))
    found = run(books)
    assert (found.exact, found.open_lines, found.open_entries) == (0, 1, 1)


def test_a_deposit_stands_for_several_entries_by_a_persons_word(books: Books) -> None:
    deposit = books.bank_line(9700)
    sale, other, fee = books.posted(paid("-60.00"), paid("-40.00"), paid("3.00"))
    books.do(
        reconcile.allocate,
        [Allocation(deposit, sale, Decimal(60)), Allocation(deposit, other, Decimal(40)),
         Allocation(deposit, fee, Decimal(-3))],
    )  # fmt: skip
    found = run(books)
    assert (found.kept, found.open_lines, found.open_entries) == (3, 0, 0)
    books.do(reconcile.take_back, deposit, reason="mistaken")
    assert run(books).open_entries == 3


def test_a_persons_word_goes_before_what_the_machine_matched(books: Books) -> None:
    line, other = (
        books.bank_line(-1234),
        books.bank_line(-1234, on=ON + timedelta(days=1), description="other"),
    )
    (posted,) = books.posted(entry("12.34"))
    run(books)
    assert list(matches(books)) == [(line, posted)]
    books.do(reconcile.allocate, [Allocation(other, posted, Decimal("-12.34"))])
    run(books)
    assert matches(books) == {(other, posted): ("allocation", Decimal(1))}


def test_an_allocation_is_over_when_one_of_its_entries_is_reversed(books: Books) -> None:
    deposit = books.bank_line(10_000)
    one, two = books.posted(paid("-60.00"), paid("-40.00"))
    books.do(
        reconcile.allocate, [Allocation(deposit, one, Decimal(60)), Allocation(deposit, two, Decimal(40))]
    )
    books.do(ledger.reverse, one, on=ON, reason="wrong")
    found = run(books)
    assert (matches(books), found.open_lines) == ({}, 1)


@pytest.mark.parametrize(
    ("amounts", "why"),
    [(("60", "39.99"), r"is of 100.00 USD, and 99.99 is allocated"), (("50", "50"), "entry .* is of 60.00 USD"),
     (("60.001", "40"), "more decimals"), (("0", "100"), "by more than nothing")],
)  # fmt: skip
def test_an_allocation_that_does_not_add_up_is_refused(
    books: Books, amounts: tuple[str, str], why: str
) -> None:
    deposit = books.bank_line(10_000)
    entries = books.posted(paid("-60.00"), paid("-40.00"))
    given = [
        Allocation(deposit, each, Decimal(amount)) for each, amount in zip(entries, amounts, strict=True)
    ]
    with pytest.raises(RefusedError, match=why):
        books.do(reconcile.allocate, given)
    assert matches(books) == {}


def test_what_is_allocated_already_or_not_posted_or_not_there_is_refused(books: Books) -> None:
    line = books.bank_line(-1234)
    (posted,) = books.posted(entry("12.34"))
    proposed = entry("12.34")
    books.do(ledger.propose, [proposed])
    amount = Decimal("-12.34")
    with pytest.raises(RefusedError, match="not posted"):
        books.do(reconcile.allocate, [Allocation(line, proposed.id, amount)])
    with pytest.raises(RefusedError, match="has no bank line"):
        books.do(reconcile.allocate, [Allocation(uuid4(), posted, amount)])
    books.do(reconcile.allocate, [Allocation(line, posted, amount)])
    with pytest.raises(RefusedError, match="allocated already"):
        books.do(reconcile.allocate, [Allocation(line, posted, amount)])


def test_what_is_open_is_listed_the_largest_first(books: Books) -> None:
    books.bank_line(-100), books.bank_line(-90_000), books.bank_line(-1234)
    books.posted(entry("12.34"), entry("5.00"))
    run(books)
    with books.engine.begin() as connection:
        lines, entries = reconcile.open_items(connection, books.tenant_id, ON, ON)
    assert [each.amount for each in lines] == [Decimal("-900.00"), Decimal("-1.00")]
    assert [each.amount for each in entries] == [Decimal("-5.00")]


def test_the_share_of_reconciled_lines_leaves_out_what_matches_by_construction(books: Books) -> None:
    linked = books.bank_line(-1)
    books.bank_line(-1234), books.bank_line(-9999)
    books.posted(entry("0.01", source_txn_id=linked), entry("12.34"))
    run(books)
    books.do(ledger.lock, "2026-01")
    with books.engine.begin() as connection:
        assert reconcile.locked_months(connection, books.tenant_id) == {"2026-01": (1, 2)}


def statement(
    books: Books, account_id: UUID, first: date, last: date, opening: int | None, closing: int | None
) -> UUID:
    file_id = uuid4()
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        connection.execute(
            statement_files.insert().values(
                tenant_id=books.tenant_id, id=file_id, bank_account_id=account_id, sha256=uuid4().hex, name=f"{first}.csv",
                format="csv", size_bytes=1, first_date=first, last_date=last, opening_minor=opening,
                closing_minor=closing, imported_by="ann", imported_at=AT,
            )
        )  # fmt: skip
    return file_id


def seen(books: Books, file_id: UUID, *lines: UUID) -> None:
    for number, line in enumerate(lines, 1):
        books.pinned(
            "insert into books.sightings (tenant_id, file_id, line_no, txn_id) values (:tenant_id, :file, :number, :line)",
            file=file_id, number=number, line=line,
        )  # fmt: skip


def test_statements_are_compared_with_their_lines_each_other_and_the_books(books: Books) -> None:
    paid_line, lost = books.bank_line(-1234, on=date(2026, 1, 5)), books.bank_line(-500, on=date(2026, 2, 5))
    account_id = books.pinned("select bank_account_id from books.transactions limit 1")[0][0]
    january = statement(books, account_id, date(2026, 1, 1), date(2026, 1, 31), 1234, 0)
    february = statement(books, account_id, date(2026, 2, 1), date(2026, 2, 28), 100, -450)
    statement(books, account_id, date(2026, 3, 1), date(2026, 3, 31), None, None)
    seen(books, january, paid_line)
    seen(books, february, lost)
    books.posted(entry("12.34", source_txn_id=paid_line, on=date(2026, 1, 5)))
    with books.engine.begin() as connection:
        found = reconcile.tie_out(connection, books.tenant_id, account_id)
    first, second, third = (each for each in found if each.first_on)
    assert (first.off, first.gap, first.unbooked) == (0, None, Decimal("12.34"))
    assert (second.off, second.gap) == (Decimal("-0.50"), Decimal("1.00"))
    assert (third.off, third.gap, third.lines) == (None, None, 0)


def lines_by_statement(books: Books, account_id: UUID) -> dict[UUID, Decimal]:
    with books.engine.begin() as connection:
        found = reconcile.tie_out(connection, books.tenant_id, account_id)
    return {each.file_id: each.lines for each in found}


def test_lines_count_for_the_statement_that_they_came_by_and_for_each_that_told_of_them_again(
    books: Books,
) -> None:
    line = books.bank_line(-1234, on=date(2026, 1, 31))
    came_by, account_id = books.pinned("select first_file_id, bank_account_id from books.transactions")[0]
    again = statement(books, account_id, date(2026, 1, 31), date(2026, 2, 28), 1234, 0)
    seen(books, again, line)
    assert lines_by_statement(books, account_id) == dict.fromkeys((came_by, again), Decimal("-12.34"))


def test_a_line_that_a_statement_tells_twice_counts_once_for_it(books: Books) -> None:
    line = books.bank_line(-1234)
    came_by, account_id = books.pinned("select first_file_id, bank_account_id from books.transactions")[0]
    seen(books, came_by, line)
    assert lines_by_statement(books, account_id) == {came_by: Decimal("-12.34")}


_MANY = (
    """
    insert into books.transactions (
        tenant_id, bank_account_id, content_hash, post_date, amount_minor, currency, description, first_file_id
    )
    select :tenant_id, bank_account_id, sha256(number::text::bytea), post_date - number % 700, -100 - number % 20000, 'USD',
        concat('vendor ', number % 3000), first_file_id
    from books.transactions, generate_series(1, 100000) as number where transactions.tenant_id = :tenant_id
    """,
    # An entry has the id of its line: nothing but the test knows.
    """
    insert into books.journal_entries (tenant_id, id, entry_date, currency, memo, proposed_by)
    select :tenant_id, id, post_date + abs(hashtext(id::text)) % 3, 'USD', description, 'x' from books.transactions
    where tenant_id = :tenant_id and amount_minor < -1
    """,
    # As `plans.afresh` does.
    "discard plans",
    """
    insert into books.journal_lines (tenant_id, entry_id, line_no, account_code, debit_minor, credit_minor)
    select :tenant_id, id, 1, '6300', -amount_minor, 0 from books.transactions where tenant_id = :tenant_id and amount_minor < -1
    union all
    select :tenant_id, id, 2, '1000', 0, -amount_minor from books.transactions where tenant_id = :tenant_id and amount_minor < -1
    """,
    """
    insert into books.periods (tenant_id, year_month)
    select :tenant_id, to_char(month, 'YYYY-MM')
    from generate_series(timestamp '2023-01-01', '2026-12-01', '1 month') as month
    """,
    "update books.journal_entries set status = 'approved', approved_by = 'x' where tenant_id = :tenant_id",
    "update books.journal_entries set status = 'posted', posted_at = now() where tenant_id = :tenant_id",
)


@pytest.mark.slow
def test_a_hundred_thousand_lines_are_reconciled_within_minutes(books: Books) -> None:
    books.bank_line(-1)
    for statement_ in _MANY:
        books.pinned(statement_)
    with books.engine.begin() as connection:
        connection.exec_driver_sql("analyze books.journal_entries, books.journal_lines, books.transactions")
    began = time.perf_counter()
    found = run(books)
    spent = time.perf_counter() - began
    assert found.exact + found.heuristic > 90_000
    wrong = books.pinned("select count(*) from books.reconciliation_matches where txn_id <> entry_id")[0][0]
    assert wrong < 1000
    # Twenty seconds on an idle core, and this one is rarely idle.
    assert spent < 180
