"""Rules: what a bank line's words mean, as people wrote it down. A tenant's own go before those of everybody.

A rule names an account, or a category that the chart of accounts maps to one. All rules are asked; of those that hold
the first decides by tier, priority, specificity and id. How rules come to be active stands in `promotion`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kernel import tenancy
from kernel.books.contract import BankLine
from kernel.errors import RefusedError
from kernel.money import major
from models.statements import statements

LONGEST = 200
_GLOBAL = Path(__file__).parent / "global_rules.yaml"
# A pattern that holds for these says nothing of a line.
_SAYING_NOTHING = ("", "q", "7", "ж")
# Of so many patterns at once it is asked whether any holds: one pass in place of many over the lines that none is about.
_AT_ONCE = 50


class Conditions(BaseModel):
    """What else must be so. Amounts are without their sign, in units of the line's currency."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sign: Literal["in", "out"] | None = None
    least: Decimal | None = Field(None, ge=0)
    most: Decimal | None = Field(None, ge=0)
    bank_account: UUID | None = None

    def hold(self, line: BankLine) -> bool:
        if self.sign is not None and (self.sign == "out") != (line.amount_minor < 0):
            return False
        if self.bank_account is not None and self.bank_account != line.bank_account_id:
            return False
        if self.least is None and self.most is None:
            return True
        amount = major(abs(line.amount_minor), line.currency)
        return (self.least or 0) <= amount and (self.most is None or amount <= self.most)

    def stored(self) -> dict[str, Any]:
        return json.loads(self.model_dump_json(exclude_none=True))


@dataclass(frozen=True, slots=True)
class Rule:
    """`account` is what the category is mapped to in the tenant's chart, None where it is mapped to nothing."""

    id: str
    is_global: bool
    match: Literal["exact_vendor", "regex"]
    pattern: str
    account: str | None
    category: str | None = None
    conditions: Conditions = field(default_factory=Conditions)
    priority: int = 100

    @property
    def tier(self) -> int:
        return 2 * self.is_global + (self.match == "regex")

    @property
    def rank(self) -> tuple[int, int, int, int, str]:
        """The least one decides: more conditions and longer patterns say more of a line."""
        conditions = len(self.conditions.model_fields_set)
        return (self.tier, self.priority, -conditions, -len(self.pattern), self.id)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Rules that are active, the deciding ones first. `version` is a hash of them and of what their categories are mapped to."""

    rules: tuple[Rule, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Ruled:
    """What rules say of a line: `hits` are all that hold, the deciding one first.

    Those without an account here decide nothing. `has_conflict`: of the deciding tier and priority two name different
    accounts.
    """

    account: str | None = None
    hits: tuple[Rule, ...] = ()
    has_conflict: bool = False

    @property
    def deciding(self) -> Rule | None:
        return next((rule for rule in self.hits if rule.account is not None), None)

    def means(self, category: str) -> bool:
        return any(rule.category == category for rule in self.hits)


SILENT = Ruled()


def load(connection: sa.Connection, tenant_id: UUID) -> Ruleset:
    """The tenant's active rules and those of everybody, with the accounts that they mean in its chart."""
    tenancy.service(connection, tenant_id)
    mapped = accounts_by_category(connection, tenant_id)
    rows = connection.execute(statements("books_rules")["active"], {"tenant_id": tenant_id})
    return ruleset([*(of_row(row, mapped) for row in rows), *everybodys(mapped)])


def accounts_by_category(connection: sa.Connection, tenant_id: UUID) -> dict[str, str]:
    """Which account a category means: of several the one with the least code."""
    rows = connection.execute(statements("books_rules")["chart"], {"tenant_id": tenant_id}).all()
    return {row.category: row.code for row in reversed(rows) if row.category}


def of_row(row: sa.Row[Any], mapped: Mapping[str, str]) -> Rule:
    account = row.account_code or mapped.get(row.category)
    conditions = Conditions(**row.conditions)
    return Rule(str(row.id), False, row.match, row.pattern, account, row.category, conditions, row.priority)


def everybodys(mapped: Mapping[str, str]) -> list[Rule]:
    """The platform's rules, as a chart of accounts maps them."""
    return [
        Rule(
            f"global:{told['id']}", True, told["match"], told["pattern"], mapped.get(told["category"]), told["category"],
            Conditions(**told.get("conditions", {})), told.get("priority", 100),
        )
        for told in _told_of_all()
    ]  # fmt: skip


def ruleset(rules: Sequence[Rule]) -> Ruleset:
    ranked = tuple(sorted(rules, key=lambda rule: rule.rank))
    told = [
        [rule.id, rule.match, rule.pattern, rule.account, rule.conditions.stored(), rule.priority]
        for rule in ranked
    ]
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    return Ruleset(ranked, f"r{hashlib.sha256(text.encode()).hexdigest()[:12]}")


def evaluate(rules: Ruleset, lines: Sequence[BankLine]) -> list[Ruled]:
    """What the rules say of each line, in the order of the lines."""
    if not lines:
        return []
    hits: list[list[Rule]] = [[] for _ in lines]
    exact: dict[str, list[Rule]] = {}
    for rule in rules.rules:
        if rule.match == "exact_vendor":
            exact.setdefault(rule.pattern, []).append(rule)
    for place, line in enumerate(lines):
        hits[place].extend(rule for rule in exact.get(line.vendor, ()) if rule.conditions.hold(line))
    patterns = [rule for rule in rules.rules if rule.match == "regex"]
    texts = pa.array([f"{line.description} {line.counterparty}" for line in lines]).dictionary_encode()
    known, codes = texts.dictionary, texts.indices.to_numpy()
    for start in range(0, len(patterns), _AT_ONCE):
        some = patterns[start : start + _AT_ONCE]
        any_of = "|".join(f"(?:{rule.pattern})" for rule in some)
        about = np.flatnonzero(_found(known, any_of))
        if not about.size:
            continue
        asked = known.take(pa.array(about))
        for rule in some:
            holds = np.zeros(len(known), bool)
            holds[about[_found(asked, rule.pattern)]] = True
            for place in np.flatnonzero(holds[codes]).tolist():
                if rule.conditions.hold(lines[place]):
                    hits[place].append(rule)
    return [_ruled(found) if found else SILENT for found in hits]


def _ruled(hits: list[Rule]) -> Ruled:
    if len(hits) == 1:
        return Ruled(hits[0].account, (hits[0],))
    hits.sort(key=lambda rule: rule.rank)
    naming = [rule for rule in hits if rule.account is not None]
    if not naming:
        return Ruled(None, tuple(hits))
    first = naming[0]
    level = {rule.account for rule in naming if (rule.tier, rule.priority) == (first.tier, first.priority)}
    return Ruled(first.account, tuple(hits), len(level) > 1)


def _found(texts: pa.Array, pattern: str) -> np.ndarray:
    # Neither letter nor digit stands next to it: `ups` is no part of "groups".
    whole = rf"(?:^|[^\pL\pN])(?:{pattern})(?:[^\pL\pN]|$)"
    return pc.match_substring_regex(texts, whole, ignore_case=True).to_numpy(zero_copy_only=False)


def checked_pattern(match: str, pattern: str) -> str:
    """The pattern as it is kept. Raises RefusedError for one that cannot be asked for, or holds for every line.

    Patterns are RE2's: asking one takes time that grows with the text's length and not faster.
    """
    pattern = pattern.strip()
    if not 1 <= len(pattern) <= LONGEST:
        raise RefusedError(f"a rule's pattern has 1 to {LONGEST} characters, not {len(pattern)}")
    if match == "regex":
        try:
            # Alone, so that it closes no group of what is written around it.
            pc.match_substring_regex(pa.array([""]), pattern)
            nothing = _found(pa.array(_SAYING_NOTHING), pattern)
        except pa.ArrowInvalid as error:
            raise RefusedError(f"pattern {pattern!r} cannot be asked for: {error}") from None
        if nothing[0] or nothing.all() or nothing[1:].all():
            raise RefusedError(f"pattern {pattern!r} holds for every line: name the words that it is about")
    return pattern


def checked_conditions(given: Mapping[str, Any]) -> Conditions:
    try:
        return Conditions(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise RefusedError(
            f"condition {'.'.join(map(str, first['loc']))}: {first['msg'][0].lower()}{first['msg'][1:]}"
        ) from None


@cache
def _told_of_all() -> list[dict[str, Any]]:
    return yaml.safe_load(_GLOBAL.read_text(encoding="utf-8"))
