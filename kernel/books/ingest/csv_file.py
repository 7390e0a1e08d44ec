"""CSV files of banks: the rows of their table become lines. How the table is found stands in `tables`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

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
from kernel.books.ingest.tables import DIRECTIONS, Row, Table, evidence, shown, table
from kernel.money import CURRENCIES

_BROKEN = re.compile("[\ud800-\udfff]")
Signed = Callable[[Row, str], int]


def read(data: bytes, account: Account, mapping: Mapping, limits: Limits) -> Statement:
    """Raises StatementError for a file that cannot be read as a whole; lines that cannot are rejected one by one."""
    found = table(data, mapping)
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
        found, account, mapping, mark,
        Dates(evidence(rows, columns["post_date"]), mapping.date_order), _directions(found),
        *(_is_all_negative(rows, columns.get(name, []), mark, account.currency) for name in ("debit", "credit")),
    )  # fmt: skip
    lines: list[Line] = []
    rejected: list[Rejected] = []
    for row in rows:
        try:
            lines.append(reader.line(row))
        except LineError as error:
            rejected.append(Rejected(row.number, error.code, str(error), shown(row.raw.rstrip("\r\n"))))
    if reader.is_unsigned and _leave_positive(lines, account, mapping):
        lines = _turned(lines)
    return Statement("csv", account.currency, tuple(lines), tuple(rejected), account=shown(called))


def _of_account(found: Table, mapping: Mapping) -> tuple[list[Row], str]:
    """The rows of one account, and what the file calls it."""
    places = found.columns.get("account", [])
    if not places:
        return found.rows, ""
    name = chosen(evidence(found.rows, places), mapping.account) if found.rows else ""
    # A row without its account is rejected as one, not lost.
    return [row for row in found.rows if next(evidence([row], places), name) == name], name


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
    return [line._replace(amount_minor=-line.amount_minor) for line in lines]


def _follows(lines: list[Line]) -> bool:
    found = chain(lines)
    return found is not None and not found.breaks


@dataclass(frozen=True, slots=True)
class _Reader:
    table: Table
    account: Account
    mapping: Mapping
    mark: Mark
    dates: Dates
    directions: dict[str, int] | None
    debits_are_negative: bool
    credits_are_negative: bool

    @property
    def is_unsigned(self) -> bool:
        """Whether the sign of an amount is all that says which way it went."""
        return "amount" in self.table.columns and self.directions is None

    def line(self, row: Row) -> Line:
        cells = row.cells
        if len(cells) != self.table.width and (
            len(cells) < self.table.width or any(cells[self.table.width :])
        ):
            raise LineError(
                "422_INVALID_DATA_FORMAT",
                f"has {len(cells)} fields and the header has {self.table.width}: check its quotes and delimiters",
            )
        if "\0" in row.raw or (not row.raw.isascii() and _BROKEN.search(row.raw)):
            raise LineError(
                "422_INVALID_DATA_FORMAT", "has bytes that are no UTF-8, unlike the rest: save the file anew"
            )

        text = self._text
        on = self.dates.read(required(text(cells, "post_date"), "date"))
        amount, currency = self._amount(cells)
        counterparty = text(cells, "counterparty")
        description = text(cells, "description")
        value_date, card, balance = text(cells, "value_date"), text(cells, "card"), text(cells, "balance")
        return Line(
            row.number,
            on,
            amount,
            currency,
            description or counterparty,
            counterparty,
            bank_reference(text(cells, "bank_ref")),
            self.dates.read(value_date) if value_date else None,
            text(cells, "reference"),
            text(cells, "category"),
            four_digits(card) if card else "",
            self._balance(balance, currency) if balance else None,
            {name: " ".join(cells[place].split()) for place, name in self.table.others if cells[place]},
        )

    def _text(self, cells: list[str], name: str) -> str:
        """What stands in the first of the field's columns that is filled, in one line with single spaces."""
        if name in self.table.columns:
            for place in self.table.columns[name]:
                if words := cells[place].split():
                    return " ".join(words)
        return ""

    def _amount(self, cells: list[str]) -> tuple[int, str]:
        """The amount in minor units with its sign, and its currency."""
        columns = self.table.columns
        if "amount" not in columns:
            currency = self._currency(self._text(cells, "currency"))
            amount = self._sided(self._text(cells, "debit"), self._text(cells, "credit"), currency)
        else:
            text, currency = self._filled(cells)
            amount = minor_units(text, self.mark, currency)
            if self.directions is not None:
                amount *= self.directions[required(self._text(cells, "direction"), "direction").lower()]
        if amount == 0:
            raise LineError("422_INVALID_DATA_FORMAT", "its amount is zero: nothing moved")
        return amount, currency

    def _filled(self, cells: list[str]) -> tuple[str, str]:
        """The first amount that is filled, with the currency that goes with it."""
        places, of_currency = self.table.columns["amount"], self.table.columns.get("currency", ())
        for at, place in enumerate(places):
            if text := cells[place].strip():
                if len(of_currency) == len(places) and (told := cells[of_currency[at]].strip()):
                    return text, self._currency(told)
                return text, self._currency(self._text(cells, "currency"))
        raise LineError("422_MISSING_REQUIRED_FIELD", "has no amount")

    def _sided(self, debit: str, credit: str, currency: str) -> int:
        if not debit and not credit:
            raise LineError("422_MISSING_REQUIRED_FIELD", "has neither a debit nor a credit")
        out = minor_units(debit, self.mark, currency) if debit else 0
        into = minor_units(credit, self.mark, currency) if credit else 0
        if out and into:
            raise LineError("422_INVALID_DATA_FORMAT", f"has both a debit, {debit}, and a credit, {credit}")
        return (-into if self.credits_are_negative else into) - (-out if self.debits_are_negative else out)

    def _currency(self, text: str) -> str:
        if not text:
            return self.account.currency
        currency = text.upper()
        if currency not in CURRENCIES:
            raise LineError("422_INVALID_DATA_FORMAT", f"its currency {text!r} is no ISO 4217 code")
        if currency != self.account.currency:
            raise LineError(
                "422_INVALID_DATA_FORMAT", f"is in {currency}, and the account in {self.account.currency}"
            )
        return currency

    def _balance(self, text: str, currency: str) -> int | None:
        try:
            return minor_units(text, self.mark, currency)
        except LineError:
            return None  # the movement is known without it; the balances then prove nothing
