"""OFX and QFX files, SGML and XML: ofxtools makes a tree of either, here it becomes lines.

Its models are not used: they refuse a whole file for one field, and a line is what may be refused. Neither is its way
from a file to the tree: a header is looked for in the whole file, in a time that is no longer linear in its spaces.
"""

from __future__ import annotations

import html
import logging
from datetime import date
from xml.etree.ElementTree import Element

from ofxtools.header import OFXHeaderV1, OFXHeaderV2
from ofxtools.Parser import TreeBuilder

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
_LONGEST_HEADER = 1_000  # bytes, up to <OFX>: with all its fields it has some 250
_SECTION, _SECTION_ENDS = "<![CDATA[", "]]>"
_USED = {
    "DTPOSTED", "DTUSER", "TRNAMT", "FITID", "NAME", "MEMO", "CHECKNUM", "REFNUM", "TRNTYPE", "PAYEE", "CURRENCY",
    "ORIGCURRENCY",
}  # fmt: skip


def read(data: bytes, account: Account, mapping: Mapping, limits: Limits) -> Statement:
    """Raises StatementError for a file that cannot be read as a whole; lines that cannot are rejected one by one."""
    refuse_declarations(data)
    data = data.rstrip(b"\0 \r\n\t\x1a")
    if not data.endswith(b"</OFX>"):
        raise _unreadable("breaks off: its last line is not </OFX>")
    logging.getLogger("ofxtools").setLevel(logging.WARNING)
    try:
        root = _tree(data)
    except IndexError:
        raise _unreadable("is no OFX: it ends an element that did not begin") from None
    except (SyntaxError, ValueError, AssertionError) as error:
        said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise _unreadable(f"is no OFX: {said}") from None
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


def _tree(data: bytes) -> Element:
    """Raises what the library does: SyntaxError, ValueError, AssertionError and IndexError."""
    begins = data.find(b"<OFX>", 0, _LONGEST_HEADER)
    if begins < 0:
        raise _unreadable(f"is no OFX: there is no <OFX> in its first {_LONGEST_HEADER:,} bytes")
    head = data[:begins].decode("ascii", "replace")
    header, _ = (OFXHeaderV2 if "<?OFX" in head else OFXHeaderV1).parse(head)
    builder = TreeBuilder()
    builder.feed(_without_sections(data[begins:].decode(header.codec)))
    root: Element = builder.close()
    return root


def _without_sections(markup: str) -> str:
    """CDATA sections as escaped text: the library looks for the end of each up to the end of the line."""
    parts, at = [], 0
    while (begins := markup.find(_SECTION, at)) >= 0:
        ends = markup.find(_SECTION_ENDS, begins)
        if ends < 0:
            raise _unreadable("is no OFX: a CDATA section does not end")
        parts += [markup[at:begins], html.escape(markup[begins + len(_SECTION) : ends], quote=False)]
        at = ends + len(_SECTION_ENDS)
    return "".join([*parts, markup[at:]]) if parts else markup


def _unreadable(message: str) -> StatementError:
    return StatementError("422_PARSE_FAILED", message, "download it from the bank again")


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
        raw={
            each.tag: squeezed(html.unescape(each.text))
            for each in element
            if each.text and each.tag not in _USED
        },
    )


_DATES = Dates((), "ymd")


def _date(told: str) -> date:
    # The time behind the day is the bank's own, in its own zone.
    return _DATES.read(told[:8])


def _text(element: Element, path: str) -> str:
    return html.unescape(text(element, path))
