"""MT940 files, SWIFT's statement: the library reads the fields, here they become lines.

A field that it cannot read would have it refuse the whole file, and one without a type would be taken for the one
before it: both are kept apart here, and rejected or kept as lines of their own.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from mt940 import models, parser, tags
from mt940.options import Options

from kernel.books.ingest.mapping import Mapping
from kernel.books.ingest.statement import (
    Account,
    Limits,
    Line,
    LineError,
    Rejected,
    Statement,
    StatementError,
    chosen,
    refuse_currency,
    refuse_too_many,
    squeezed,
)
from kernel.books.ingest.tables import decoded, shown
from kernel.money import minor

_NO_REFERENCE = frozenset(["NONREF", "NOREF"])
_OPENING = ("final_opening_balance", "intermediate_opening_balance", "opening_balance")
_CLOSING = ("final_closing_balance", "intermediate_closing_balance", "closing_balance")
_DETAILS = ("posting_text", "purpose", "additional_purpose", "transaction_details", "extra_details")


class _Movement(tags.Statement):
    """A field :61: that tells what it was, where the library cannot read it too."""

    def parse(self, transactions: models.Transactions, value: str) -> dict[str, Any]:
        try:
            return {**super().parse(transactions, value), "raw": value}
        except RuntimeError:
            return {"unread": "is no field :61:", "raw": value}

    def __call__(self, transactions: models.Transactions, value: dict[str, Any]) -> dict[str, Any]:
        data = value
        if "unread" not in value:
            try:
                data = super().__call__(transactions, value)
            except (ValueError, ArithmeticError) as error:
                data = {"unread": f"cannot be read, {error}", "raw": value["raw"]}
        # Without one the next movement would take this one's place.
        return data | {"id": data.get("id") or "NMSC"}


def read(data: bytes, account: Account, mapping: Mapping, limits: Limits) -> Statement:
    """Raises StatementError for a file that cannot be read as a whole; movements that cannot are rejected one by one."""
    # Else the library makes the last of February of a day that does not exist.
    as_written: dict[str, list[Any]] = {"pre_statement": []}
    told = shown(decoded(data, mapping.encoding))
    refuse_too_many(told.count("\n:61:"), limits)
    try:
        found = parser.parse_statements(
            told.replace("\r\n", "\n"), None, as_written, {61: _Movement()}, options=Options.all()
        )
    except (RuntimeError, ValueError, KeyError, ArithmeticError) as error:
        said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise StatementError(
            "422_PARSE_FAILED", f"is no MT940: {said}", "export it from the bank again"
        ) from None
    if not found:
        raise StatementError(
            "422_TABLE_NOT_FOUND", "holds no statement: none begins with :20:", "export it again"
        )
    called = chosen(map(_account, found), mapping.account)
    statements = sorted((each for each in found if _account(each) == called), key=_closed_on)
    for each in statements:
        refuse_currency(each.currency or "", account)
    movements = [movement.data for each in statements for movement in each]
    refuse_too_many(len(movements), limits)
    lines: list[Line] = []
    rejected: list[Rejected] = []
    for number, movement in enumerate(movements, 1):
        try:
            lines.append(_line(movement, number, account.currency))
        except LineError as error:
            rejected.append(Rejected(number, error.code, str(error), shown(f":61:{movement.get('raw', '')}")))
    return Statement(
        "mt940", account.currency, tuple(lines), tuple(rejected),
        opening_minor=_balance(statements[0], _OPENING, account.currency),
        closing_minor=_balance(statements[-1], _CLOSING, account.currency), account=called,
    )  # fmt: skip


def _account(statement: models.Transactions) -> str:
    return str(statement.data.get("account_identification") or "").strip()


def _first(statement: models.Transactions, names: tuple[str, ...]) -> models.Balance | None:
    return next((statement.data[name] for name in names if statement.data.get(name)), None)


def _closed_on(statement: models.Transactions) -> date:
    closing = _first(statement, _CLOSING)
    return closing.date if closing is not None and closing.date else date.min


def _balance(statement: models.Transactions, names: tuple[str, ...], currency: str) -> int | None:
    found = _first(statement, names)
    amount = getattr(found.amount, "amount", None) if found is not None else None
    return minor(amount, currency) if isinstance(amount, Decimal) else None


def _line(movement: dict[str, Any], number: int, currency: str) -> Line:
    if "unread" in movement:
        raise LineError("422_INVALID_DATA_FORMAT", movement["unread"])
    amount = movement["amount"].amount
    if not amount:
        raise LineError("422_INVALID_DATA_FORMAT", "its amount is zero: nothing moved")
    try:
        amount_minor = minor(amount, currency)
    except ValueError as error:
        raise LineError("422_INVALID_DATA_FORMAT", f"amount: {error}") from None
    told = dict.fromkeys(str(movement[name]) for name in _DETAILS if movement.get(name))
    counterparty = squeezed(str(movement.get("applicant_name") or movement.get("recipient_name") or ""))
    references = (
        movement.get("customer_reference"),
        movement.get("end_to_end_reference"),
        movement.get("bank_reference"),
    )
    kept = [each for each in dict.fromkeys(filter(None, references)) if each not in _NO_REFERENCE]
    valued = date(movement["date"].year, movement["date"].month, movement["date"].day)
    entered = movement.get("entry_date")
    return Line(
        number=number,
        post_date=date(entered.year, entered.month, entered.day) if entered else valued,
        amount_minor=amount_minor,
        currency=currency,
        description=squeezed(" ".join(told)) or counterparty,
        counterparty=counterparty,
        # What stands behind // is not an id: a batch has one for all its lines.
        value_date=valued,
        reference=squeezed(" ".join(kept)),
        bank_category=squeezed(str(movement.get("id") or "")),
    )
