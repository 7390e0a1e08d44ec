"""Names and texts of a Beancount ledger; that `bean-check` accepts a whole one is tried with a database."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from beancount.core import account as names
from beancount.parser import parser
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.books.export_formats import beancount
from kernel.books.export_formats.beancount import Account
from kernel.books.export_formats.entry import Line, Posted

CODES = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z._-]{0,8}", fullmatch=True)


def test_an_account_is_named_by_its_type_code_and_name() -> None:
    told = beancount.named(
        [Account("1000", "Checking Account", "Asset"), Account("4000", "Sales", "Revenue")]
    )
    assert told == {"1000": "Assets:1000-Checking-Account", "4000": "Income:4000-Sales"}


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(CODES, st.text(max_size=20), max_size=6))
def test_any_chart_has_names_that_are_valid_and_tell_accounts_apart(chart: dict[str, str]) -> None:
    told = beancount.named([Account(code, name, "Expense") for code, name in sorted(chart.items())])
    assert len(set(told.values())) == len(chart)
    assert all(names.is_valid(name) for name in told.values())


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_memo_and_name_is_read_back_as_text(memo: str, name: str) -> None:
    chart = [Account("1", name, "Asset"), Account("2", "Other", "Expense")]
    named = beancount.named(chart)
    entry = Posted(
        UUID(int=1), UUID(int=2), date(2024, 1, 2), "USD", memo, (Line("1", name, 5, 0, memo), Line("2", "x", 0, 5))
    )  # fmt: skip
    text = beancount.header(name, "USD", named, chart, entry.on)
    entries, errors, _ = parser.parse_string(text + "".join(beancount.transactions([entry], named)))
    assert not errors
    assert [type(each).__name__ for each in entries] == ["Open", "Open", "Transaction"]
