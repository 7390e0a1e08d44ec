"""Statements: how they come in, what of them is set aside, and how they stand beside the books."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from dagster_project.cli import asked, ui
from dagster_project.cli import books_views as views

_Line = Annotated[str, typer.Argument(metavar="LINE", help="Id of a bank line, or its beginning.")]
_SHOWN = 20
_NAMED = 5  # of what is wrong with a file


def import_statements(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="CSV, OFX, QFX, CAMT.053 or MT940.")],
    account: Annotated[str, typer.Option(help="Which bank account they are of: its name.")],
    tenant: asked.Tenant,
    mapping: Annotated[Path | None, typer.Option(help="How the files are read, where they do not say it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would do; nothing is written.")] = False,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:  # fmt: skip
    """Import statements. The same file again changes nothing; bad lines are told and do not stop the rest."""
    from kernel.books import accounts
    from kernel.books.ingest import importing
    from kernel.books.ingest import mapping as mappings
    from kernel.books.ingest.statement import StatementError

    given = mappings.load(mapping) if mapping else None
    engine = ui.connect()
    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user, asked.ANYBODY)
        account_id = accounts.bank(connection, found.id, account)
    rows: list[dict[str, Any]] = []
    made_of_each = importing.import_files(
        engine, found.id, account_id, files, actor=who, at=asked.now(), mapping=given, dry_run=dry_run
    )
    for file in files:
        try:
            made = next(made_of_each)
        except StatementError as error:  # of several files people have to know which
            ui.fail(f"{file.name}: {error}")
        rows.append(
            {"file": file.name, "format": made.format, "new": made.new, "known": made.known, "rejected": made.rejected,
             "suspected": made.suspected, "tie_out": made.tie_out, "off": made.off}
        )  # fmt: skip
        if as_json:
            rows[-1]["rejects"] = [
                {"line": each.number, "code": each.code, "reason": each.reason} for each in made.rejects
            ]
        if not as_json:
            if not made.is_new:
                with asked.of(tenant) as (connection, found):
                    before = accounts.imported_at(connection, found.id, made.file_id)
                typer.echo(
                    ui.lines(
                        f"{file.name}: the same bytes were imported before, on {before:%Y-%m-%d %H:%M} UTC: nothing was changed"
                    ),
                    err=True,
                )
            for bad in made.rejects[:_NAMED]:
                typer.echo(ui.lines(f"{file.name}, line {bad.number}: {bad.code}: {bad.reason}"), err=True)
            if more := made.rejects[_NAMED:]:
                typer.echo(
                    ui.lines(f"{file.name}: {len(more):,} more lines were rejected; --json names all"),
                    err=True,
                )
            for problem in made.problems[:_NAMED]:
                typer.echo(ui.lines(f"{file.name}: {problem}"), err=True)
    ui.emit(rows, as_json, title="Nothing was written." if dry_run else None)


def reconcile(tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False) -> None:
    """Match bank lines with posted entries, one to one; what could be several is told and not matched."""
    from kernel.books import reconcile as reconciling

    with ui.spinner("Matching", as_json), asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user, asked.ANYBODY)
        told = reconciling.reconcile(connection, found.id, actor=who, at=asked.now())
    if as_json:
        ui.emit(told, as_json)
        return
    counts = ui.plain(told)
    ui.emit(counts | {"ambiguous": len(told.ambiguous), "off": len(told.off)}, False)
    rows = [
        {
            "lines": [views.line(each) for each in some.line_ids],
            "entries": [views.entry(each) for each in some.entry_ids],
        }
        for some in told.ambiguous[:_SHOWN]
    ]
    views.table(rows, "As likely each: say which belong together with revenue-os books match", below=True)
    off = [{"line": views.line(line), "entry": views.entry(entry)} for line, entry in told.off[:_SHOWN]]
    views.table(off, "Booked with another amount than the line has: correct the entry", below=True)


def match(
    lines: Annotated[list[str], typer.Argument(metavar="LINE…", help="Ids, or their beginnings.")],
    tenant: asked.Tenant,
    entry: Annotated[
        list[str],
        typer.Option("--entry", help="What they stand for, as JE-95c8847b. Several times for one line."),
    ],
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Say that a bank line stands for these entries, or these lines for one entry; all of it, to the cent."""
    from kernel.books import accounts, ledger
    from kernel.books import reconcile as reconciling

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        txn_ids = [accounts.line(connection, found.id, each) for each in lines]
        entry_ids = [ledger.find(connection, found.id, each) for each in entry]
        made = reconciling.match(connection, found.id, txn_ids, entry_ids, actor=who, at=asked.now())
    if as_json:
        ui.emit(made, as_json)
        return
    rows = [
        {
            "line": views.line(each.txn_id),
            "entry": views.entry(each.entry_id),
            "amount": views.amount(each.amount),
        }
        for each in made
    ]
    views.table(rows, "Matched")


def unmatch(
    line: _Line, why: asked.Why, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False
) -> None:
    """Take back what a person matched with a line, with all lines and entries that belong to it."""
    from kernel.books import accounts
    from kernel.books import reconcile as reconciling

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        txn_id = accounts.line(connection, found.id, line)
        reconciling.take_back(connection, found.id, txn_id, actor=who, at=asked.now(), reason=why)
    ui.emit({"line": txn_id if as_json else views.line(txn_id), "matched": False}, as_json)


def set_aside(
    tenant: asked.Tenant,
    lines: Annotated[
        list[str] | None, typer.Argument(metavar="[LINE…]", help="Ids, or their beginnings; without any, those set aside are listed.")
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option("--file", help="All lines of this statement: its name. Several times for several.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Into which bank account the file was imported.")] = None,
    back: Annotated[bool, typer.Option("--back", help="Take them back in: they wait again.")] = False,
    on: Annotated[
        str | None, typer.Option(help="Day of reversals, where the month of what is posted is locked.")
    ] = None,
    why: asked.PerhapsWhy = "",
    most: Annotated[int, typer.Option(help="List at most so many.", min=1)] = 50,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:  # fmt: skip
    """Say that lines are no movements of their account: told twice, or imported into a wrong one. What was posted is reversed."""
    from kernel.books import accounts, aside

    if bool(file) != bool(account) or (file and lines):
        ui.fail("name lines, or a statement with --file and its bank account with --account")
    if not lines and not file:
        _set_aside(tenant, most, as_json)
        return
    reason, day, others = asked.worded(why), None if on is None else asked.day(on), 0
    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        if file:
            into = accounts.bank(connection, found.id, account or "")
            ids, others = aside.told_by(connection, found.id, into, file)
        else:
            ids = [accounts.line(connection, found.id, each) for each in lines or ()]
        told: dict[str, Any] = {}
        if back:
            ids = list(aside.standing(connection, found.id, ids)) if file else ids
            answered = aside.take_back(connection, found.id, ids, why=reason, by=who, at=asked.now())
            shown = answered if as_json else list(map(views.line, answered))
            told = {"taken_back": len(ids), "answered_before": shown}
        else:
            done = aside.set_aside(connection, found.id, ids, why=reason, by=who, at=asked.now(), on=day)
            told = ui.plain(done) | {"lines": len(done.lines)}
    ui.emit(told | ({"told_by_another_statement": others} if file else {}), as_json)
    if told.get("answered_before") and not as_json:
        typer.echo(
            ui.lines(
                "Lines that were answered before wait for nobody: book them with revenue-os books correct LINE=ACCOUNT."
            )
        )


def _set_aside(tenant: str, most: int, as_json: bool) -> None:
    from kernel import members
    from kernel.books import aside

    with asked.of(tenant) as (connection, found):
        rows = aside.listed(connection, found.id, most=most)
        names = {str(each.user_id): each.name for each in members.of(connection, found.id)}
    if as_json:
        ui.emit([row._asdict() for row in rows], as_json)
    elif rows:
        views.table([views.aside(row, names) for row in rows], f"Lines of {found.name} that are set aside")
    else:
        typer.echo(ui.lines(f"No line of {found.name} is set aside."))


def open_items(
    tenant: asked.Tenant,
    until: Annotated[str | None, typer.Option(help="A day, 2026-12-31; today when left out.")] = None,
    most: Annotated[int, typer.Option(help="Show at most so many of each.", min=1)] = _SHOWN,
    as_json: ui.Json = False,
) -> None:
    """Bank lines that no entry stands for, entries that no line stands for, and for how long: the largest first."""
    from kernel.books import ageing
    from kernel.books import reconcile as reconciling

    on = asked.now().date() if until is None else asked.day(until)
    with asked.of(tenant) as (connection, found):
        lines, entries = reconciling.open_items(connection, found.id, date.min, on)
    sides = {"line": lines, "entry": entries}
    aged = [
        {"open": "bank lines" if what == "line" else "entries", **ui.plain(each)}
        for what, items in sides.items()
        for each in ageing.aged(items, on)
    ]
    if as_json:
        told = {
            name: [ui.plain(each) | {"days": ageing.days(each, on)} for each in items]
            for name, items in (("lines", lines), ("entries", entries))
        }
        ui.emit({"on": on, "ageing": aged, **told}, as_json)
        return
    if not aged:
        typer.echo(ui.lines(f"Nothing of {found.name} is open on {on}."))
        return
    rows = [
        {"open": each["open"], "age": each["age"], "items": each["items"],
         "in": f"{views.amount(each['money_in'])} {each['currency']}",
         "out": f"{views.amount(each['money_out'])} {each['currency']}"}
        for each in aged
    ]  # fmt: skip
    ui.emit(rows, False, title=f"Open items of {found.name} on {on}")
    for what, items in sides.items():
        named = "Bank lines without an entry" if what == "line" else "Entries without a bank line"
        shown = [views.open_item(each, what, ageing.days(each, on)) for each in items[:most]]
        views.table(shown, f"{named}: {len(shown)} of {len(items):,} shown", below=True)


def tie_out(
    tenant: asked.Tenant,
    account: Annotated[
        str | None, typer.Option(help="Only statements of this bank account: its name.")
    ] = None,
    as_json: ui.Json = False,
) -> None:
    """Statements beside their lines, those before them, and the books; ends with 1 where one is off or missing."""
    from kernel.books import accounts
    from kernel.books import reconcile as reconciling

    with asked.of(tenant) as (connection, found):
        wanted = None if account is None else accounts.bank(connection, found.id, account)
        currencies = {row["name"]: row["currency"] for row in accounts.banks(connection, found.id)}
        ids = {name: accounts.bank(connection, found.id, name) for name in currencies}
        told = {
            name: reconciling.tie_out(connection, found.id, each)
            for name, each in ids.items()
            if wanted in (None, each)
        }
    wrong = sum(bool(each.off or each.gap) for ties in told.values() for each in ties)
    if as_json:
        ui.emit(
            [{"bank_account": name, **ui.plain(each)} for name, ties in told.items() for each in ties],
            as_json,
        )
    else:
        for number, (name, ties) in enumerate(told.items()):
            rows = list(map(views.tie, ties))
            views.table(rows, f"Statements of {name}, {currencies[name]}", below=number > 0)
            if not ties:
                typer.echo(ui.lines(f"No statement of {name} was imported yet."))
    if wrong:
        ui.fail(
            f"{wrong} {'statement does' if wrong == 1 else 'statements do'} not agree with their lines or with the one before:"
            " import what is missing, or ask the bank"
        )
