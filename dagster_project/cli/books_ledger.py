"""The ledger: accounts with their lines and balances, months that are locked, and the files that others get."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from dagster_project.cli import asked, ui
from dagster_project.cli import books_views as views

_Month = Annotated[str, typer.Argument(help="2026-12.")]
_File = Annotated[Path | None, typer.Option(help="Write all of it to this file, as CSV.")]
_BEANCOUNT = "beancount"
_AMOUNTS = ("debit", "credit", "balance")


def general_ledger(
    tenant: asked.Tenant,
    month: Annotated[
        str | None,
        typer.Argument(metavar="[MONTH]", help="2026-12; from the first entry to today when left out."),
    ] = None,
    account: Annotated[str | None, typer.Option(help="Only the account of this code.")] = None,
    to: _File = None,
    most: Annotated[int, typer.Option(help="Show at most so many lines of an account.", min=0)] = 50,
    as_json: ui.Json = False,
) -> None:
    """The general ledger: what each account held, every line posted to it, and the balance after it."""
    from kernel.books import accounts, export_ledgers, ledger

    first, last = (date.min, asked.now().date()) if month is None else ledger.days_of(month)
    with asked.of(tenant) as (connection, found):
        if account is not None:
            accounts.require(connection, found.id, account)
        if to is not None:
            _write(to, export_ledgers.general_ledger(connection, found.id, first, last, code=account))
            ui.emit({"file": str(to)}, as_json)
            return
        told = export_ledgers.ledger_accounts(connection, found.id, first, last, code=account)
        if as_json:
            ui.emit([views.ledger_document(each) for each in told], as_json)
            return
        number = 0
        for number, each in enumerate(told, 1):
            rows, count = views.ledger(each, most)
            shown = f", {most} of {count:,} lines shown" if count > most else ""
            if number > 1:
                typer.echo()
            # Every column of every account: people read them one below the other.
            ui.emit(rows, False, title=f"{each.code} {each.name}, {each.currency}{shown}")
    if not number:
        typer.echo(ui.lines(f"Nothing was posted in {month}." if month else "Nothing was posted yet."))


def trial_balance(
    tenant: asked.Tenant,
    until: Annotated[str | None, typer.Option(help="A day, 2026-12-31; today when left out.")] = None,
    to: _File = None,
    as_json: ui.Json = False,
) -> None:
    """The trial balance: what was posted to each account."""
    from kernel.books import export_ledgers, ledger

    day = asked.now().date() if until is None else asked.day(until)
    with asked.of(tenant) as (connection, found):
        if to is not None:
            _write(to, [export_ledgers.trial_balance(connection, found.id, day)])
            ui.emit({"file": str(to)}, as_json)
            return
        rows = [
            {"code": each.code, "name": each.name, "type": each.type, "currency": each.currency, "debit": each.debit,
             "credit": each.credit, "balance": each.balance}
            for each in ledger.trial_balance(connection, found.id, day)
        ]  # fmt: skip
    if not as_json:
        rows += _totals(rows)
        rows = [row | {name: views.amount(row[name]) for name in _AMOUNTS} for row in rows]
    ui.emit(rows, as_json, title=f"Trial balance of {found.name} on {day}")


def _totals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each currency, as the file of the trial balance ends with."""
    return [
        {"code": "TOTALS", "name": None, "type": None, "currency": currency}
        | {name: sum(row[name] for row in rows if row["currency"] == currency) for name in _AMOUNTS}
        for currency in sorted({row["currency"] for row in rows})
    ]


def _write(file: Path, pieces: Any) -> None:
    try:
        with file.open("w", encoding="utf-8", newline="") as opened:
            opened.writelines(pieces)
    except OSError as error:
        ui.fail(f"{file} cannot be written: {error.strerror}")


def lock(month: _Month, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False) -> None:
    """Let nobody post into a month any more."""
    from kernel.books import ledger

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        ledger.lock(connection, found.id, month, actor=who, at=asked.now())
        waiting = ledger.unposted(connection, found.id, month)
    ui.emit({"month": month, "state": "LOCKED", "lines_not_posted": waiting}, as_json)
    if waiting:
        back = f"revenue-os books reopen {month} takes the lock back"
        ui.step("Next", f"{waiting} lines of {month} are not posted, and now cannot be: {back}")


def reopen(
    month: _Month, why: asked.Why, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False
) -> None:
    """Take the lock of a month back; why stands in the audit."""
    from kernel.books import ledger

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        ledger.reopen(connection, found.id, month, actor=who, at=asked.now(), reason=why)
    ui.emit({"month": month, "state": "OPEN"}, as_json)


def export_entries(
    tenant: asked.Tenant,
    target: Annotated[str, typer.Option(help="qbo_csv, xero_csv or beancount.")] = "qbo_csv",
    to: Annotated[Path | None, typer.Option(help="Folder; REVENUE_OS_BOOKS_EXPORTS/TENANT when left out.")] = None,
    again: Annotated[str | None, typer.Option(help="Id of an export, or its beginning, whose file is written again, byte for byte.")] = None,
    history: Annotated[bool, typer.Option("--history", help="What was handed out so far.")] = False,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:  # fmt: skip
    """Hand posted entries to an accounting system: each goes out once, however often it is asked for."""
    from dagster_project.cli import usage_views
    from dagster_project.settings import settings
    from kernel.books import export, export_ledgers
    from models.books_release import EXPORT_TARGETS

    if target not in (*EXPORT_TARGETS, _BEANCOUNT):
        ui.fail(f"export target {target!r} is unknown: use {', '.join(EXPORT_TARGETS)} or {_BEANCOUNT}")
    engine = ui.connect()
    with asked.of(tenant) as (connection, found):
        folder = to or settings().books_exports / found.slug
        if history:
            rows = export.history(connection, found.id)
            short = [
                {"export": views.line(each.id), "target": each.target, "entries": each.entries, "lines": each.lines,
                 "when": f"{each.exported_at or each.requested_at:%Y-%m-%d %H:%M}"}
                for each in rows
            ]  # fmt: skip
            ui.emit(rows if as_json else short, as_json, title=f"Exports of {found.name}")
            return
        who = asked.speaker(connection, found.id, user, asked.ANYBODY)
        if again is not None:
            known = [ui.plain(each) for each in export.history(connection, found.id)]
            export_id = usage_views.id_of(again, known, "export")
            made = export.content(connection, found.id, export_id)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{export_id}.csv").write_bytes(made)
            ui.emit({"file": str(folder / f"{export_id}.csv"), "bytes": len(made)}, as_json)
            return
        if target == _BEANCOUNT:
            folder.mkdir(parents=True, exist_ok=True)
            place = folder / f"{found.slug}.beancount"
            place.write_text(
                "".join(export_ledgers.beancount_ledger(connection, found.id, date.max)), encoding="utf-8"
            )
            ui.emit({"file": str(place)}, as_json)
            return
    done = export.export(engine, found.id, target, folder, actor=who, at=asked.now())
    ui.emit(
        {"new": done.new, "skipped": done.skipped, "total_lines": done.total_lines, "left_out": done.left_out,
         "files": [str(file) for file in done.files]},
        as_json,
    )  # fmt: skip
