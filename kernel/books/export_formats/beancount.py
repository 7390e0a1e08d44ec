"""Beancount 3: the whole ledger as text that `bean-check` accepts. Pieces of text come in, and go out, one by one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from kernel.books.export_formats import cells
from kernel.books.export_formats.entry import Posted, number
from kernel.text import printable

_ROOTS = {
    "Asset": "Assets",
    "Liability": "Liabilities",
    "Equity": "Equity",
    "Revenue": "Income",
    "Expense": "Expenses",
}


@dataclass(frozen=True, slots=True)
class Account:
    """`type` is one of the five of a chart of accounts."""

    code: str
    name: str
    type: str


def header(title: str, currency: str, accounts: Mapping[str, str], chart: Sequence[Account], opened: date) -> str:  # fmt: skip
    """Options, and a directive that opens each account. `accounts` as `named` made them."""
    lines = [f"option {_quoted('title')} {_quoted(title)}", f'option "operating_currency" "{currency}"', ""]
    for account in chart:
        lines += [
            f"{opened} open {accounts[account.code]}",
            f"  code: {_quoted(account.code)}",
            f"  name: {_quoted(account.name)}",
        ]
    return "\n".join([*lines, "", ""])


def transactions(entries: Iterable[Posted], accounts: Mapping[str, str]) -> Iterator[str]:
    """A link that has the number of an entry leads to what takes it back or stands in its stead."""
    for entry in entries:
        linked = [each for each in (entry.number, *map(_number, (entry.reverses, entry.replaces))) if each]
        lines = [f"{entry.on} * {_quoted(entry.memo)} {' '.join(f'^{each}' for each in linked)}"]
        lines.append(f"  entry: {_quoted(str(entry.id))}")
        if entry.reverses:
            lines.append(f"  reverses: {_quoted(number(entry.reverses))}")
        if entry.replaces:
            lines.append(f"  replaces: {_quoted(number(entry.replaces))}")
        for line in entry.lines:
            amount = cells.amount(entry.value(line.debit_minor - line.credit_minor))
            lines.append(f"  {accounts[line.account]}  {amount} {entry.currency}")
            if line.memo:
                lines.append(f"    memo: {_quoted(line.memo)}")
        yield "\n".join([*lines, "", ""])


def named(chart: Sequence[Account]) -> dict[str, str]:
    """A name for each code: the root of its type, and code and name of the account in letters, digits and hyphens."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for account in chart:
        told = f"{_ROOTS[account.type]}:{_component(account.code)}"
        if words := _component(account.name):
            told += f"-{words}"
        # Codes that differ in a dot or a case only would become one account.
        chosen = next(each for each in (told, *(f"{told}-{extra}" for extra in range(2, 1000))) if each not in taken)  # fmt: skip
        taken.add(chosen)
        names[account.code] = chosen
    return names


def _component(text: str) -> str:
    letters = "".join(
        letter if letter.isalpha() or letter.isdecimal() else " " for letter in text.replace("'", "")
    )
    words = "-".join(letters.split())
    return words[:1].upper() + words[1:]


def _number(entry_id: object) -> str | None:
    return number(entry_id) if entry_id else None  # type: ignore[arg-type]


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", printable(text)) + '"'
