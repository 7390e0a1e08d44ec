"""What a language model says of bank lines that nobody else knows: the port to it, and who is asked what.

A model chooses one account of the chart, or none. It is told neither amounts nor dates, nor numbers of cards, accounts and
telephones, nor mail addresses; what it may cost stands in `llm_budget`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import llm_budget, prices
from kernel.books.contract import BankLine, Opinion
from kernel.books.llm_budget import Caps, Refused, Reservation
from kernel.books.prices import Price
from models.statements import statements, texts

# With another question the same line is asked about anew.
PROMPT_VERSION = "1"
# A service that fails so often in a row is left alone until the next batch.
MOST_FAILURES = 3
_LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Account:
    code: str
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Question:
    """Of a line: who was paid or paid, and what the bank says of it, both without what is personal."""

    vendor: str
    description: str
    is_out: bool

    @classmethod
    def of(cls, line: BankLine) -> Question:
        return cls(
            redacted(line.vendor or line.counterparty), redacted(line.description), line.amount_minor < 0
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, word by word, and what it counted; None where it does not say."""

    said: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class NotAsked(Exception):
    """The model was certainly not asked, or refused: it costs nothing."""


class NoReply(Exception):
    """No reply came that can be read, and nobody knows what it costs."""


class Labeller(Protocol):
    model: str

    def most_tokens(self, question: Question, accounts: Sequence[Account]) -> tuple[int, int]:
        """How many tokens a question and its reply have at most."""
        ...

    def ask(self, question: Question, accounts: Sequence[Account]) -> Reply:
        """Raises NotAsked and NoReply."""
        ...


@dataclass(frozen=True, slots=True)
class Answered:
    """`accounts` of the lines that the model knows one for; `micros` is what asking cost, in millionths of a US dollar.

    `left`: lines that nobody was asked about. `refused`: the cap that ended the asking. `is_away`: it ended because the
    service failed MOST_FAILURES times in a row, `why` the last time.
    """

    accounts: dict[UUID, str] = field(default_factory=dict)
    calls: int = 0
    cached: int = 0
    failures: int = 0
    left: int = 0
    micros: int = 0
    refused: llm_budget.Reason | None = None
    is_away: bool = False
    why: str | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """What came of a question: `why` none came of it, and what that cost."""

    account: str | None
    micros: int
    why: str | None = None


def answers(
    engine: sa.Engine,
    tenant_id: UUID,
    lines: Sequence[BankLine],
    labeller: Labeller,
    *,
    caps: Caps,
    clock: Callable[[], datetime],
    most: int | None = None,
    until: datetime | None = None,
    price_list: Sequence[Price] | None = None,
) -> Answered:
    """Asks about each vendor and sign once, as long as no cap is crossed; what was answered before is not asked again.

    At most `most` questions, and none after `until`. Raises RefusedError for a model without a price.
    """
    with engine.begin() as connection:
        accounts, keys, found = _before(connection, tenant_id, lines, labeller.model)
    calls: list[_Call] = []
    cached, in_a_row, refused = len(found), 0, None
    for line in lines:
        key = keys[line.id]
        if key in found:
            continue
        if len(calls) == most or in_a_row == MOST_FAILURES or (until is not None and clock() >= until):
            break
        reserved = _reserved(engine, tenant_id, line, key, labeller, accounts, caps, clock(), price_list)
        if isinstance(reserved, Refused):
            refused = reserved.reason
            break
        made = _asked(engine, reserved, line, labeller, accounts, clock, price_list)
        calls.append(made)
        in_a_row = in_a_row + 1 if made.why else 0
        if not made.why:
            found[key] = made.account
    failed = [each.why for each in calls if each.why]
    return Answered(
        {line.id: account for line in lines if (account := found.get(keys[line.id]))}, len(calls), cached, len(failed),
        sum(keys[line.id] not in found for line in lines), sum(each.micros for each in calls), refused,
        in_a_row == MOST_FAILURES, failed[-1] if failed else None,
    )  # fmt: skip


def known(
    connection: sa.Connection, tenant_id: UUID, lines: Sequence[BankLine], model: str
) -> dict[UUID, Opinion]:
    """What a model answered of lines when it was asked; nobody is asked now."""
    _, keys, found = _before(connection, tenant_id, lines, model)
    return {line.id: Opinion(model, account) for line in lines if (account := found.get(keys[line.id]))}


def _before(
    connection: sa.Connection, tenant_id: UUID, lines: Sequence[BankLine], model: str
) -> tuple[list[Account], dict[UUID, str], dict[str, str | None]]:
    """The accounts to choose from, the keys of lines, and what was answered to those; None where no account was chosen."""
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id}
    accounts = [Account(*row) for row in connection.execute(_sql("accounts"), given)]
    chart = _hashed([[account.code, account.name, account.type] for account in accounts])
    keys = {line.id: _cache_key(line, chart, model) for line in lines}
    rows = connection.execute(_sql("answers"), given | {"keys": texts(sorted(set(keys.values())))})
    return accounts, keys, {row.cache_key: row.answer["account"] for row in rows}


def _reserved(
    engine: sa.Engine,
    tenant_id: UUID,
    line: BankLine,
    key: str,
    labeller: Labeller,
    accounts: Sequence[Account],
    caps: Caps,
    at: datetime,
    price_list: Sequence[Price] | None,
) -> Reservation | Refused:
    price = prices.price(labeller.model, at.astimezone(UTC).date(), price_list)
    worst = price.cost(*labeller.most_tokens(Question.of(line), accounts))
    with engine.begin() as connection:
        return llm_budget.reserve(
            connection, tenant_id, line.id, model=labeller.model, cache_key=key, micros=worst, caps=caps, at=at
        )  # fmt: skip


def _asked(
    engine: sa.Engine,
    reserved: Reservation,
    line: BankLine,
    labeller: Labeller,
    accounts: Sequence[Account],
    clock: Callable[[], datetime],
    price_list: Sequence[Price] | None,
) -> _Call:
    """The account that the model chose, settled with the call."""
    at = clock()
    try:
        reply = labeller.ask(Question.of(line), accounts)
    except NotAsked as error:
        with engine.begin() as connection:
            llm_budget.give_back(connection, reserved, at=clock())
        return _Call(None, 0, str(error))
    except NoReply as error:
        with engine.begin() as connection:
            llm_budget.settle(
                connection, reserved, micros=reserved.micros, prompt_tokens=None, completion_tokens=None, answer=None,
                at=clock(),
            )  # fmt: skip
        return _Call(None, reserved.micros, str(error))
    account = chosen(reply.said, accounts)
    micros = reserved.micros
    if reply.prompt_tokens is not None and reply.completion_tokens is not None:
        price = prices.price(labeller.model, at.astimezone(UTC).date(), price_list)
        micros = price.cost(reply.prompt_tokens, reply.completion_tokens)
    with engine.begin() as connection:
        llm_budget.settle(
            connection, reserved, micros=micros, prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens, answer={"account": account, "said": _cut(reply.said)}, at=clock(),
        )  # fmt: skip
    return _Call(account, micros)


def chosen(said: str, accounts: Sequence[Account]) -> str | None:
    """The account whose code the model said, and nothing else; None for whatever is no code of the chart."""
    code = said.strip().strip("\"'`.").strip()
    return code if any(code == account.code for account in accounts) else None


_MAIL = re.compile(r"[^\s@<>]+@[^\s@<>]+\.[^\s@<>]+")
# Two letters, two digits, groups of four; with eight digits it is no word of a description.
_IBAN = re.compile(r"\b(?=(?:[A-Z ]*\d){8})[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_MASKED = re.compile(r"(?:[*xX•]{2,}[ -]?)+\d{2,}")
# Seven digits and more, with what people write between them: cards, accounts, telephones, social security numbers.
_NUMBER = re.compile(r"\+?\(?\d(?:[ ().\-/]{0,3}\d){6,}")


def redacted(text: str) -> str:
    """The text without mail addresses and long numbers, and not longer than a bank writes it."""
    for pattern, word in (
        (_MAIL, "[mail]"),
        (_IBAN, "[account]"),
        (_MASKED, "[card]"),
        (_NUMBER, "[number]"),
    ):
        text = pattern.sub(word, text)
    return _cut(text)


def _cut(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:_LONGEST_TEXT]


def _cache_key(line: BankLine, chart: str, model: str) -> str:
    """What a reply depends on: a tenant's vendor and sign, its chart of accounts, the question, the model."""
    question = Question.of(line)
    of = question.vendor or question.description.casefold()
    return _hashed([of, question.is_out, chart, PROMPT_VERSION, model])


def _hashed(told: object) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _sql(name: str) -> sa.TextClause:
    return statements("books_llm")[name]


@dataclass(frozen=True, slots=True)
class StandIn:
    """Answers without asking anybody: the account whose name shares most words with the line. For tests and trials."""

    model: str = "stand-in"

    def most_tokens(self, question: Question, accounts: Sequence[Account]) -> tuple[int, int]:
        return len(_words(question)) + len(accounts), 1

    def ask(self, question: Question, accounts: Sequence[Account]) -> Reply:
        words = _words(question)
        shared = {account.code: len(words & set(account.name.casefold().split())) for account in accounts}
        best = max(shared, key=lambda code: shared[code], default="")
        said = best if best and shared[best] else "none"
        return Reply(said, *self.most_tokens(question, accounts))


def _words(question: Question) -> set[str]:
    return set(f"{question.vendor} {question.description}".casefold().split())
