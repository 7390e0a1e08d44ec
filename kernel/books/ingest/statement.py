"""What every reader of statements gives: lines, what was refused of them, balances, and errors with their codes.

How a format is read stands in the module of its name, what becomes of a statement in `importing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from kernel.errors import RefusedError

Format = Literal["csv", "ofx", "camt053", "mt940"]
Code = Literal[
    "400_ZIP_UNSUPPORTED_CONTENTS",
    "400_INVALID_FILE_FORMAT",
    "413_FILE_TOO_LARGE",
    "413_TOO_MANY_ROWS",
    "415_UNSUPPORTED_MEDIA_TYPE",
    "422_FILE_ENCRYPTED",
    "422_PARSE_FAILED",
    "422_TABLE_NOT_FOUND",
    "422_LOCALE_AMBIGUOUS",
    "422_AMOUNT_POLARITY_UNKNOWN",
    "422_MALWARE_SUSPECTED",
    "422_RECONCILIATION_FAILED",
    "422_MISSING_REQUIRED_FIELD",
    "422_INVALID_DATA_FORMAT",
]
MEGABYTE = 1_000_000
_LONGEST_REFERENCE = 255  # of a bank's id, which is looked up
_EVIDENCE = 200  # characters of a line that are told with an error


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest file that is read, unpacked, and the most lines of it."""

    largest_bytes: int = 10 * MEGABYTE
    most_lines: int = 100_000


@dataclass(frozen=True, slots=True)
class Account:
    """What a reader has to know of the account that a statement is of. Of a card no file says which sign a charge has."""

    currency: str
    is_card: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, what to do, the place, and a sample of what stands there."""

    code: Code
    message: str
    hint: str
    where: str = ""
    evidence: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message}: {self.hint}"


class StatementError(RefusedError):
    """A file that cannot be read as it stands; nothing of it is kept."""

    def __init__(self, code: Code, message: str, hint: str, *, where: str = "", evidence: str = "") -> None:
        # What is no UTF-8 in the file is shown too, wherever it is shown.
        seen = evidence[:_EVIDENCE].encode("utf-8", "replace").decode()
        self.problem = Problem(code, message.encode("utf-8", "replace").decode(), hint, where, seen)
        super().__init__(str(self.problem))


class Line(NamedTuple):
    """One movement of an account. The amount is in minor units of the currency, negative for what leaves the account.

    `number` is the line of a CSV file on which it begins, and its place among the movements of another format.
    `bank_ref` is what the bank alone gives to it. `raw` is what else the bank says, by its names.
    A tuple, which takes a third of the time of a dataclass: there are many.
    """

    number: int
    post_date: date
    amount_minor: int
    currency: str
    description: str
    counterparty: str = ""
    bank_ref: str | None = None
    value_date: date | None = None
    reference: str = ""
    bank_category: str = ""
    card: str = ""
    balance_minor: int | None = None
    raw: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is no transaction, as it came, and why."""

    number: int
    code: Code
    reason: str
    raw: str


class LineError(Exception):
    """Why a line is no transaction; the reader makes a Rejected of it."""

    def __init__(self, code: Code, reason: str) -> None:
        self.code: Code = code
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Statement:
    """A file as it was read. Balances are in minor units of the currency, None where the file names none.

    `account` is what the file calls the account. `problems` are what does not stop it from being kept.
    """

    format: Format
    currency: str
    lines: tuple[Line, ...]
    rejected: tuple[Rejected, ...] = ()
    opening_minor: int | None = None
    closing_minor: int | None = None
    account: str = ""
    problems: tuple[Problem, ...] = ()


def squeezed(text: str) -> str:
    """The text in one line, its spaces single. Raises LineError for what no database holds."""
    if "\0" in text:
        raise LineError("422_INVALID_DATA_FORMAT", "holds a NUL character: remove it")
    return " ".join(text.split())


def four_digits(card: str) -> str:
    """A card by its last four digits: a whole number is not kept."""
    digits = "".join(character for character in card if character.isdigit())
    return digits[-4:] if len(digits) >= 8 else card


def bank_reference(text: str) -> str | None:
    """Raises LineError for one that is longer than any bank's."""
    if len(text) > _LONGEST_REFERENCE:
        raise LineError("422_INVALID_DATA_FORMAT", f"its id has more than {_LONGEST_REFERENCE} characters")
    return squeezed(text) or None


def required(value: str, name: str) -> str:
    if not value:
        raise LineError("422_MISSING_REQUIRED_FIELD", f"has no {name}")
    return value


def chosen(accounts: Iterable[str], asked: str | None) -> str:
    """Which account of a file is read: the one that is asked for, or the only one.

    Raises StatementError where that is not clear.
    """
    known = sorted(set(accounts))
    if asked is None and len(known) > 1:
        raise StatementError(
            "422_MISSING_REQUIRED_FIELD", f"tells of {len(known)} accounts, {', '.join(known[:5])}",
            "say in the mapping which one is meant, account: ...",
        )  # fmt: skip
    if asked is not None and asked not in known:
        raise StatementError(
            "422_MISSING_REQUIRED_FIELD", f"tells of no account {asked}, only of {', '.join(known[:5])}",
            "correct account in the mapping",
        )  # fmt: skip
    return asked or known[0]


def refuse_currency(currency: str, account: Account) -> None:
    """Raises StatementError for a statement in another currency than the account."""
    if currency.upper() not in ("", account.currency):
        raise StatementError(
            "422_INVALID_DATA_FORMAT", f"is in {currency.upper()}, and the account in {account.currency}",
            "import it into the account that it is of",
        )  # fmt: skip


def refuse_too_many(count: int, limits: Limits) -> None:
    if count > limits.most_lines:
        raise StatementError(
            "413_TOO_MANY_ROWS", f"has more than {limits.most_lines:,} lines, the most of one file", "split it by days",
        )  # fmt: skip
