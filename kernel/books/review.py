"""The review queue: lines that wait for a person, why each does, and what the person says of it, which is booked at once.

A line is labelled once by an approval; whoever changes their mind corrects it. What is posted is reversed and booked anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import aside, autopost, journal, labels, ledger, people, plans, settings
from kernel.books.contract import REASONS, Reason
from kernel.books.holding import hold
from kernel.books.labels import Label, Source
from kernel.errors import RefusedError
from kernel.money import major
from models.statements import array, statements


@dataclass(frozen=True, slots=True)
class Waiting:
    """A line that waits. `at_risk` is its amount times the probability that the proposal is wrong."""

    txn_id: UUID
    decision: int
    on: date
    amount: Decimal
    currency: str
    description: str
    vendor: str
    proposed_account: str | None
    calibrated_p: Decimal | None
    verdict: str
    reason: Reason | None
    failures: tuple[str, ...]
    at_risk: Decimal


@dataclass(frozen=True, slots=True)
class Queue:
    """The first lines that wait, and how many wait in all by their reason; those that passed every gate under `passed`."""

    lines: list[Waiting]
    by_reason: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.by_reason.values())


@dataclass(frozen=True, slots=True)
class Answered:
    """`posted` are entries; those in `needs_another` wait for a second person. `already` are lines that need no answer any
    more, `locked` those that keep waiting because their month is locked.
    """

    labelled: int
    posted: tuple[UUID, ...] = ()
    needs_another: tuple[UUID, ...] = ()
    already: tuple[UUID, ...] = ()
    locked: tuple[UUID, ...] = ()


def queue(
    connection: sa.Connection,
    tenant_id: UUID,
    *,
    reason: Reason | None = None,
    vendor: str | None = None,
    only_passed: bool = False,
    most: int = 100,
) -> Queue:
    """Lines that wait for a person, the most money at risk first; `only_passed`: those that passed every gate."""
    given = {"reason": reason, "vendor": vendor, "only_passed": only_passed, "most": most}
    return _waiting(connection, tenant_id, "waiting", given)


def audit_queue(connection: sa.Connection, tenant_id: UUID, *, most: int = 100) -> Queue:
    """Lines that were posted by themselves and drawn to be looked at."""
    return _waiting(connection, tenant_id, "waiting_for_audit", {"most": most})


def second_queue(connection: sa.Connection, tenant_id: UUID) -> Sequence[sa.Row[Any]]:
    """Entries that one person approved and another one must: entry_id, txn_id, approved_by, and the line."""
    tenancy.service(connection, tenant_id)
    return _execute(connection, "waiting_for_another", tenant_id).all()


def approve(
    connection: sa.Connection,
    tenant_id: UUID,
    ids: Sequence[UUID],
    *,
    by: str,
    at: datetime,
    source: Source = "approve",
    seen: Mapping[UUID, str] | None = None,
) -> Answered:
    """Says of lines that their proposals are right, and posts them; what was posted by itself is only labelled, as audited.

    `seen`: the accounts that the person saw proposed, by line; another decision may have come since. Above the amount for
    which two people are needed the entry waits for `countersign`. Lines with a label are passed by. Raises RefusedError, with
    nothing changed, for a line without a proposal or with another one than was seen, a month that is locked, and for who
    is no approver of the tenant.
    """
    person = people.approver(connection, tenant_id, by)
    hold(connection, tenant_id)
    held = labels.hold(connection, tenant_id, ids)
    already = labels.newest(connection, tenant_id, ids)
    decided = _decided(connection, tenant_id, [each for each in ids if each not in already])
    for txn_id, account in (seen or {}).items():
        if txn_id in already and already[txn_id].account != account:
            raise RefusedError(
                f"bank line {txn_id} was answered already, with account {already[txn_id].account} and not {account}: correct it, if"
                " that is wrong"
            )
        if txn_id in decided and decided[txn_id].proposed_account != account:
            raise RefusedError(
                f"for bank line {txn_id} account {decided[txn_id].proposed_account} is proposed by now, and not {account}: look at"
                " it again, or correct it"
            )
    # Of a transfer both lines are answered.
    both = [UUID(row.other_id) for row in decided.values() if row.other_id]
    if added := [each for each in both if each not in decided and each not in already]:
        held |= labels.hold(connection, tenant_id, added)
        decided |= _decided(connection, tenant_id, added)
    journal.propose(connection, tenant_id, at=at, ids=list(decided))
    entries = journal.live(connection, tenant_id, list(decided))
    if unbooked := [each for each in decided if each not in entries]:
        raise RefusedError(f"no entry can be made for bank line {unbooked[0]} as it was decided: correct it")
    posted_before = {txn_id for txn_id, entry in entries.items() if entry.status == "posted"}
    for chosen, told in ((posted_before, "audit"), (decided.keys() - posted_before, source)):
        written = [Label(each, decided[each].proposed_account, decided[each].number) for each in chosen]
        labels.write(connection, tenant_id, written, source=told, by=person, at=at)
    waiting = {entry.id: entry for entry in entries.values() if entry.status == "proposed"}
    done = _settle(connection, tenant_id, waiting, held, person, at)
    return Answered(len(decided), *done, tuple(already))


def countersign(
    connection: sa.Connection, tenant_id: UUID, entry_ids: Sequence[UUID], *, by: str, at: datetime
) -> Answered:
    """Posts entries that another person approved."""
    person = people.approver(connection, tenant_id, by)
    hold(connection, tenant_id)
    found = {row.entry_id: row for row in _execute(connection, "waiting_for_another", tenant_id)}
    for each in entry_ids:
        if each not in found:
            raise RefusedError(f"entry {each} does not wait for a second person")
        if found[each].approved_by == person:
            raise RefusedError(f"entry {each} was approved by you: ask another approver or owner")
    journal.hold_open(
        connection, tenant_id, [(found[each].txn_id, found[each].entry_date) for each in entry_ids], at=at
    )
    ledger.post(connection, tenant_id, list(entry_ids), actor=person, at=at)
    return Answered(0, tuple(entry_ids))


def correct(
    connection: sa.Connection,
    tenant_id: UUID,
    accounts: Mapping[UUID, str],
    *,
    by: str,
    at: datetime,
    on: date | None = None,
) -> Answered:
    """Says which accounts lines belong to. A proposal is replaced; what is posted is reversed and booked anew.

    Of a transfer both lines are given, since they are booked apart then. A line that stands in an older ledger (its label
    is `booked`) is only labelled, and one that a person booked so before is passed by. `on` is the day of reversals and new
    entries, where a line's own month is locked. Raises RefusedError, with nothing changed, as `approve` does, and for a day
    that has not come or lies before a line.
    """
    person = people.approver(connection, tenant_id, by)
    hold(connection, tenant_id)
    held = labels.hold(connection, tenant_id, list(accounts))
    journal.refuse_day(on, [line.post_date for line in held.values()], at)
    said = labels.newest(connection, tenant_id, list(accounts))
    live = journal.live(connection, tenant_id, list(accounts))
    already = [
        each
        for each, account in accounts.items()
        if on is None and each in said and said[each].account == account and each in live
        and live[each].status == "posted" and not live[each].other_id
    ]  # fmt: skip
    accounts = {each: account for each, account in accounts.items() if each not in already}
    live = {each: entry for each, entry in live.items() if each in accounts}
    ids = list(accounts)
    decided = _newest_decisions(connection, tenant_id, ids)
    for txn_id, account in accounts.items():
        if account == held[txn_id].bank_code:
            raise RefusedError(
                f"account {account} is the one that the statement is of: name where the money went"
            )
    journal.refuse_halves(live, accounts.keys())
    by_source: dict[Source, list[Label]] = defaultdict(list)
    for txn_id, account in accounts.items():
        source = _source_of_correction(said.get(txn_id), decided.get(txn_id), live.get(txn_id))
        number = decided[txn_id].number if txn_id in decided else None
        by_source[source].append(Label(txn_id, account, number))
    for source, written in by_source.items():
        labels.write(connection, tenant_id, written, source=source, by=person, at=at)
    elsewhere = {each.txn_id for each in by_source["booked"]}
    made = [_dated(journal.entry(held[each], accounts[each]), on) for each in ids if each not in elsewhere]
    standing = {entry.id: entry for entry in live.values()}.values()
    days = [(each.source_txn_id, each.on) for each in made]
    days += [(entry.source_txn_id, on or entry.entry_date) for entry in standing]
    journal.hold_open(connection, tenant_id, days, at=at)
    for entry in standing:
        if entry.status == "posted":
            day = on or entry.entry_date
            ledger.reverse(connection, tenant_id, entry.id, on=day, actor=person, at=at, reason="corrected")
        else:
            ledger.reject(connection, tenant_id, [entry.id], actor=person, at=at, reason="corrected")
    ledger.propose(connection, tenant_id, made, actor=person, at=at)
    new = journal.live(connection, tenant_id, [each.source_txn_id for each in made])
    done = _settle(connection, tenant_id, {entry.id: entry for entry in new.values()}, held, person, at)
    return Answered(len(accounts), *done, tuple(already))


def _source_of_correction(said: labels.Said | None, decided: Any, live: Any) -> Source:
    if live is None and said is not None and said.source == "booked":
        return "booked"
    return (
        "audit"
        if live is not None and live.status == "posted" and decided and decided.is_audited
        else "correct"
    )


def _dated(entry: ledger.Entry, on: date | None) -> ledger.Entry:
    return entry if on is None else replace(entry, on=on)


def explain(connection: sa.Connection, tenant_id: UUID, txn_id: UUID) -> dict[str, Any]:
    """The newest decision about a line, in words that people and screens use; made of nothing but what was stored."""
    tenancy.service(connection, tenant_id)
    row = _execute(connection, "explained", tenant_id, id=txn_id).one_or_none()
    if row is None:
        raise RefusedError(f"bank line {txn_id} was not decided about yet")
    told = row.explain
    said = labels.newest(connection, tenant_id, [txn_id]).get(txn_id)
    apart = aside.standing(connection, tenant_id, [txn_id]).get(txn_id)
    amount = major(abs(row.amount_minor), row.currency)
    return {
        "transaction_id": str(row.txn_id),
        "date": row.post_date.isoformat(),
        "vendor": row.vendor,
        "description": row.description,
        "amount": str(major(row.amount_minor, row.currency)),
        "currency": row.currency,
        "proposed_account": row.proposed_account,
        "calibrated_p": _number(row.calibrated_p),
        "auto_post_eligible": row.verdict != "review",
        "auto_post_decision": row.verdict,
        "not_auto_post_reason": row.not_auto_post_reason,
        "failures": row.failures,
        "held_back": told.get("held_back"),
        "cold_start": told["cold_start"]
        | {
            "vendor_normalized": row.vendor,
            "label_count": row.label_count,
            "eligible": "cold_start" not in row.failures,
        },
        "rules": told.get("rules", {"decided": None, "conflict": False, "hits": []}),
        "model": told["model"] | {"version": row.model_version, "new_vendor": row.is_new_vendor},
        "sources": told.get("sources", {}),
        "llm": told.get("llm"),
        "blend": {"top": told.get("blend", told["model"]["top"]), "total": _number(row.raw_p)},
        "calibration": {
            "version": row.calibrator_version,
            "uncalibrated": _number(row.raw_p),
            "calibrated": _number(row.calibrated_p),
            "threshold": _number(row.threshold),
            "gate": told["gate"],
        },
        "confidence": told.get("confidence"),
        "anomaly": told.get("anomaly"),
        "suspected_of": row.suspected_of and str(row.suspected_of),
        "set_aside": None
        if apart is None
        else {"why": apart.why, "by": apart.set_aside_by, "at": apart.set_aside_at.isoformat()},
        "brake": told.get("brake"),
        "transfer": told.get("transfer"),
        "balance_check": {
            "debit": str(amount) if row.proposed_account else None,
            "credit": str(amount) if row.proposed_account else None,
            "balanced": row.proposed_account is not None and "imbalance" not in row.failures,
        },
        "versions": {
            "ruleset": row.ruleset_version,
            "config": row.config_version,
            "features": row.feature_hash,
        },
        "decision": row.number,
        "hash": row.hash,
        "run_id": row.run_id,
        "timestamp": row.decided_at.isoformat(),
        "label": None
        if said is None
        else {"account": said.account, "by": said.by, "at": said.at.isoformat()},
    }


def _settle(
    connection: sa.Connection,
    tenant_id: UUID,
    entries: dict[UUID, sa.Row[Any]],
    held: dict[UUID, labels.Held],
    person: str,
    at: datetime,
) -> tuple[tuple[UUID, ...], tuple[UUID, ...]]:
    """Approves proposals, and posts those for which one person is enough: which were posted, and which wait."""
    limit = settings.current(connection, tenant_id).settings.four_eyes_above
    posting, waiting = [], []
    for entry in entries.values():
        line = held[entry.source_txn_id]
        is_large = autopost.needs_two(line.amount_minor, line.currency, limit)
        (waiting if is_large else posting).append(entry.id)
    journal.hold_open(
        connection, tenant_id, [(each.source_txn_id, each.entry_date) for each in entries.values()], at=at
    )
    if entries:
        ledger.approve(connection, tenant_id, list(entries), actor=person, at=at)
    if posting:
        ledger.post(connection, tenant_id, posting, actor=person, at=at)
    return tuple(posting), tuple(waiting)


def _decided(connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> dict[UUID, sa.Row[Any]]:
    """The newest decisions of lines. Raises RefusedError for one that proposes nothing."""
    found = _newest_decisions(connection, tenant_id, ids)
    for each in ids:
        if each not in found or found[each].proposed_account is None:
            raise RefusedError(
                f"nothing is proposed for bank line {each}: correct it with the account it belongs to"
            )
    return found


def _newest_decisions(
    connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID]
) -> dict[UUID, sa.Row[Any]]:
    given = {"tenant_id": tenant_id, "ids": array(ids)}
    return {row.txn_id: row for row in connection.execute(statements("books_journal")["decisions_of"], given)}


def _waiting(connection: sa.Connection, tenant_id: UUID, name: str, given: dict[str, Any]) -> Queue:
    tenancy.service(connection, tenant_id)
    with plans.without_loops(connection):
        rows = _execute(connection, name, tenant_id, **given).all()
    counted = rows[0].counted if rows else {}
    lines = [
        Waiting(
            row.txn_id, row.number, row.post_date, major(row.amount_minor, row.currency), row.currency, row.description,
            row.vendor, row.proposed_account, row.calibrated_p, row.verdict, row.not_auto_post_reason,
            tuple(row.failures), major(row.at_risk_minor, row.currency),
        )
        for row in rows
    ]  # fmt: skip
    return Queue(lines, {name: counted[name] for name in (*REASONS, "passed") if name in counted})


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _execute(connection: sa.Connection, name: str, tenant_id: UUID, **given: Any) -> sa.CursorResult[Any]:
    return connection.execute(statements("books_review")[name], {"tenant_id": tenant_id} | given)
