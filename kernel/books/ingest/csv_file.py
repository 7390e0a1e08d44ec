"""CSV files of banks: the rows of their table become lines. How the table is found stands in `tables`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from operator import neg

from kernel.books.ingest.amounts import Mark, decimal_mark, minor_units
from kernel.books.ingest.balances import chain
from kernel.books.ingest.dates import Dates
from kernel.books.ingest.mapping import Mapping
from kernel.books.ingest.statement import (
    Account,
    Limits,
    Line,
    LineError,
    Rejected,
    Statement,
    StatementError,
    bank_reference,
    chosen,
    four_digits,
    refuse_currency,
    refuse_too_many,
    required,
)
from kernel.books.ingest.tables import DIRECTIONS, Row, Table, evidence, is_damaged, shown, table
from kernel.money import CURRENCIES

_TOGETHER = 64  # rows that become lines at once: where one of them is refused, half as many are tried


def read(data: bytes, account: Account, mapping: Mapping, limits: Limits) -> Statement:
    """Raises StatementError for a file that cannot be read as a whole; lines that cannot are rejected one by one."""
    found = table(data, mapping, limits)
    refuse_too_many(len(found.rows), limits)
    refuse_currency(mapping.currency or "", account)
    rows, called = _of_account(found, mapping)
    found = replace(found, rows=rows)
    columns = found.columns
    mark = decimal_mark(
        (text for name in ("amount", "debit", "credit", "balance") for text in evidence(rows, columns.get(name, []))),
        mapping.decimal,
    )  # fmt: skip
    reader = _Reader(
        found, account, mark,
        Dates(evidence(rows, columns["post_date"]), mapping.date_order), _directions(found),
        *(_is_all_negative(rows, columns.get(name, []), mark, account.currency) for name in ("debit", "credit")),
    )  # fmt: skip
    lines: list[Line] = []
    rejected: list[Rejected] = []
    for begin in range(0, len(rows), _TOGETHER):
        _add(lines, rejected, reader, rows[begin : begin + _TOGETHER])
    if reader.is_unsigned and _leave_positive(lines, account, mapping):
        lines = _turned(lines)
    return Statement("csv", account.currency, tuple(lines), tuple(rejected), account=shown(called))


def _add(lines: list[Line], rejected: list[Rejected], reader: _Reader, rows: list[Row]) -> None:
    try:
        lines += reader.lines(rows)
    except LineError as error:
        if len(rows) == 1:
            (row,) = rows
            rejected.append(Rejected(row.number, error.code, str(error), shown(row.raw.rstrip("\r\n"))))
            return
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            _add(lines, rejected, reader, part)


def _of_account(found: Table, mapping: Mapping) -> tuple[list[Row], str]:
    """The rows of one account, and what the file calls it."""
    places = found.columns.get("account", [])
    if not places:
        return found.rows, ""
    name = chosen(evidence(found.rows, places), mapping.account) if found.rows else ""
    # A row without its account is rejected as one, not lost.
    return [row for row in found.rows if next(iter(evidence([row], places)), name) == name], name


def _directions(found: Table) -> dict[str, int] | None:
    """What a column of directions says, when it has one on every line and the amounts have no signs of their own."""
    words = {word.lower() for word in evidence(found.rows, found.columns.get("direction", []))}
    amounts = evidence(found.rows, found.columns.get("amount", []))
    is_signed = any(sign in text for text in amounts for sign in "-(−")
    return DIRECTIONS if words and words <= DIRECTIONS.keys() and not is_signed else None


def _is_all_negative(rows: list[Row], places: list[int], mark: Mark, currency: str) -> bool:
    """Whether the amounts of a column of debits or credits carry a sign that the column's name gives already."""
    found = False
    for text in evidence(rows, places):
        try:
            value = minor_units(text, mark, currency)
        except LineError:
            continue
        if value > 0:
            return False
        found = found or value < 0
    return found


def _leave_positive(lines: list[Line], account: Account, mapping: Mapping) -> bool:
    """Whether amounts that leave the account are positive. Raises StatementError where nothing says it."""
    if mapping.out_is is not None or not lines:
        return mapping.out_is == "positive"
    if not account.is_card:
        # The balances of a bank account say it; of a card they are as often what is owed.
        has_balances = len(lines) > 1 and chain(lines) is not None
        follows, follows_turned = (
            (_follows(lines), _follows(_turned(lines))) if has_balances else (False, False)
        )
        if follows != follows_turned:
            return follows_turned
        if any(line.amount_minor < 0 for line in lines):
            return False
    told = "a card's amounts may have either sign" if account.is_card else "no amount is negative"
    raise StatementError(
        "422_AMOUNT_POLARITY_UNKNOWN", f"which amounts leave the account cannot be told: {told}",
        "say it in the mapping, out_is: negative or out_is: positive", where=f"line {lines[0].number}",
        evidence=f"{lines[0].description} {lines[0].amount_minor}",
    )  # fmt: skip


def _turned(lines: list[Line]) -> list[Line]:
    if not lines:
        return []
    numbers, days, amounts, *others = zip(*lines, strict=True)
    return list(map(Line._make, zip(numbers, days, map(neg, amounts), *others, strict=True)))


def _follows(lines: list[Line]) -> bool:
    found = chain(lines)
    return found is not None and not found.breaks


class _Reader:
    """Makes lines of rows. What a text says is found out once, however many cells have it: most of a column repeat."""

    def __init__(
        self, table: Table, account: Account, mark: Mark, dates: Dates, directions: dict[str, int] | None,
        debits_are_negative: bool, credits_are_negative: bool,
    ) -> None:  # fmt: skip
        self._table, self._directions = table, directions
        self._signs = (1 if debits_are_negative else -1, -1 if credits_are_negative else 1)
        self._words = cache(_words)
        self._day = cache(lambda text: dates.read(required(text, "date")))
        self._other_day = cache(lambda text: dates.read(text) if text else None)
        self._card, self._bank_ref = cache(four_digits), cache(bank_reference)
        self._currency = cache(lambda text: _currency(text, account.currency))
        self._balance = cache(lambda text, currency: _balance(text, mark, currency))
        self._units = cache(lambda text, currency: minor_units(text, mark, currency))
        # Of several amounts each has its own currency where there are as many of these.
        amounts, currencies = table.columns.get("amount", []), table.columns.get("currency", [])
        own = currencies if len(currencies) == len(amounts) else [None] * len(amounts)
        self._amounts = list(zip(amounts, own, strict=True))

    @property
    def is_unsigned(self) -> bool:
        """Whether the sign of an amount is all that says which way it went."""
        return "amount" in self._table.columns and self._directions is None

    def lines(self, rows: Sequence[Row]) -> list[Line]:
        """All of them, a column at a time. Raises LineError when any row is none: of one row, why."""
        numbers, cells, raws = zip(*rows, strict=True)
        width = self._table.width
        for each in cells:
            if len(each) != width:
                self._refuse_width(each)
        if not self._table.is_clean and any(map(is_damaged, raws)):
            raise LineError(
                "422_INVALID_DATA_FORMAT", "has bytes that are no UTF-8, unlike the rest: save the file anew"
            )
        columns = list(zip(*cells, strict=False))  # a row may have more cells, which are empty
        days = list(map(self._day, self._texts(columns, "post_date")))
        amount = self._given if "amount" in self._table.columns else self._sided
        amounts, currencies = zip(*map(amount, cells), strict=True)
        if 0 in amounts:
            raise LineError("422_INVALID_DATA_FORMAT", "its amount is zero: nothing moved")
        counterparties = self._texts(columns, "counterparty")
        descriptions = [
            text or counterparty
            for text, counterparty in zip(self._texts(columns, "description"), counterparties, strict=True)
        ]
        return list(map(Line._make, zip(
            numbers, days, amounts, currencies, descriptions, counterparties,
            map(self._bank_ref, self._texts(columns, "bank_ref")),
            map(self._other_day, self._texts(columns, "value_date")),
            self._texts(columns, "reference"),
            self._texts(columns, "category"),
            map(self._card, self._texts(columns, "card")),
            map(self._balance, self._texts(columns, "balance"), currencies),
            self._others(cells),
            strict=True,
        )))  # fmt: skip

    def _refuse_width(self, cells: list[str]) -> None:
        width = self._table.width
        if len(cells) < width or any(cells[width:]):
            raise LineError(
                "422_INVALID_DATA_FORMAT",
                f"has {len(cells)} fields and the header has {width}: check its quotes and delimiters",
            )

    def _texts(self, columns: Sequence[Sequence[str]], name: str) -> Sequence[str]:
        """Of each row what stands in the first of the field's columns that is filled, in one line with single spaces."""
        told = [list(map(self._words, columns[place])) for place in self._table.columns.get(name, [])]
        if len(told) > 1:
            return [next(filter(None, texts), "") for texts in zip(*told, strict=True)]
        return told[0] if told else [""] * len(columns[0])

    def _text(self, cells: list[str], name: str) -> str:
        """The same of one row."""
        places = self._table.columns.get(name, [])
        return next(filter(None, (self._words(cells[place]) for place in places)), "")

    def _others(self, cells: Sequence[list[str]]) -> list[dict[str, str]]:
        others, words = self._table.others, self._words
        if not others:
            return [{} for _ in cells]
        return [{name: words(each[place]) for place, name in others if each[place]} for each in cells]

    def _given(self, cells: list[str]) -> tuple[int, str]:
        """The first amount that is filled, in minor units with its sign, and the currency that goes with it."""
        for place, of_currency in self._amounts:
            if text := cells[place].strip():
                told = cells[of_currency].strip() if of_currency is not None else ""
                currency = self._currency(told or self._text(cells, "currency"))
                amount = self._units(text, currency)
                if self._directions is not None:
                    amount *= self._directions[required(self._text(cells, "direction"), "direction").lower()]
                return amount, currency
        raise LineError("422_MISSING_REQUIRED_FIELD", "has no amount")

    def _sided(self, cells: list[str]) -> tuple[int, str]:
        """What of debit and credit is filled, in minor units with its sign, and the currency of the line."""
        currency = self._currency(self._text(cells, "currency"))
        debit, credit = self._text(cells, "debit"), self._text(cells, "credit")
        if not debit and not credit:
            raise LineError("422_MISSING_REQUIRED_FIELD", "has neither a debit nor a credit")
        out = self._units(debit, currency) if debit else 0
        into = self._units(credit, currency) if credit else 0
        if out and into:
            raise LineError("422_INVALID_DATA_FORMAT", f"has both a debit, {debit}, and a credit, {credit}")
        return self._signs[0] * out + self._signs[1] * into, currency


def _currency(text: str, own: str) -> str:
    if not text:
        return own
    currency = text.upper()
    if currency not in CURRENCIES:
        raise LineError("422_INVALID_DATA_FORMAT", f"its currency {text!r} is no ISO 4217 code")
    if currency != own:
        raise LineError("422_INVALID_DATA_FORMAT", f"is in {currency}, and the account in {own}")
    return currency


def _balance(text: str, mark: Mark, currency: str) -> int | None:
    try:
        return minor_units(text, mark, currency) if text else None
    except LineError:
        return None  # the movement is known without it; the balances then prove nothing


def _words(text: str) -> str:
    return " ".join(text.split())
