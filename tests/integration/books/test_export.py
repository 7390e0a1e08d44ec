"""Exports: each posted entry reaches a target once, whatever is killed, and whole ledgers say what was posted."""

from __future__ import annotations

import csv
import hashlib
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from beancount import loader

from kernel import chain, tenancy
from kernel.books import export, export_ledgers, ledger
from kernel.books.export import Exported
from kernel.errors import RefusedError
from models.books import books_audit
from tests.integration.books.bookkeeping import AT, ON, Books, entry

STEPS = 38  # of an export of one batch: statements, commits, and what is done to files


def run(books: Books, folder: Path, target: str = "qbo_csv", **given: Any) -> Exported:
    return export.export(books.engine, books.tenant_id, target, folder, **{"actor": "ann", "at": AT} | given)


def rows(folder: Path) -> list[list[str]]:
    """Of all files that stand in the folder, without their headers."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += list(csv.reader(file))[1:]
    return found


def numbers(folder: Path, column: int = 1) -> Counter[str]:
    """How many rows each entry has."""
    return Counter(row[column] for row in rows(folder))


def test_what_was_posted_goes_out_once(books: Books, tmp_path: Path) -> None:
    books.posted(*(entry() for _ in range(5)))
    books.do(ledger.propose, [entry("99.00")])
    first, second = run(books, tmp_path), run(books, tmp_path)
    assert (first.new, first.skipped, first.total_lines) == (5, 0, 10)
    assert (second.new, second.skipped, second.total_lines, second.files) == (0, 5, 0, ())
    books.posted(entry())
    third = run(books, tmp_path)
    assert (third.new, third.skipped, third.total_lines) == (1, 5, 2)
    assert sorted(numbers(tmp_path).values()) == [2] * 6


def test_a_file_and_each_entry_in_it_balance(books: Books, tmp_path: Path) -> None:
    books.posted(entry("12.34"), entry("0.66"), entry("1.234", currency="KWD"))
    run(books, tmp_path)
    sides: dict[str, Decimal] = {}
    for row in rows(tmp_path):
        assert len(row) == 11
        sides[row[10]] = sides.get(row[10], Decimal(0)) + Decimal(row[3]) - Decimal(row[4])
    assert list(sides.values()) == [0, 0, 0]


def test_targets_are_told_apart_and_an_unknown_one_is_refused(books: Books, tmp_path: Path) -> None:
    books.posted(entry())
    assert run(books, tmp_path / "qbo").new == 1
    assert run(books, tmp_path / "xero", "xero_csv").new == 1
    with pytest.raises(RefusedError, match="unknown: use qbo_csv or xero_csv"):
        run(books, tmp_path, "sap")


def test_what_a_target_has_no_place_for_is_told_and_not_written(books: Books, tmp_path: Path) -> None:
    books.posted(entry(), entry(currency="EUR"))
    assert run(books, tmp_path / "qbo").left_out == 0
    done = run(books, tmp_path / "xero", "xero_csv")
    assert (done.new, done.skipped, done.left_out) == (1, 0, 1)


def test_an_export_ends_with_the_day_that_was_asked_for(books: Books, tmp_path: Path) -> None:
    books.posted(entry(on=ON), entry(on=ON + timedelta(days=1)))
    assert run(books, tmp_path, through=ON).new == 1
    assert run(books, tmp_path).new == 1


def test_many_entries_go_into_several_files(books: Books, tmp_path: Path) -> None:
    books.posted(*(entry() for _ in range(5)))
    done = run(books, tmp_path, most=2)
    assert (done.new, len(done.files)) == (5, 3)
    assert len(numbers(tmp_path)) == 5


def test_of_ten_exports_at_once_one_hands_an_entry_out(books: Books, tmp_path: Path) -> None:
    books.posted(entry())
    together, results = threading.Barrier(10), []

    def work() -> None:
        together.wait()
        results.append(run(books, tmp_path))

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted((each.new, each.skipped) for each in results) == [(0, 1)] * 9 + [(1, 0)]
    assert list(numbers(tmp_path).values()) == [2]


def test_a_file_is_handed_out_again_byte_for_byte(books: Books, tmp_path: Path) -> None:
    books.posted(entry())
    (file,) = run(books, tmp_path).files
    books.pinned("update books.accounts set name = 'Renamed' where code = '6300'")
    with books.engine.begin() as connection:
        (batch,) = export.history(connection, books.tenant_id)
        again = export.content(connection, books.tenant_id, batch.id)
    assert again == file.read_bytes()
    assert batch.sha256 == hashlib.sha256(again).hexdigest()
    assert (batch.status, batch.entries, batch.lines, batch.skipped) == ("exported", 1, 2, 0)


def test_what_was_handed_out_is_changed_by_nobody(books: Books, tmp_path: Path) -> None:
    books.posted(entry())
    run(books, tmp_path)
    for change in (
        "update books.export_files set content = 'x'",
        "delete from books.export_log",
        "update books.export_batches set entry_count = 0",
        "delete from books.export_batches",
    ):
        with pytest.raises(sa.exc.DBAPIError):
            books.pinned(change)


def test_a_correction_goes_out_as_a_reversal_and_a_replacement_that_name_what_they_correct(
    books: Books, tmp_path: Path
) -> None:
    line = books.bank_line()
    (first,) = books.posted(entry(source_txn_id=line))
    run(books, tmp_path / "before")
    reversal = books.do(ledger.reverse, first, on=ON, reason="another account")
    (anew,) = books.posted(entry(source_txn_id=line))
    done = run(books, tmp_path / "after")
    assert (done.new, done.skipped) == (2, 1)
    memos = {row[1]: row[6] for row in rows(tmp_path / "after")}
    number = f"JE-{first.hex[:16]}"
    assert memos == {
        f"JE-{reversal.hex[:16]}": f"[reverses {number}] Reversal: another account",
        f"JE-{anew.hex[:16]}": f"[replaces {number}] ",
    }


def test_a_correction_of_a_locked_month_lies_in_an_open_one_and_leaves_its_file_as_it_was(
    books: Books, tmp_path: Path
) -> None:
    (first,) = books.posted(entry())
    run(books, tmp_path / "january")
    books.do(ledger.lock, "2026-01")
    with pytest.raises(RefusedError, match="is locked"):
        books.do(ledger.reverse, first, on=ON, reason="late")
    assert run(books, tmp_path / "nothing").new == 0
    books.do(ledger.reverse, first, on=date(2026, 2, 1), reason="late")
    run(books, tmp_path / "february")
    assert {row[0] for row in rows(tmp_path / "february")} == {"2026-02-01"}


def test_a_folder_that_cannot_be_written_loses_nothing(books: Books, tmp_path: Path) -> None:
    books.posted(entry())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RefusedError, match="cannot be written"):
        run(books, tmp_path / "file")
    done = run(books, tmp_path / "folder")
    assert (done.new, done.skipped) == (1, 0)


def test_an_export_stands_in_the_audit(books: Books, tmp_path: Path) -> None:
    books.posted(entry())
    run(books, tmp_path)
    found = books.pinned("select detail from books.books_audit where event = 'export_completed'")
    assert [row.detail["entries"] for row in found] == [1]
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        assert chain.broken(connection, books_audit, books.tenant_id) is None


def test_nobody_reads_another_tenants_export(books_engine: sa.Engine, books: Books, tmp_path: Path) -> None:
    from tests.integration.books.bookkeeping import books as another

    books.posted(entry())
    run(books, tmp_path)
    other = another(books_engine)
    with books.engine.begin() as connection:
        (batch,) = export.history(connection, books.tenant_id)
        assert export.history(connection, other.tenant_id) == []
        with pytest.raises(RefusedError, match="has no export"):
            export.content(connection, other.tenant_id, batch.id)


def killed_at(step: int, url: sa.URL, tenant_id: UUID, folder: Path) -> bool:
    """An export in a process of its own that ends itself by SIGKILL at a step: a statement, a commit, or what is done to
    a file, before it or after it. Whether it came so far.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _export_until(step, url, tenant_id, folder)
            status = 0
        finally:
            os._exit(status)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in (0, -signal.SIGKILL), f"the export failed at step {step}"
    return ended != 0


def _export_until(step: int, url: sa.URL, tenant_id: UUID, folder: Path) -> None:
    engine, done = sa.create_engine(url), 0

    def reached(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **named: Any) -> Any:
            reached()
            result = function(*given, **named)
            reached()
            return result

        return called

    sa.event.listen(engine, "after_cursor_execute", reached)
    sa.event.listen(engine, "commit", reached)
    for name in ("fsync", "replace"):
        setattr(os, name, around(getattr(os, name)))
    os.fdopen = around(os.fdopen)
    export.export(engine, tenant_id, "qbo_csv", folder, actor="killed", at=AT)


@pytest.mark.parametrize("rounds", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_a_killed_export_loses_no_entry_and_doubles_none(
    books_engine: sa.Engine, books: Books, tmp_path: Path, rounds: int
) -> None:
    dice, died = random.Random(rounds), 0
    expected: Counter[str] = Counter()
    for number in range(rounds):
        made = books.posted(*(entry() for _ in range(dice.randint(1, 3))))
        expected.update({f"JE-{each.hex[:16]}": 2 for each in made})
        # Thirteen steps further each time, so that few rounds see the whole way and many every step of it.
        step = number * 13 % STEPS + 1
        died += killed_at(step, books_engine.url, books.tenant_id, tmp_path)
        if number % 3 == 0:
            died += killed_at(dice.randint(1, STEPS), books_engine.url, books.tenant_id, tmp_path)
        run(books, tmp_path)
        assert numbers(tmp_path) == expected
    assert died > rounds / 2
    with books.engine.begin() as connection:
        for batch in export.history(connection, books.tenant_id):
            made = (tmp_path / batch.file_name).read_bytes()
            assert (batch.status, hashlib.sha256(made).hexdigest()) == ("exported", batch.sha256)
    assert [path.suffix for path in tmp_path.iterdir()] == [".csv"] * len(list(tmp_path.iterdir()))


def test_a_general_ledger_leads_from_what_was_to_what_is(books: Books) -> None:
    books.posted(
        entry("10.00", on=date(2025, 12, 31), memo="=old"), entry("2.50", on=date(2026, 1, 3), memo="=new")
    )
    with books.engine.begin() as connection:
        text = "".join(
            export_ledgers.general_ledger(connection, books.tenant_id, date(2026, 1, 1), date(2026, 1, 31))
        )
    told = [row[:1] + row[2:3] + row[4:] for row in csv.reader(text.splitlines())]
    assert told == [
        ["Account", "Date", "Memo", "Debit", "Credit", "Balance", "Currency"],
        ["1000", "", "Opening balance", "", "", "-10.00", "USD"],
        ["1000", "2026-01-03", "'=new", "0.00", "2.50", "-12.50", "USD"],
        ["6300", "", "Opening balance", "", "", "10.00", "USD"],
        ["6300", "2026-01-03", "'=new", "2.50", "0.00", "12.50", "USD"],
    ]


def test_a_general_ledger_shows_what_nothing_was_posted_to_in_its_days(books: Books) -> None:
    books.posted(entry("10.00", on=date(2025, 12, 31)))
    with books.engine.begin() as connection:
        text = "".join(
            export_ledgers.general_ledger(connection, books.tenant_id, date(2026, 1, 1), date(2026, 1, 31))
        )
    assert [row[4] for row in csv.reader(text.splitlines())][1:] == ["Opening balance"] * 2


def test_a_trial_balance_ends_with_its_totals(books: Books) -> None:
    books.posted(entry("10.00"), entry("1.234", currency="KWD"))
    with books.engine.begin() as connection:
        rows = list(csv.reader(export_ledgers.trial_balance(connection, books.tenant_id, ON).splitlines()))
    assert rows[1] == ["1000", "Checking", "Asset", "KWD", "0.000", "1.234", "-1.234"]
    assert rows[-2:] == [
        ["TOTALS", "", "", "KWD", "1.234", "1.234", "0.000"],
        ["TOTALS", "", "", "USD", "10.00", "10.00", "0.00"],
    ]


def test_bean_check_accepts_a_ledger_and_finds_the_balances_that_we_find(
    books: Books, tmp_path: Path
) -> None:
    line = books.bank_line()
    (first,) = books.posted(entry("12.34", memo='Say "cheese" \\ =1\n2', source_txn_id=line))
    books.do(ledger.reverse, first, on=ON, reason="wrong")
    books.posted(entry("12.34", source_txn_id=line), entry("1.5", currency="EUR", on=date(2026, 2, 3)))
    books.posted(entry("7", currency="JPY"))
    file = tmp_path / "books.beancount"
    with books.engine.begin() as connection:
        file.write_text(
            "".join(export_ledgers.beancount_ledger(connection, books.tenant_id, date(2026, 12, 31)))
        )
    entries, errors, _ = loader.load_file(str(file))
    assert errors == []
    sums: Counter[tuple[str, str]] = Counter()
    for each in entries:
        for posting in getattr(each, "postings", ()):
            sums[posting.account.split("-")[0].split(":")[1], posting.units.currency] += posting.units.number
    with books.engine.begin() as connection:
        ours = ledger.trial_balance(connection, books.tenant_id, date(2026, 12, 31))
    assert {key: value for key, value in sums.items() if value} == {
        (each.code, each.currency): each.balance for each in ours
    }


def test_bean_check_finds_a_line_that_was_lost(books: Books, tmp_path: Path) -> None:
    books.posted(entry("12.34"))
    with books.engine.begin() as connection:
        text = "".join(export_ledgers.beancount_ledger(connection, books.tenant_id, ON))
    kept = [line for line in text.splitlines() if not line.endswith("-12.34 USD")]
    file = tmp_path / "books.beancount"
    file.write_text("\n".join(kept))
    assert loader.load_file(str(file))[1]


def test_a_tenant_without_entries_has_a_ledger_that_bean_check_accepts(books: Books, tmp_path: Path) -> None:
    file = tmp_path / "books.beancount"
    with books.engine.begin() as connection:
        file.write_text("".join(export_ledgers.beancount_ledger(connection, books.tenant_id, ON)))
    assert loader.load_file(str(file))[1] == []
