"""How banks write statements: CSV, OFX 1.x, CAMT.053 and MT940. What stands in them is drawn in `statements`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal
from xml.sax.saxutils import escape

from samples.statement_vendors import CHECKING, CREDIT

Account = Literal["checking", "card"]
Format = Literal["csv", "ofx", "camt053", "mt940"]
CURRENCY = "USD"
_SUFFIX = {"csv": "csv", "ofx": "ofx", "camt053": "xml", "mt940": "sta"}


@dataclass(frozen=True, slots=True)
class Line:
    """What a bank says of a line, what it is, and what a person called it.

    The amount is in cents, negative for what leaves the account. Of lines of an account that are equal in date, amount
    and description `occurrence` counts, from 1. `bank_ref` is the bank's own id, where its files give one; `card` are the
    last digits of the debit card, where one was used.
    """

    account: Account
    on: date
    amount_minor: int
    description: str
    occurrence: int
    bank_ref: str | None
    card: str
    vendor: str
    category: str
    label: str


@dataclass(frozen=True, slots=True)
class StatementFile:
    """The whole days from `first` to `last` of an account, and its balances in cents before and after them.

    `rejected` of its lines are none, and stand in no truth.
    """

    account: Account
    format: Format
    first: date
    last: date
    opening_minor: int
    closing_minor: int
    rejected: int
    content: bytes

    @property
    def name(self) -> str:
        return f"{self.account}-{self.last:%Y-%m}.{_SUFFIX[self.format]}"


def written(
    account: Account,
    format: Format,
    first: date,
    last: date,
    opening_minor: int,
    lines: Sequence[Line],
    *,
    with_bad_line: bool = False,
) -> StatementFile:
    """The lines are those of the days, in the order in which they are booked. Only CSV has a bad line."""
    balances = [opening_minor]
    for line in lines:
        balances.append(balances[-1] + line.amount_minor)
    text = _WRITERS[format](first, last, balances, lines)
    if with_bad_line:
        rows = text.splitlines(keepends=True)
        # Behind the middle, where a day has ended and another begins.
        rows.insert(len(rows) // 2, f"{last:%m}/32/{last:%Y},PENDING AUTHORIZATION,,n/a,,\r\n")
        text = "".join(rows)
    return StatementFile(
        account, format, first, last, opening_minor, balances[-1], int(with_bad_line), text.encode()
    )


def _csv(first: date, last: date, balances: Sequence[int], lines: Sequence[Line]) -> str:
    out = io.StringIO(newline="")
    rows = csv.writer(out)
    rows.writerow(("Date", "Description", "Card", "Debit", "Credit", "Balance"))
    for line, balance in zip(lines, balances[1:], strict=True):
        amount = _decimal(abs(line.amount_minor))
        sides = (amount, "") if line.amount_minor < 0 else ("", amount)
        card = f"****{line.card}" if line.card else ""
        rows.writerow((f"{line.on:%m/%d/%Y}", line.description, card, *sides, _decimal(balance)))
    return out.getvalue()


def _ofx(first: date, last: date, balances: Sequence[int], lines: Sequence[Line]) -> str:
    """Version 1.02: SGML, whose elements of data are not closed."""
    told = [
        f"<STMTTRN><TRNTYPE>{'CREDIT' if line.amount_minor > 0 else 'DEBIT'}<DTPOSTED>{line.on:%Y%m%d}"
        f"<TRNAMT>{_decimal(line.amount_minor)}<FITID>{line.bank_ref}<NAME>{escape(line.description)}</STMTTRN>"
        for line in lines
    ]
    return "\r\n".join([
        "OFXHEADER:100", "DATA:OFXSGML", "VERSION:102", "SECURITY:NONE", "ENCODING:USASCII", "CHARSET:1252",
        "COMPRESSION:NONE", "OLDFILEUID:NONE", "NEWFILEUID:NONE", "",
        f"<OFX><SIGNONMSGSRSV1><SONRS><STATUS><CODE>0<SEVERITY>INFO</STATUS><DTSERVER>{last:%Y%m%d}<LANGUAGE>ENG"
        "</SONRS></SIGNONMSGSRSV1>",
        "<CREDITCARDMSGSRSV1><CCSTMTTRNRS><TRNUID>1<STATUS><CODE>0<SEVERITY>INFO</STATUS>"
        f"<CCSTMTRS><CURDEF>{CURRENCY}<CCACCTFROM><ACCTID>{CREDIT}</CCACCTFROM>",
        f"<BANKTRANLIST><DTSTART>{first:%Y%m%d}<DTEND>{last:%Y%m%d}", *told, "</BANKTRANLIST>",
        f"<LEDGERBAL><BALAMT>{_decimal(balances[-1])}<DTASOF>{last:%Y%m%d}</LEDGERBAL>",
        "</CCSTMTRS></CCSTMTTRNRS></CREDITCARDMSGSRSV1></OFX>", "",
    ])  # fmt: skip


def _camt053(first: date, last: date, balances: Sequence[int], lines: Sequence[Line]) -> str:
    def amount(cents: int) -> str:
        side = "DBIT" if cents < 0 else "CRDT"
        return f'<Amt Ccy="{CURRENCY}">{_decimal(abs(cents))}</Amt><CdtDbtInd>{side}</CdtDbtInd>'

    def balance(kind: str, cents: int, on: date) -> str:
        code = f"<Tp><CdOrPrtry><Cd>{kind}</Cd></CdOrPrtry></Tp>"
        return f"<Bal>{code}{amount(cents)}<Dt><Dt>{on}</Dt></Dt></Bal>"

    entries = [
        f"<Ntry>{amount(line.amount_minor)}<Sts>BOOK</Sts><BookgDt><Dt>{line.on}</Dt></BookgDt><ValDt><Dt>{line.on}</Dt></ValDt>"
        "<BkTxCd><Prtry><Cd>NMSC</Cd></Prtry></BkTxCd>"
        f"<NtryDtls><TxDtls><RmtInf><Ustrd>{escape(line.description)}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>"
        for line in lines
    ]
    return "\n".join([
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"><BkToCstmrStmt>',
        f"<GrpHdr><MsgId>{CHECKING}-{last:%Y%m}</MsgId><CreDtTm>{last}T23:59:59Z</CreDtTm></GrpHdr>",
        f"<Stmt><Id>{last:%Y-%m}</Id><CreDtTm>{last}T23:59:59Z</CreDtTm>",
        f"<FrToDt><FrDtTm>{first}T00:00:00Z</FrDtTm><ToDtTm>{last}T23:59:59Z</ToDtTm></FrToDt>",
        f"<Acct><Id><Othr><Id>{CHECKING}</Id></Othr></Id><Ccy>{CURRENCY}</Ccy></Acct>",
        balance("OPBD", balances[0], first), balance("CLBD", balances[-1], last),
        *entries, "</Stmt></BkToCstmrStmt></Document>", "",
    ])  # fmt: skip


def _mt940(first: date, last: date, balances: Sequence[int], lines: Sequence[Line]) -> str:
    def amount(cents: int) -> str:
        return _decimal(abs(cents)).replace(".", ",")

    def balance(cents: int, on: date) -> str:
        return f"{'D' if cents < 0 else 'C'}{on:%y%m%d}{CURRENCY}{amount(cents)}"

    def lines_of(line: Line) -> Iterator[str]:
        side = "D" if line.amount_minor < 0 else "C"
        yield f":61:{line.on:%y%m%d%m%d}{side}{amount(line.amount_minor)}NMSCNONREF"
        yield f":86:{line.description}"

    return "\r\n".join([
        f":20:{CHECKING}{last:%Y%m}", f":25:{CHECKING}", f":28C:{last:%m}/1", f":60F:{balance(balances[0], first)}",
        *(text for line in lines for text in lines_of(line)), f":62F:{balance(balances[-1], last)}", "-", "",
    ])  # fmt: skip


def _decimal(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02}"


_WRITERS: dict[str, Callable[[date, date, Sequence[int], Sequence[Line]], str]] = {
    "csv": _csv, "ofx": _ofx, "camt053": _camt053, "mt940": _mt940,
}  # fmt: skip
