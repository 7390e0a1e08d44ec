"""The journal: what is posted balances, stays, and lies in a month that is open, whoever writes."""

from __future__ import annotations

import threading
from datetime import date
from decimal import Decimal

import pytest
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import ledger
from kernel.books.ledger import Entry, Line
from kernel.errors import RefusedError
from models import rls
from models.books import books_audit
from tests.integration.books.bookkeeping import AT, ON, Books, entry


def test_what_is_posted_is_in_the_trial_balance_and_sums_to_zero(books: Books) -> None:
    books.posted(entry("12.34"), entry("0.66"))
    books.do(ledger.propose, [entry("99.00")])
    assert books.balances() == {"6300": Decimal("13.00"), "1000": Decimal("-13.00")}


def test_a_balance_is_of_the_entries_up_to_its_day(books: Books) -> None:
    books.posted(entry("1.00", on=date(2026, 1, 31)), entry("2.00", on=date(2026, 2, 1)))
    assert books.balances(date(2026, 1, 31))["6300"] == Decimal("1.00")


@pytest.mark.parametrize(
    ("currency", "amount", "why"),
    [("USD", "1.234", "more decimals than USD"), ("JPY", "1.5", "more decimals than JPY"), ("USD", "NaN", "no amount"),
     ("USD", "0", "greater than zero"), ("USD", "-1", "greater than zero")],
)  # fmt: skip
def test_an_amount_that_the_currency_does_not_have_is_refused(
    books: Books, currency: str, amount: str, why: str
) -> None:
    with pytest.raises(RefusedError, match=why):
        books.do(ledger.propose, [entry(amount, currency=currency)])
    assert books.pinned("select from books.journal_entries") == []


def test_thousandths_and_whole_units_are_kept_as_their_currencies_have_them(books: Books) -> None:
    books.posted(entry("1.234", currency="KWD"))
    assert books.balances()["6300"] == Decimal("1.234")


def test_an_account_that_the_chart_does_not_have_is_refused(books: Books) -> None:
    wrong = Entry(ON, "USD", (Line("9999", debit=Decimal(1)), Line("1000", credit=Decimal(1))))
    with pytest.raises(RefusedError, match="chart of accounts"):
        books.do(ledger.propose, [wrong])


def test_what_does_not_balance_is_neither_approved_nor_posted(books: Books) -> None:
    off = Entry(ON, "USD", (Line("6300", debit=Decimal("1.00")), Line("1000", credit=Decimal("0.99"))))
    books.do(ledger.propose, [off])
    with pytest.raises(RefusedError, match="does not balance"):
        books.do(ledger.approve, [off.id])


def test_of_a_bank_line_one_entry_lives(books: Books) -> None:
    line = books.bank_line()
    (first,) = books.posted(entry(source_txn_id=line))
    with pytest.raises(RefusedError, match="booked by another entry"):
        books.do(ledger.propose, [entry(source_txn_id=line)])
    books.do(ledger.reverse, first, on=ON, reason="another account")
    books.posted(entry("12.34", source_txn_id=line))
    assert books.balances() == {"6300": Decimal("12.34"), "1000": Decimal("-12.34")}


def test_a_rejected_proposal_leaves_its_bank_line_free(books: Books) -> None:
    line = books.bank_line()
    first = entry(source_txn_id=line)
    books.do(ledger.propose, [first])
    books.do(ledger.reject, [first.id], reason="not ours")
    books.posted(entry(source_txn_id=line))


def test_an_entry_is_reversed_once(books: Books) -> None:
    (posted,) = books.posted(entry())
    books.do(ledger.reverse, posted, on=ON, reason="twice")
    with pytest.raises(RefusedError, match="reversed before"):
        books.do(ledger.reverse, posted, on=ON, reason="twice")
    assert set(books.balances().values()) == {Decimal(0)}


def test_a_reversal_is_not_reversed_since_its_line_would_be_booked_twice(books: Books) -> None:
    line = books.bank_line()
    (posted,) = books.posted(entry(source_txn_id=line))
    reversal = books.do(ledger.reverse, posted, on=ON, reason="wrong account")
    with pytest.raises(RefusedError, match=f"is the reversal of {posted}, .*: correct the bank line"):
        books.do(ledger.reverse, reversal, on=ON, reason="it was right")
    books.posted(entry(source_txn_id=line))
    assert books.balances() == {"6300": Decimal("12.34"), "1000": Decimal("-12.34")}


def test_nobody_posts_into_a_month_that_is_locked(books: Books) -> None:
    late = entry()
    books.do(ledger.propose, [late])
    books.do(ledger.approve, [late.id])
    books.do(ledger.lock, "2026-01")
    with pytest.raises(RefusedError, match="2026-01 is locked"):
        books.do(ledger.post, [late.id])
    books.do(ledger.reopen, "2026-01", reason="a line came late")
    books.do(ledger.post, [late.id])


def test_a_reversal_lies_in_a_month_that_is_open(books: Books) -> None:
    (posted,) = books.posted(entry())
    books.do(ledger.lock, "2026-01")
    with pytest.raises(RefusedError, match="is locked"):
        books.do(ledger.reverse, posted, on=ON, reason="late")
    books.do(ledger.reverse, posted, on=date(2026, 2, 1), reason="late")
    assert books.balances(date(2026, 1, 31))["6300"] == Decimal("12.34")
    assert books.balances()["6300"] == 0


def test_whoever_locks_a_month_waits_for_whoever_posts_into_it(books: Books) -> None:
    posting = entry()
    books.do(ledger.propose, [posting])
    books.do(ledger.approve, [posting.id])
    locked = threading.Event()

    def lock() -> None:
        books.do(ledger.lock, "2026-01")
        locked.set()

    with books.engine.begin() as connection:
        ledger.post(connection, books.tenant_id, [posting.id], actor="ann", at=AT)
        waiting = threading.Thread(target=lock)
        waiting.start()
        assert not locked.wait(0.3)
    waiting.join(10)
    assert locked.is_set()
    assert books.balances()["6300"] == Decimal("12.34")


# What anybody who writes past the functions might try with what is posted, or to post what is not right.
_FORBIDDEN = {
    "an amount": "update books.journal_lines set debit_minor = debit_minor + 1 where debit_minor > 0",
    "an account": "update books.journal_lines set account_code = '4000'",
    "another line": "insert into books.journal_lines (tenant_id, entry_id, line_no, account_code, debit_minor, credit_minor)"
    " select tenant_id, id, 9, '6300', 5, 0 from books.journal_entries",
    "a line gone": "delete from books.journal_lines",
    "the date": "update books.journal_entries set entry_date = entry_date + 1",
    "the memo": "update books.journal_entries set memo = 'x'",
    "no longer posted": "update books.journal_entries set status = 'proposed', posted_at = null",
    "not live": "update books.journal_entries set is_live = false",
    "gone": "delete from books.journal_entries",
    "all gone": "truncate books.journal_entries cascade",
    "all lines gone": "truncate books.journal_lines",
    "posted at once": "insert into books.journal_entries (tenant_id, entry_date, currency, status, proposed_by, approved_by, posted_at)"
    " values (:tenant_id, '2026-01-15', 'USD', 'posted', 'x', 'x', now())",
    "a month unlocked by deletion": "delete from books.periods",
}  # fmt: skip


@pytest.mark.parametrize("role", [rls.SERVICE, rls.MEMBER, rls.ANALYST, None])
@pytest.mark.parametrize("what", _FORBIDDEN)
def test_what_is_posted_is_changed_by_nobody(books: Books, what: str, role: str | None) -> None:
    """None is the owner of the tables."""
    books.posted(entry())
    before = books.pinned("select * from books.journal_lines order by line_no"), books.balances()
    with books.engine.begin() as connection, pytest.raises(sa.exc.DBAPIError), connection.begin_nested():
        if role is not None:
            tenancy.service(connection, books.tenant_id)
            connection.execute(sa.text("select set_config('role', :role, true)"), {"role": role})
        result = connection.execute(sa.text(_FORBIDDEN[what]), {"tenant_id": books.tenant_id})
        # Rows that a role does not see are not changed, and nothing tells it.
        if role in (rls.MEMBER, rls.ANALYST) and result.rowcount == 0:
            raise sa.exc.DBAPIError("nothing", None, Exception())
    assert before == (books.pinned("select * from books.journal_lines order by line_no"), books.balances())


def test_an_entry_that_does_not_balance_is_posted_by_no_statement(books: Books) -> None:
    off = Entry(ON, "USD", (Line("6300", debit=Decimal("1.00")), Line("1000", credit=Decimal("0.99"))))
    books.do(ledger.propose, [off])
    books.pinned("insert into books.periods (tenant_id, year_month) values (:tenant_id, '2026-01')")
    with pytest.raises(sa.exc.IntegrityError, match="does not balance"), books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        for status in ("status = 'approved', approved_by = 'x'", "status = 'posted', posted_at = now()"):
            connection.execute(sa.text(f"update books.journal_entries set {status}"))
    assert books.balances() == {}


def test_a_reversal_that_takes_back_something_else_is_posted_by_no_statement(books: Books) -> None:
    (posted,) = books.posted(entry("5.00"))
    half = Entry(
        ON, "USD", (Line("1000", debit=Decimal(2)), Line("6300", credit=Decimal(2))), reverses=posted
    )
    books.do(ledger.propose, [half])
    books.do(ledger.approve, [half.id])
    with pytest.raises(sa.exc.IntegrityError, match="does not take back"):
        books.do(ledger.post, [half.id])


def test_nobody_sees_or_books_into_another_tenants_journal(books_engine: sa.Engine, books: Books) -> None:
    from tests.integration.books.bookkeeping import books as another

    (posted,) = books.posted(entry())
    other = another(books_engine)
    assert other.balances() == {}
    with pytest.raises(RefusedError, match="has no entry"):
        other.do(ledger.reverse, posted, on=ON, reason="not mine")


def test_who_did_what_is_a_chain_that_shows_a_change(books: Books) -> None:
    (posted,) = books.posted(entry())
    books.do(ledger.reverse, posted, on=ON, reason="wrong account")
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        assert chain.broken(connection, books_audit, books.tenant_id) is None
    with books.engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.execute(
            sa.text("update books.books_audit set actor = 'bob' where tenant_id = :id and number = 2"),
            {"id": books.tenant_id},
        )
        assert chain.broken(connection, books_audit, books.tenant_id) == 2


def test_many_entries_after_a_few_are_not_each_looked_for_among_all(books: Books):
    """Of a few, any index finds one as soon as another: a plan that was made then would read all of the tenant's."""
    with books.engine.begin() as connection:
        for _ in range(8):  # as often as a session takes to settle on a plan
            ledger.propose(connection, books.tenant_id, [entry()], actor="ann", at=AT)
        ledger.propose(connection, books.tenant_id, [entry() for _ in range(1500)], actor="ann", at=AT)
        read = connection.scalar(
            sa.text(
                "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'books.journal_entries'::regclass"
            )
        )
    assert read < 50_000
