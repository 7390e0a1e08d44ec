"""Bank lines beside the books: which line stands for which posted entry, what is left of both, and whether statements agree.

Each line and each side of an entry is matched once. How likely two belong together is told in `matching`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import matching
from kernel.books.matching import Ambiguity, Side
from kernel.errors import RefusedError
from kernel.money import major, minor
from models.books import books_audit
from models.statements import array, statements


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What stands after a run, in counts. `kept`: what people said, and what lies in locked months.

    `ambiguous` could be paired in several ways; `off` are lines whose own entry has another amount, with that entry.
    """

    links: int
    exact: int
    heuristic: int
    kept: int
    open_lines: int
    open_entries: int
    ambiguous: tuple[Ambiguity, ...]
    off: tuple[tuple[UUID, UUID], ...]


@dataclass(frozen=True, slots=True)
class Allocation:
    """How much of a line stands for how much of an entry, as the holder of the bank account sees it."""

    txn_id: UUID
    entry_id: UUID
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Open:
    """A bank line without an entry, or what an entry says of a bank account without a line."""

    id: UUID
    on: date
    amount: Decimal
    currency: str
    bank_account: str
    text: str


@dataclass(frozen=True, slots=True)
class StatementTie:
    """A statement beside its lines, the statement before it, and the books.

    `off`: by how much opening and lines miss the closing balance. `gap`: by how much it does not go on where the one before
    it ended. `unbooked`: closing less what the books hold. None: the statement names no balance.
    """

    file_id: UUID
    name: str
    first_on: date | None
    last_on: date | None
    opening: Decimal | None
    lines: Decimal
    closing: Decimal | None
    off: Decimal | None
    gap: Decimal | None
    unbooked: Decimal | None


# A line or a side of an entry, and where it can be matched: account code and currency.
_Sides = dict[tuple[str, str], list[Side]]
_Match = tuple[UUID, UUID]


def reconcile(connection: sa.Connection, tenant_id: UUID, *, actor: str, at: datetime) -> Reconciled:
    """Matches what is open: an entry with the lines it was made from, then by amount and day, then by days nearby.

    What was matched before is thought over with all else, so that the order in which files came does not matter; people's
    allocations and what lies in a locked month stay.
    """
    tenancy.service(connection, tenant_id)
    hold_matches(connection, tenant_id)
    held = _execute(connection, "matches", tenant_id).all()
    lines = {row.id: row for row in _execute(connection, "lines", tenant_id)}
    sides = {(row.id, row.code): row for row in _execute(connection, "sides", tenant_id)}
    locked = set(_execute(connection, "locked_months", tenant_id, most=None).scalars())
    kept = _kept(held, lines, sides, locked)
    taken = [(row.txn_id, (row.entry_id, lines[row.txn_id].code)) for row in kept]
    for txn_id, side in taken:
        lines.pop(txn_id, None)
        sides.pop(side, None)
    wanted, off = _linked(lines, sides)
    links = len(wanted)
    counted: Counter[str] = Counter()
    ambiguous: list[Ambiguity] = []
    entries = _grouped(sides.values(), "entry_date")
    for where, of_lines in _grouped(lines.values(), "post_date").items():
        found = matching.match(of_lines, entries.get(where, ()))
        ambiguous += found.ambiguous
        for pair in found.pairs:
            counted[pair.kind] += 1
            amount = lines.pop(pair.line_id).amount_minor
            sides.pop((pair.entry_id, where[0]))
            wanted[pair.line_id, pair.entry_id] = (amount, pair.kind, pair.score)
    _write(connection, tenant_id, held, kept, wanted, actor=actor, at=at)
    return Reconciled(
        links, counted["exact"], counted["heuristic"], len(kept), len(lines) + len(off), len(sides) + len(off),
        tuple(ambiguous), tuple(off),
    )  # fmt: skip


def hold_matches(connection: sa.Connection, tenant_id: UUID) -> None:
    """Of those who match the tenant's lines, or take matches away, one at a time until the transaction ends."""
    _execute(connection, "hold", tenant_id)


def _kept(
    held: Sequence[Any], lines: dict[UUID, Any], sides: dict[tuple[UUID, str], Any], locked: set[str]
) -> list[Any]:
    """What stays: people's words, and what lies in a locked month, as long as the entry stands.

    Of an allocation all entries stand, or it is over.
    """
    of = {row: sides.get((row.entry_id, lines[row.txn_id].code)) for row in held}
    over = {row.allocation for row, side in of.items() if row.allocation and side is None}
    return [
        row
        for row, side in of.items()
        if side is not None
        and row.allocation not in over
        and (
            row.kind == "allocation"
            or not locked.isdisjoint({f"{lines[row.txn_id].post_date:%Y-%m}", f"{side.entry_date:%Y-%m}"})
        )
    ]


def _linked(
    lines: dict[UUID, Any], sides: dict[tuple[UUID, str], Any]
) -> tuple[dict[_Match, tuple[int, str, Decimal]], list[_Match]]:
    """Entries with the lines that they were made from, taken out of both; and those whose amounts differ, taken out too."""
    wanted: dict[_Match, tuple[int, str, Decimal]] = {}
    off: list[_Match] = []
    for (entry_id, code), side in list(sides.items()):
        for txn_id in (side.source_txn_id, side.other_txn_id):
            line = lines.get(txn_id)
            if line is None or line.code != code:
                continue
            del lines[txn_id], sides[entry_id, code]
            if (line.amount_minor, line.currency) == (side.amount_minor, side.currency):
                wanted[txn_id, entry_id] = (line.amount_minor, "link", Decimal(1))
            else:
                off.append((txn_id, entry_id))
            break
    return wanted, off


def _grouped(rows: Iterable[Any], day: str) -> _Sides:
    found: _Sides = defaultdict(list)
    for row in rows:
        alike = getattr(row, "alike", "")
        found[row.code, row.currency].append(
            Side(row.id, getattr(row, day), row.amount_minor, row.text, alike)
        )
    return found


def _write(
    connection: sa.Connection,
    tenant_id: UUID,
    held: Sequence[Any],
    kept: Sequence[Any],
    wanted: dict[_Match, tuple[int, str, Decimal]],
    *,
    actor: str,
    at: datetime,
) -> None:
    """Only what changed is written: a match that stands keeps its time."""
    same = {
        key
        for row in held
        if (told := wanted.get(key := (row.txn_id, row.entry_id)))
        and told[:2] == (row.amount_minor, row.kind)
    }
    stays = same | {(row.txn_id, row.entry_id) for row in kept}
    gone = [key for row in held if (key := (row.txn_id, row.entry_id)) not in stays]
    _drop(connection, tenant_id, gone)
    new = {key: told for key, told in wanted.items() if key not in same}
    _add(connection, tenant_id, new, actor=actor, at=at)


def allocate(
    connection: sa.Connection, tenant_id: UUID, allocations: Sequence[Allocation], *, actor: str, at: datetime
) -> None:
    """Matches lines and entries by a person's word: one with one, or several, when a deposit or a fee is of many.

    All of one bank account and currency; each line and each entry is accounted for to the cent. What the machine matched of
    them goes. Raises RefusedError, with nothing changed, for what does not add up or is allocated already.
    """
    tenancy.service(connection, tenant_id)
    hold_matches(connection, tenant_id)
    txns, entries = {each.txn_id for each in allocations}, {each.entry_id for each in allocations}
    lines = {row.id: row for row in _execute(connection, "named_lines", tenant_id, ids=array(txns))}
    if missing := txns - lines.keys():
        raise RefusedError(
            f"the tenant has no bank line {min(missing, key=str)}, or it was set aside: nothing was matched"
        )
    places = {(row.code, row.currency) for row in lines.values()}
    if len(places) != 1:
        raise RefusedError(
            f"an allocation is of one bank account and currency, not of {len(places)}: nothing was matched"
        )
    ((code, currency),) = places
    found = _execute(connection, "named_entries", tenant_id, ids=array(entries), code=code)
    sides = {row.id: row for row in found if row.currency == currency}
    if missing := entries - sides.keys():
        raise RefusedError(
            f"entry {min(missing, key=str)} is not posted, was reversed, or says nothing of account {code} in {currency}:"
            " nothing was matched"
        )
    amounts: dict[_Match, int] = {}
    for each in allocations:
        try:
            amount = minor(each.amount, currency)
        except ValueError as error:
            raise RefusedError(f"bank line {each.txn_id}: {error}") from None
        if not amount or (each.txn_id, each.entry_id) in amounts:
            raise RefusedError(
                f"bank line {each.txn_id} and entry {each.entry_id} are matched once, by more than nothing"
            )
        amounts[each.txn_id, each.entry_id] = amount
    _refuse_unequal("bank line", 0, amounts, lines, currency)
    _refuse_unequal("entry", 1, amounts, sides, currency)
    way = _execute(
        connection, "in_the_way", tenant_id, txns=array(txns), entries=array(entries), code=code
    ).all()
    if taken := [row for row in way if row.kind == "allocation"]:
        raise RefusedError(f"bank line {taken[0].txn_id} is allocated already: take that back first")
    _drop(connection, tenant_id, [(row.txn_id, row.entry_id) for row in way])
    wanted = {key: (amount, "allocation", Decimal(1)) for key, amount in amounts.items()}
    _add(connection, tenant_id, wanted, actor=actor, at=at, detail={"allocation": str(uuid4())})
    told = [[str(txn_id), str(entry_id), amount] for (txn_id, entry_id), amount in amounts.items()]
    chain.append(connection, books_audit, tenant_id, "lines_allocated", actor=actor, at=at, allocated=told)


def match(
    connection: sa.Connection,
    tenant_id: UUID,
    txn_ids: Sequence[UUID],
    entry_ids: Sequence[UUID],
    *,
    actor: str,
    at: datetime,
) -> list[Allocation]:
    """Allocates one line to all of its entries, or one entry to all of its lines, each with the whole of its own amount.

    Raises RefusedError as `allocate` does, and for several of both, which do not say what belongs together.
    """
    if 1 not in (len(txn_ids), len(entry_ids)):
        raise RefusedError(
            f"{len(txn_ids)} bank lines and {len(entry_ids)} entries do not say what belongs together: name one line with its"
            " entries, or one entry with its lines"
        )
    tenancy.service(connection, tenant_id)
    found = _execute(connection, "named_lines", tenant_id, ids=array(txn_ids)).all()
    rows: Sequence[Any] = found
    if len(entry_ids) > 1 and found:
        of = {"ids": array(entry_ids), "code": found[0].code}
        rows = _execute(connection, "named_entries", tenant_id, **of).all()
    amounts = {row.id: major(row.amount_minor, row.currency) for row in rows}
    # What is not there has no amount, and is refused by its name.
    made = [
        Allocation(txn_id, entry_id, amounts.get(entry_id if len(entry_ids) > 1 else txn_id, Decimal(0)))
        for txn_id in txn_ids
        for entry_id in entry_ids
    ]
    allocate(connection, tenant_id, made, actor=actor, at=at)
    return made


def _refuse_unequal(
    what: str, place: int, amounts: dict[_Match, int], held: dict[UUID, Any], currency: str
) -> None:
    sums: Counter[UUID] = Counter()
    for key, amount in amounts.items():
        sums[key[place]] += amount
    for each, amount in sums.items():
        if amount != held[each].amount_minor:
            raise RefusedError(
                f"{what} {each} is of {major(held[each].amount_minor, currency)} {currency}, and"
                f" {major(amount, currency)} is allocated: nothing was matched"
            )


def take_back(
    connection: sa.Connection, tenant_id: UUID, txn_id: UUID, *, actor: str, at: datetime, reason: str
) -> None:
    """Takes an allocation back, with all lines that belong to it. Raises RefusedError where there is none."""
    tenancy.service(connection, tenant_id)
    hold_matches(connection, tenant_id)
    gone = _execute(connection, "take_back", tenant_id, txn_id=txn_id).all()
    if not gone:
        raise RefusedError(f"bank line {txn_id} is not allocated: nothing was changed")
    chain.append(
        connection, books_audit, tenant_id, "allocation_taken_back", actor=actor, at=at, reason=reason,
        allocated=[[row.txn_id, row.entry_id] for row in gone],
    )  # fmt: skip


def open_items(
    connection: sa.Connection, tenant_id: UUID, first: date, last: date
) -> tuple[list[Open], list[Open]]:
    """Bank lines without an entry, and what entries say of a bank account without a line; the largest first."""
    tenancy.service(connection, tenant_id)
    days = {"first": first, "last": last}
    lines, entries = (
        [
            Open(row.id, row.on_date, major(row.amount_minor, row.currency), row.currency, row.bank_account, row.text)
            for row in _execute(connection, name, tenant_id, **days)
        ]
        for name in ("open_lines", "open_entries")
    )  # fmt: skip
    return lines, entries


def tie_out(connection: sa.Connection, tenant_id: UUID, bank_account_id: UUID) -> list[StatementTie]:
    """The account's statements in the order of their days, each with what does not agree; see StatementTie."""
    tenancy.service(connection, tenant_id)
    return [
        _tie(row) for row in _execute(connection, "statements", tenant_id, bank_account_id=bank_account_id)
    ]


def _tie(row: Any) -> StatementTie:
    def told(*minors: int | None) -> Decimal | None:
        """The first less the others; None when one of them is not known."""
        known = [each for each in minors if each is not None]
        return major(known[0] - sum(known[1:]), row.currency) if len(known) == len(minors) else None

    opening, closing = row.opening_minor, row.closing_minor
    # Statements whose days overlap do not go on where the other ended.
    goes_on = row.first_date is not None and row.closed_date is not None and row.closed_date < row.first_date
    return StatementTie(
        row.id, row.name, row.first_date, row.last_date, told(opening), major(row.lines_minor, row.currency), told(closing),
        told(closing, opening, row.lines_minor), told(opening, row.closed_minor) if goes_on else None,
        told(closing, row.booked_minor),
    )  # fmt: skip


def locked_months(connection: sa.Connection, tenant_id: UUID, most: int = 2) -> dict[str, tuple[int, int]]:
    """Of the newest locked months, how many bank lines stand for an entry that was not made from them, of how many."""
    tenancy.service(connection, tenant_id)
    found: dict[str, tuple[int, int]] = {}
    for month in _execute(connection, "locked_months", tenant_id, most=most).scalars():
        first = date.fromisoformat(f"{month}-01")
        days = {"first_date": first, "end_date": (first + timedelta(days=31)).replace(day=1)}
        row = connection.execute(
            statements("books_metrics")["reconciled"], {"tenant_id": tenant_id} | days
        ).one()
        found[month] = (row.matched, row.lines)
    return found


def _drop(connection: sa.Connection, tenant_id: UUID, matches: Sequence[_Match]) -> None:
    if matches:
        txns, entries = array(txn for txn, _ in matches), array(entry for _, entry in matches)
        _execute(connection, "drop", tenant_id, txns=txns, entries=entries)


def _add(
    connection: sa.Connection,
    tenant_id: UUID,
    wanted: dict[_Match, tuple[int, str, Decimal]],
    *,
    actor: str,
    at: datetime,
    detail: dict[str, Any] | None = None,
) -> None:
    if not wanted:
        return
    _execute(
        connection, "add", tenant_id, actor=actor, at=at, detail=json.dumps(detail or {}),
        txns=array(txn for txn, _ in wanted), entries=array(entry for _, entry in wanted),
        amounts=array(told[0] for told in wanted.values()), kinds=array(told[1] for told in wanted.values()),
        scores=array(told[2] for told in wanted.values()),
    )  # fmt: skip


def _execute(connection: sa.Connection, name: str, tenant_id: UUID, **given: Any) -> sa.CursorResult[Any]:
    return connection.execute(statements("books_reconcile")[name], {"tenant_id": tenant_id} | given)
