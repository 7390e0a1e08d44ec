"""OFX and QFX files, SGML and XML: ofxtools makes a tree of either, here it becomes lines.

Its models are not used: they refuse a whole file for one field, and a line is what may be refused.
"""

from __future__ import annotations

import html
import io
import logging
import re
from datetime import date
from xml.etree.ElementTree import Element

from ofxtools.Parser import OFXTree

from kernel.books.ingest.amounts import Mark, decimal_mark, minor_units
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
    refuse_currency,
    refuse_too_many,
    required,
    squeezed,
)
from kernel.books.ingest.tables import shown
from kernel.books.ingest.trees import refuse_declarations, text

_STATEMENTS = ("STMTRS", "CCSTMTRS")
_USED = {
    "DTPOSTED", "DTUSER", "TRNAMT", "FITID", "NAME", "MEMO", "CHECKNUM", "REFNUM", "TRNTYPE", "PAYEE", "CURRENCY",
    "ORIGCURRENCY",
}  # fmt: skip


def read(data: bytes, account: Account, mapping: Mapping, limits: Limits) -> Statement:
    """Raises StatementError for a file that cannot be read as a whole; lines that cannot are rejected one by one."""
    refuse_declarations(data)
    if not re.search(rb"</OFX>\s*$", data.rstrip(b"\0 \r\n\t\x1a")):
        raise StatementError(
            "422_PARSE_FAILED", "breaks off: its last line is not </OFX>", "download it from the bank again"
        )
    tree = OFXTree()
    logging.getLogger("ofxtools").setLevel(logging.WARNING)
    try:
        root = tree.parse(io.BytesIO(data))
    except (SyntaxError, ValueError, UnicodeError, AssertionError) as error:
        said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise StatementError(
            "422_PARSE_FAILED", f"is no OFX: {said}", "download it from the bank again"
        ) from None
    found = [element for element in root.iter() if element.tag in _STATEMENTS]
    if not found:
        raise StatementError(
            "422_TABLE_NOT_FOUND", "holds no statement of an account or card", "export its movements"
        )
    called = chosen((_text(each, ".//ACCTID") for each in found), mapping.account)
    statements = [each for each in found if _text(each, ".//ACCTID") == called]
    for each in statements:
        refuse_currency(_text(each, "CURDEF"), account)
    movements = [each for statement in statements for each in statement.findall("BANKTRANLIST/STMTTRN")]
    refuse_too_many(len(movements), limits)
    closing = _text(statements[0], "LEDGERBAL/BALAMT") if len(statements) == 1 else ""
    mark = decimal_mark([*(_text(each, "TRNAMT") for each in movements), closing], mapping.decimal)
    lines: list[Line] = []
    rejected: list[Rejected] = []
    for number, each in enumerate(movements, 1):
        try:
            lines.append(_line(each, number, account.currency, mark))
        except LineError as error:
            raw = " ".join(f"<{field.tag}>{field.text or ''}" for field in each)
            rejected.append(Rejected(number, error.code, str(error), shown(raw)))
    try:
        closing_minor = minor_units(closing, mark, account.currency) if closing else None
    except LineError:
        closing_minor = None
    return Statement(
        "ofx", account.currency, tuple(lines), tuple(rejected), closing_minor=closing_minor, account=called
    )


def _line(element: Element, number: int, currency: str, mark: Mark) -> Line:
    amount = minor_units(required(_text(element, "TRNAMT"), "TRNAMT"), mark, currency)
    if amount == 0:
        raise LineError("422_INVALID_DATA_FORMAT", "its amount is zero: nothing moved")
    other = _text(element, "CURRENCY/CURSYM")
    if other and other != currency:
        raise LineError("422_INVALID_DATA_FORMAT", f"is in {other}, and the account in {currency}")
    name, memo = _text(element, "NAME") or _text(element, "PAYEE/NAME"), _text(element, "MEMO")
    told = name if memo in ("", name) else memo if not name else f"{name} - {memo}"
    user = _text(element, "DTUSER")
    return Line(
        number=number,
        post_date=_date(required(_text(element, "DTPOSTED"), "DTPOSTED")),
        amount_minor=amount,
        currency=currency,
        description=squeezed(told),
        counterparty=squeezed(name),
        bank_ref=bank_reference(_text(element, "FITID")),
        value_date=_date(user) if user else None,
        reference=squeezed(_text(element, "CHECKNUM") or _text(element, "REFNUM")),
        bank_category=squeezed(_text(element, "TRNTYPE")),
        raw={each.tag: squeezed(each.text) for each in element if each.text and each.tag not in _USED},
    )


_DATES = Dates((), "ymd")


def _date(told: str) -> date:
    # The time behind the day is the bank's own, in its own zone.
    return _DATES.read(told[:8])


def _text(element: Element, path: str) -> str:
    return html.unescape(text(element, path))
