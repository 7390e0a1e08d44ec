"""How the books are shown to people: amounts to the cent, short ids, people by name. `--json` gives what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import typer

from dagster_project.cli import ui

if TYPE_CHECKING:
    from kernel.books.export_ledgers import LedgerAccount
    from kernel.books.reconcile import Open, StatementTie
    from kernel.books.review import Waiting

_DIGITS = 8  # of an id, as every command takes it


def amount(value: Decimal | None) -> str | None:
    """To the last decimal of its currency: books are compared digit by digit."""
    return None if value is None else f"{value:,f}"


def line(txn_id: UUID | str) -> str:
    return str(txn_id)[:_DIGITS]


def entry(entry_id: UUID) -> str:
    """The beginning of its journal number."""
    return f"JE-{entry_id.hex[:_DIGITS]}"


def table(rows: Sequence[Mapping[str, Any]], title: str, *, below: bool = False) -> None:
    """Prints rows without the columns that none of them fills, apart from what stands above; nothing for no rows."""
    if not rows:
        return
    filled = [name for name in rows[0] if any(row[name] not in (None, "", [], ()) for row in rows)]
    if below:
        typer.echo()
    ui.emit([{name: row[name] for name in filled} for row in rows], False, title=title)


def counts(told: Mapping[str, Any] | None) -> str | None:
    """Counts by what is counted, as `42 cold_start, 3 anomaly`; None where there is nothing to tell."""
    return (
        ", ".join(
            f"{value:,} {name}" if isinstance(value, int) else f"{name} {ui.shown(value)}"
            for name, value in (told or {}).items()
            if value is not None
        )
        or None
    )


def waiting(each: Waiting, bank_account: str | None) -> dict[str, Any]:
    """`bank_account` is its name, where the tenant has several."""
    return {
        "line": line(each.txn_id),
        "bank account": bank_account,
        "date": each.on,
        "amount": f"{amount(each.amount)} {each.currency}",
        "vendor": each.vendor or each.description,
        "proposed": each.proposed_account,
        "p": None if each.calibrated_p is None else f"{each.calibrated_p:.2f}",
        # In words, so that a narrow terminal folds it between them.
        "reason": (each.reason or "passed").replace("_", " "),
    }


def countersigned(row: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """An entry that one person approved, with who it was by name."""
    from kernel.money import major

    return {
        "entry": entry(row.entry_id),
        "line": line(row.txn_id),
        "date": row.entry_date,
        "amount": f"{amount(major(row.amount_minor, row.currency))} {row.currency}",
        "vendor": row.vendor or row.description,
        "approved by": names.get(row.approved_by, row.approved_by),
    }


def aside(row: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """A line that was set aside, with who did it by name."""
    from kernel.money import major

    return {
        "line": line(row.txn_id),
        "bank account": row.bank_account,
        "date": row.post_date,
        "amount": f"{amount(major(row.amount_minor, row.currency))} {row.currency}",
        "text": row.description,
        "by": names.get(row.set_aside_by, row.set_aside_by),
        "why": row.why,
    }


def open_item(each: Open, what: str, age: int) -> dict[str, Any]:
    return {
        what: line(each.id) if what == "line" else entry(each.id),
        "date": each.on,
        "days": age,
        "amount": f"{amount(each.amount)} {each.currency}",
        "bank account": each.bank_account,
        "text": each.text,
    }


def tie(each: StatementTie) -> dict[str, Any]:
    amounts = ("opening", "lines", "closing", "off", "gap", "unbooked")
    return (
        {"until": each.last_on}
        | {name: amount(getattr(each, name)) for name in amounts}
        | {"statement": each.name}
    )


def ledger(account: LedgerAccount, most: int) -> tuple[list[dict[str, Any]], int]:
    """Its lines between what it held and what it holds, at most so many of them, and how many there are."""
    rows = [_ledger_row(None, None, "Opening balance", None, None, account.opening)]
    # Nothing, to the decimals of the currency.
    nothing = account.opening - account.opening
    count, debit, credit, balance = 0, nothing, nothing, account.opening
    for each in account.lines:
        count, debit, credit, balance = count + 1, debit + each.debit, credit + each.credit, each.balance
        if count <= most:
            rows.append(
                _ledger_row(
                    each.on, entry(each.entry_id), each.memo, each.debit or None, each.credit or None, balance
                )
            )
    rows.append(_ledger_row(None, None, "Closing balance", debit, credit, balance))
    return rows, count


def ledger_document(account: LedgerAccount) -> dict[str, Any]:
    """All of an account, as JSON has it."""
    lines = list(map(ui.plain, account.lines))
    told = {name: getattr(account, name) for name in ("code", "name", "currency", "opening")}
    return told | {"closing": lines[-1]["balance"] if lines else account.opening, "lines": lines}


def _ledger_row(on: Any, entry: str | None, memo: str, *amounts: Decimal | None) -> dict[str, Any]:
    debit, credit, balance = map(amount, amounts)
    return {"date": on, "entry": entry, "memo": memo, "debit": debit, "credit": credit, "balance": balance}
