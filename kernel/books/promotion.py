"""How a rule comes to be active: by what people's labels say for it, after a trial on what was decided, and by a person.

Nothing else makes one active: neither a model's word, nor that it was posted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import blend, facts, intervals, people, rules, transfers, vendors
from kernel.books.contract import BankLine, Opinion, Scored, Surety
from kernel.books.decide import Judged, judge
from kernel.books.rules import Rule
from kernel.errors import RefusedError
from kernel.money import major
from models.books import books_audit
from models.statements import statements

LEAST_LINES, LEAST_DAYS = 20, 3
LEAST_PRECISION = 0.90
MOST_COMPETING = 0.05
# What a trial warns of.
_MANY_CONFLICTS, _MANY_ACCOUNTS = 10, 3
_TRIAL = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Support:
    """What labels say for a rule: of `lines` that it holds for, on so many days, `right` have its account.

    `competing` is the share of the most frequent other account. `flaws` is why it is not enough; nothing when it is.
    """

    lines: int
    days: int
    right: int
    lower_bound: float
    competing: float
    flaws: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A vendor that may become a rule."""

    vendor: str
    account: str
    support: Support


@dataclass(frozen=True, slots=True)
class Tally:
    """Of lines decided: how many would pass every gate, and the primary reasons of the others."""

    lines: int
    passed: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    """A line that would be decided otherwise: the account and the primary reason without the rule, and with it."""

    txn_id: UUID
    on: date
    amount: Decimal
    currency: str
    vendor: str
    account_before: str | None
    reason_before: str | None
    account_after: str | None
    reason_after: str | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a rule would change of the decisions of the last 90 days; nothing was changed."""

    before: Tally
    after: Tally
    affected: tuple[UUID, ...]
    support: Support
    warnings: tuple[str, ...]
    changes: tuple[Change, ...] = ()


def find(connection: sa.Connection, tenant_id: UUID) -> list[Found]:
    """Vendors that no rule is about and whose labels are enough for one, the most frequent first."""
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "least": LEAST_LINES}
    rows = connection.execute(statements("books_rules")["vendors_that_agree"], given).all()
    history = _history(connection, tenant_id)
    asked = [(row, Rule("asked", False, "exact_vendor", row.vendor, row.account_code)) for row in rows]
    found = [Found(row.vendor, row.account_code, support(rule, *history)) for row, rule in asked]
    return [each for each in found if not each.support.flaws]


def support(rule: Rule, lines: Sequence[BankLine], accounts: Sequence[str]) -> Support:
    """What labelled lines say for a rule, alone: `accounts` are the labels in the order of the lines."""
    ruled = rules.evaluate(rules.ruleset([rule]), lines)
    held = [(line, account) for line, account, one in zip(lines, accounts, ruled, strict=True) if one.hits]
    named = Counter(account for _, account in held)
    right, days = named.pop(rule.account, 0), len({line.on for line, _ in held})
    competing = max(named.values(), default=0) / len(held) if held else 0.0
    lower, _ = intervals.wilson(right, len(held))
    flaws = []
    if len(held) < LEAST_LINES:
        flaws.append(f"{len(held)} labelled lines, needs {LEAST_LINES}")
    if days < LEAST_DAYS:
        flaws.append(f"on {days} days, needs {LEAST_DAYS}")
    if not held or lower < LEAST_PRECISION:
        flaws.append(f"lower bound of its precision {lower if held else 0:.3f}, needs {LEAST_PRECISION}")
    if competing > MOST_COMPETING:
        flaws.append(f"another account has {competing:.0%} of the lines, at most {MOST_COMPETING:.0%} may")
    return Support(len(held), days, right, lower if held else 0.0, competing, tuple(flaws))


def propose(
    connection: sa.Connection,
    tenant_id: UUID,
    *,
    match: Literal["exact_vendor", "regex"],
    pattern: str,
    account: str | None = None,
    category: str | None = None,
    conditions: Mapping[str, Any] | None = None,
    priority: int = 100,
    by: str,
    at: datetime,
) -> UUID:
    """Writes down a candidate, with what labels say for it now. It decides nothing until somebody promotes it.

    Raises RefusedError for a pattern or condition that cannot be asked, an account or category that the chart does not
    have, and a rule that is there already.
    """
    person = by if by == people.PIPELINE else people.person(connection, tenant_id, by)
    tenancy.service(connection, tenant_id)
    if match == "exact_vendor":
        pattern = vendors.normalise(pattern)
    pattern = rules.checked_pattern(match, pattern)
    if (account is None) == (category is None):
        raise RefusedError("a rule names an account or a category: give one of the two")
    chart = connection.execute(statements("books_rules")["chart"], {"tenant_id": tenant_id}).all()
    if account is not None and account not in {row.code for row in chart}:
        raise RefusedError(
            f"account {account} is not in the chart of accounts, or not in use: name another one"
        )
    mapped = rules.accounts_by_category(connection, tenant_id)
    if category is not None and category not in mapped:
        raise RefusedError(f"no account means {category}: give an account that category, or name another one")
    checked = rules.checked_conditions(conditions or {})
    made = Rule(str(uuid4()), False, match, pattern, account or mapped[category], category, checked, priority)
    row = {
        "tenant_id": tenant_id, "id": made.id, "match": match, "pattern": pattern, "account_code": account,
        "category": category, "conditions": json.dumps(checked.stored()), "priority": priority, "by": person, "at": at,
        "evidence": json.dumps(asdict(support(made, *_history(connection, tenant_id)))),
    }  # fmt: skip
    try:
        with connection.begin_nested():
            connection.execute(statements("books_rules")["propose"], row)
    except sa.exc.IntegrityError as error:
        if "rules_active_key" not in str(error.orig):
            raise
        raise RefusedError(f"a rule for {pattern!r} is there already: retire or reject it first") from None
    _note(connection, tenant_id, "rule_proposed", person, at, UUID(made.id), pattern=pattern)
    return UUID(made.id)


def try_out(
    connection: sa.Connection,
    tenant_id: UUID,
    rule_id: UUID,
    *,
    at: datetime,
    surety: Surety | None = None,
) -> Trial:
    """Decides the lines of the last 90 days again, without the rule and with it, through all gates; writes nothing."""
    tenancy.service(connection, tenant_id)
    row = _held(connection, tenant_id, rule_id)
    mapped = rules.accounts_by_category(connection, tenant_id)
    added = rules.of_row(row, mapped)
    now = rules.load(connection, tenant_id)
    without = rules.ruleset([rule for rule in now.rules if rule.id != added.id])
    given = {"tenant_id": tenant_id, "since": at - _TRIAL}
    logged = {
        each.txn_id: each for each in connection.execute(statements("books_decide")["newest_in"], given)
    }
    lines = transfers.read(connection, tenant_id, list(logged))
    modelled = [_modelled(logged[line.id]) for line in lines]
    opinions = {
        line.id: Opinion(**told) for line in lines if (told := logged[line.id].explain.get("llm")) is not None
    }
    known = facts.read(connection, tenant_id, lines, at=at)
    judged: list[list[Judged]] = []
    for each in (without, rules.ruleset([*without.rules, added])):
        ruled = rules.evaluate(each, lines)
        blended = blend.blend(ruled, modelled, opinions)
        judged.append(judge(tenant_id, lines, blended, ruled, known, surety=surety))
    changed = [
        (one, other)
        for one, other in zip(*judged, strict=True)
        if (one.scored.account, one.failures) != (other.scored.account, other.failures)
    ]
    conflicts = sum(other.ruled.has_conflict for _, other in changed)
    moved_from = {one.scored.account for one, other in changed if one.scored.account != other.scored.account}
    warnings = []
    if conflicts > _MANY_CONFLICTS:
        warnings.append(f"HIGH_CONFLICT_COUNT: it disagrees with another rule on {conflicts} lines")
    if len(moved_from) > _MANY_ACCOUNTS:
        warnings.append(f"SYSTEMATIC_RECLASSIFICATION: it takes lines from {len(moved_from)} accounts")
    return Trial(
        *map(_tally, judged), tuple(one.line.id for one, _ in changed), support(added, *_history(connection, tenant_id)),
        tuple(warnings), tuple(_change(*each) for each in changed),
    )  # fmt: skip


def promote(connection: sa.Connection, tenant_id: UUID, rule_id: UUID, *, by: str, at: datetime) -> Support:
    """Makes a candidate active. Raises RefusedError when labels do not say enough for it, with what is lacking."""
    person = people.approver(connection, tenant_id, by)
    row = _held(connection, tenant_id, rule_id, "candidate")
    made = rules.of_row(row, rules.accounts_by_category(connection, tenant_id))
    found = support(made, *_history(connection, tenant_id))
    if found.flaws:
        raise RefusedError(f"rule {row.pattern!r} is not promoted: {'; '.join(found.flaws)}")
    _settle(connection, tenant_id, row, "active", person, at, asdict(found))
    return found


def reject(connection: sa.Connection, tenant_id: UUID, rule_id: UUID, *, by: str, at: datetime) -> None:
    """Drops a candidate."""
    person = people.approver(connection, tenant_id, by)
    row = _held(connection, tenant_id, rule_id, "candidate")
    _settle(connection, tenant_id, row, "rejected", person, at, row.evidence)


def retire(connection: sa.Connection, tenant_id: UUID, rule_id: UUID, *, by: str, at: datetime) -> None:
    """Takes an active rule away: it decides nothing more."""
    person = people.approver(connection, tenant_id, by)
    row = _held(connection, tenant_id, rule_id, "active")
    _settle(connection, tenant_id, row, "retired", person, at, row.evidence)


def listed(connection: sa.Connection, tenant_id: UUID, status: str | None = None) -> Sequence[sa.Row[Any]]:
    """The tenant's rules, of one status or all."""
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "status": status}
    return connection.execute(statements("books_rules")["listed"], given).all()


def _settle(
    connection: sa.Connection, tenant_id: UUID, row: sa.Row[Any], status: str, person: str, at: datetime, evidence: Any
) -> None:  # fmt: skip
    given = {"tenant_id": tenant_id, "id": row.id, "status": status, "by": person, "at": at}
    connection.execute(statements("books_rules")["settle"], given | {"evidence": json.dumps(evidence)})
    _note(connection, tenant_id, f"rule_{status}", person, at, row.id, pattern=row.pattern)


def _held(
    connection: sa.Connection, tenant_id: UUID, rule_id: UUID, status: str | None = None
) -> sa.Row[Any]:
    given = {"tenant_id": tenant_id, "id": rule_id}
    row = connection.execute(statements("books_rules")["hold"], given).one_or_none()
    if row is None:
        raise RefusedError(f"the tenant has no rule {rule_id}")
    if status is not None and row.status != status:
        raise RefusedError(f"rule {row.pattern!r} is {row.status}, not {status}: nothing was changed")
    return row


def _history(connection: sa.Connection, tenant_id: UUID) -> tuple[list[BankLine], list[str]]:
    rows = connection.execute(statements("books_rules")["labelled_history"], {"tenant_id": tenant_id}).all()
    return [BankLine(*row[:-1]) for row in rows], [row.account_code for row in rows]


def _modelled(logged: sa.Row[Any]) -> Scored:
    """What a model said of a line when it was decided, from the log."""
    told = logged.explain["model"]
    top = tuple((account, p) for account, p in told["top"])
    return Scored(
        logged.txn_id, told["account"], told["p"], top, logged.is_new_vendor, logged.feature_hash,
        logged.model_version,
    )  # fmt: skip


def _change(one: Judged, other: Judged) -> Change:
    line = one.line
    return Change(
        line.id, line.on, major(line.amount_minor, line.currency), line.currency, line.vendor,
        one.scored.account, next(iter(one.failures), None), other.scored.account, next(iter(other.failures), None),
    )  # fmt: skip


def _tally(judged: Sequence[Judged]) -> Tally:
    reasons = Counter(each.failures[0] for each in judged if each.failures)
    return Tally(len(judged), len(judged) - reasons.total(), dict(reasons))


def _note(
    connection: sa.Connection,
    tenant_id: UUID,
    event: str,
    actor: str,
    at: datetime,
    rule_id: UUID,
    **detail: Any,
) -> None:
    chain.append(connection, books_audit, tenant_id, event, actor=actor, at=at, rule=rule_id, **detail)
