"""CAMT.053 files, the statement of ISO 20022, of any version: booked entries become lines."""

from __future__ import annotations

from datetime import date
from xml.etree.ElementTree import Element

from kernel.books.ingest.amounts import minor_units
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
from kernel.books.ingest.trees import text, tree

_SIDES = {"CRDT": 1, "DBIT": -1}
_OPENING, _CLOSING = ("OPBD", "PRCD"), ("CLBD",)
# What banks write where there is nothing to refer to.
_NO_REFERENCE = frozenset(["", "NOTPROVIDED", "NONREF", "NOREF"])
_DATES = Dates((), "ymd")


def read(data: bytes, account: Account, mapping: Mapping, limits: Limits) -> Statement:
    """Raises StatementError for a file that cannot be read as a whole; entries that cannot are rejected one by one."""
    root = tree(data)
    found = root.findall("BkToCstmrStmt/Stmt")
    if not found:
        raise StatementError(
            "422_TABLE_NOT_FOUND", "holds no statement (camt.053): reports of a day and notices (camt.052, camt.054) change yet",
            "export the statement", evidence=" ".join(each.tag for each in root),
        )  # fmt: skip
    called = chosen(map(_account, found), mapping.account)
    statements = sorted((each for each in found if _account(each) == called), key=_closed_on)
    for each in statements:
        refuse_currency(text(each, "Acct/Ccy"), account)
    entries = [entry for each in statements for entry in each.findall("Ntry")]
    refuse_too_many(len(entries), limits)
    lines: list[Line] = []
    rejected: list[Rejected] = []
    for number, entry in enumerate(entries, 1):
        try:
            lines.append(_line(entry, number, account.currency))
        except LineError as error:
            raw = " ".join(
                f"{each.tag}={each.text.strip()}" for each in entry.iter() if (each.text or "").strip()
            )
            rejected.append(Rejected(number, error.code, str(error), raw))
    return Statement(
        "camt053", account.currency, tuple(lines), tuple(rejected),
        opening_minor=_balance(statements[0], _OPENING, account.currency),
        closing_minor=_balance(statements[-1], _CLOSING, account.currency), account=called,
    )  # fmt: skip


def _account(statement: Element) -> str:
    return text(statement, "Acct/Id/IBAN") or text(statement, "Acct/Id/Othr/Id")


def _balances(statement: Element, kinds: tuple[str, ...]) -> list[Element]:
    return [each for each in statement.findall("Bal") if text(each, "Tp/CdOrPrtry/Cd") in kinds]


def _closed_on(statement: Element) -> str:
    return next((_day(each, "Dt") for each in _balances(statement, _CLOSING)), text(statement, "CreDtTm"))


def _balance(statement: Element, kinds: tuple[str, ...], currency: str) -> int | None:
    try:
        return next((_amount(each, currency) for each in _balances(statement, kinds)), None)
    except LineError:
        return None


def _amount(element: Element, currency: str) -> int:
    amount = element.find("Amt")
    side = text(element, "CdtDbtInd")
    if side not in _SIDES:
        raise LineError("422_MISSING_REQUIRED_FIELD", f"says neither CRDT nor DBIT but {side!r}")
    given = amount.get("Ccy", currency) if amount is not None else currency
    if given != currency:
        raise LineError("422_INVALID_DATA_FORMAT", f"is in {given}, and the account in {currency}")
    return _SIDES[side] * minor_units(required(text(element, "Amt"), "Amt"), ".", currency)


def _day(element: Element, name: str) -> str:
    return (text(element, f"{name}/Dt") or text(element, f"{name}/DtTm"))[:10]


def _date(element: Element, name: str) -> date | None:
    day = _day(element, name)
    return _DATES.read(day) if day else None


def _line(entry: Element, number: int, currency: str) -> Line:
    # Since version 8 the status is an element of its own below Sts.
    status = text(entry, "Sts/Cd") or text(entry, "Sts")
    if status not in ("", "BOOK"):
        raise LineError("422_INVALID_DATA_FORMAT", f"is not booked but {status}: it comes again when it is")
    amount = _amount(entry, currency)
    if amount == 0:
        raise LineError("422_INVALID_DATA_FORMAT", "its amount is zero: nothing moved")
    booked, valued = _date(entry, "BookgDt"), _date(entry, "ValDt")
    on = booked or valued
    if on is None:
        raise LineError("422_MISSING_REQUIRED_FIELD", "has no BookgDt")
    details = entry.findall("NtryDtls/TxDtls")
    other = "Cdtr" if amount < 0 else "Dbtr"
    names = [
        text(each, f"RltdPties/{other}/Nm") or text(each, f"RltdPties/{other}/Pty/Nm") for each in details
    ]
    told = [unstructured.text or "" for each in details for unstructured in each.findall("RmtInf/Ustrd")]
    ends = [text(each, "Refs/EndToEndId") for each in details]
    # A batch is one line of the account, whoever was paid of it.
    counterparty = squeezed(names[0]) if len(set(names)) == 1 else ""
    more = text(entry, "AddtlNtryInf")
    reference = text(entry, "AcctSvcrRef")
    return Line(
        number=number,
        post_date=on,
        amount_minor=amount,
        currency=currency,
        description=squeezed(" ".join(filter(None, [*dict.fromkeys(told), more]))) or counterparty,
        counterparty=counterparty,
        bank_ref=None if reference in _NO_REFERENCE else bank_reference(reference),
        value_date=valued,
        reference=squeezed(" ".join(each for each in dict.fromkeys(ends) if each not in _NO_REFERENCE)),
        bank_category=squeezed(_category(entry)),
        raw={"transactions": len(details)} if len(details) > 1 else {},
    )


def _category(entry: Element) -> str:
    domain = [text(entry, f"BkTxCd/Domn/{path}") for path in ("Cd", "Fmly/Cd", "Fmly/SubFmlyCd")]
    return " ".join(filter(None, domain)) or text(entry, "BkTxCd/Prtry/Cd")
