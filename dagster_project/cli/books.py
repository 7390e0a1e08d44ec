"""`revenue-os books`: statements, the queue of what waits for people, the ledger and its files.

What is learnt, and how far a tenant has come, stand in `books_learning`.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from dagster_project.cli import books_learning, ui
from dagster_project.cli import campaign_asked as asked

app = typer.Typer(
    help="Books: import statements, review what is proposed, post, reconcile, export.", no_args_is_help=True
)
app.add_typer(books_learning.rules, name="rules")
app.command("train")(books_learning.train)
app.command("certify")(books_learning.certify)
app.command("report")(books_learning.report)
app.command("stage")(books_learning.stage)
app.command("settings")(books_learning.change_settings)

_Line = Annotated[str, typer.Argument(metavar="LINE", help="Id of a bank line, or its beginning.")]
_Month = Annotated[str, typer.Argument(help="2026-12.")]
_Most = Annotated[int, typer.Option(help="Show at most so many.")]
_SHOWN = 5


@app.command("account")
def bank_account(
    tenant: asked.Tenant,
    name: Annotated[str | None, typer.Option(help="Add one of this name.")] = None,
    kind: Annotated[str, typer.Option(help="checking, savings, card, trust or cash.")] = "checking",
    currency: Annotated[str | None, typer.Option(help="The tenant's own when left out.")] = None,
    code: Annotated[str, typer.Option(help="Its account in the chart of accounts.")] = "",
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """The accounts that statements come of, or one more."""
    from kernel.books import accounts

    with asked.of(tenant) as (connection, found):
        if name is not None:
            who = asked.speaker(connection, found.id, user)
            accounts.add_bank(
                connection,
                found.id,
                name,
                kind,
                currency or found.default_currency,
                code,
                actor=who,
                at=asked.now(),
            )
        rows = accounts.banks(connection, found.id)
    ui.emit(rows, as_json, title=f"Bank accounts of {found.name}")


@app.command("chart")
def chart_of_accounts(
    tenant: asked.Tenant,
    code: Annotated[str | None, typer.Option(help="Add one of this code.")] = None,
    name: Annotated[str, typer.Option(help="Its name.")] = "",
    kind: Annotated[
        str, typer.Option("--type", help="Asset, Liability, Equity, Revenue or Expense.")
    ] = "Expense",
    category: Annotated[str | None, typer.Option(help="What rules mean by it, as office_supplies.")] = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """The chart of accounts, or one more account."""
    from kernel.books import accounts

    with asked.of(tenant) as (connection, found):
        if code is not None:
            who = asked.speaker(connection, found.id, user)
            accounts.add(connection, found.id, code, name, kind, category, actor=who, at=asked.now())
        rows = accounts.listed(connection, found.id)
    ui.emit(rows, as_json, title=f"Chart of accounts of {found.name}")


@app.command("import")
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

    given = mappings.load(mapping) if mapping else None
    engine = ui.connect()
    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user, asked.ANYBODY)
        account_id = accounts.bank(connection, found.id, account)
    rows: list[dict[str, Any]] = []
    for file in files:
        made = importing.import_file(
            engine, found.id, account_id, file, actor=who, at=asked.now(), mapping=given, dry_run=dry_run
        )
        rows.append(
            {"file": file.name, "format": made.format, "new": made.new, "known": made.known, "rejected": made.rejected,
             "suspected": made.suspected, "tie_out": made.tie_out, "off": made.off}
        )  # fmt: skip
        if not as_json:
            for bad in made.rejects[:_SHOWN]:
                typer.echo(ui.lines(f"{file.name}, line {bad.number}: {bad.code}: {bad.reason}"), err=True)
            for problem in made.problems[:_SHOWN]:
                typer.echo(ui.lines(f"{file.name}: {problem}"), err=True)
    ui.emit(rows, as_json, title="Nothing was written." if dry_run else None)


@app.command("decide")
def decide(tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """Decide about every line that is open, propose entries, and post what may be posted."""
    from dagster_project.lib import books
    from dagster_project.settings import settings
    from ml import deciding

    run_id = f"cli-{asked.now():%Y%m%dT%H%M%S}"
    with asked.of(tenant) as (connection, found):
        made = deciding.decide_open(
            connection, found.id, settings().books_models, run_id=run_id, at=asked.now()
        )
    with asked.of(tenant) as (connection, found):
        night = books.book(connection, found, at=asked.now())
    ui.emit(
        {"decided": made.count, **dict(made.verdicts), "reasons": dict(made.reasons), "proposed": night.booked.proposed,
         "posted": night.booked.posted, "held_back": dict(night.booked.held_back), "stage": night.watched.stage.stage,
         "taken_back": night.watched.demoted_for},
        as_json,
    )  # fmt: skip


@app.command("queue")
def queue(
    tenant: asked.Tenant,
    reason: Annotated[str | None, typer.Option(help="Only lines that wait for this reason.")] = None,
    vendor: Annotated[str | None, typer.Option(help="Only lines of this vendor, in its normal form.")] = None,
    passed: Annotated[bool, typer.Option("--passed", help="Only lines that passed every gate.")] = False,
    audit: Annotated[bool, typer.Option("--audit", help="Posted lines that were drawn to be looked at.")] = False,
    most: _Most = 50,
    as_json: ui.Json = False,
) -> None:  # fmt: skip
    """Lines that wait for a person, the most money at risk first."""
    from kernel.books import review

    with asked.of(tenant) as (connection, found):
        if audit:
            rows = review.audit_queue(connection, found.id, most=most)
        else:
            rows = review.queue(
                connection, found.id, reason=reason, vendor=vendor, only_passed=passed, most=most
            )
    ui.emit(rows if as_json else [_row(each) for each in rows], as_json, title=f"{len(rows)} lines wait")


def _row(each: Any) -> dict[str, Any]:
    return {
        "line": str(each.txn_id)[:8], "date": each.on, "amount": f"{each.amount} {each.currency}",
        "vendor": each.vendor or each.description, "proposed": each.proposed_account,
        "p": None if each.calibrated_p is None else f"{each.calibrated_p:.2f}", "reason": each.reason or each.verdict,
    }  # fmt: skip


@app.command("explain")
def explain(line: _Line, tenant: asked.Tenant) -> None:
    """Why a line was decided as it was, as JSON: what was used, and nothing else."""
    from kernel.books import review

    with asked.of(tenant) as (connection, found):
        told = review.explain(connection, found.id, _line(connection, found.id, line))
    ui.emit(told, True)


@app.command("approve")
def approve(
    lines: Annotated[list[str], typer.Argument(metavar="LINE…", help="Ids, or their beginnings.")],
    tenant: asked.Tenant,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Say that proposals are right: they are labelled and posted."""
    from kernel.books import review

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        ids = [_line(connection, found.id, each) for each in lines]
        done = review.approve(connection, found.id, ids, by=who, at=asked.now())
    _answered(done, as_json)


@app.command("approve-vendor")
def approve_vendor(
    vendor: Annotated[str, typer.Argument(help="In its normal form, as the queue shows it.")],
    account: Annotated[str, typer.Option(help="Only lines for which this account is proposed.")],
    tenant: asked.Tenant,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Approve all waiting lines of a vendor whose proposal is this account."""
    from kernel.books import review

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        done = review.approve_vendor(connection, found.id, vendor, account=account, by=who, at=asked.now())
    _answered(done, as_json)


@app.command("correct")
def correct(
    answers: Annotated[
        list[str], typer.Argument(metavar="LINE=ACCOUNT…", help="A line's id or its beginning, and where it belongs.")
    ],
    tenant: asked.Tenant,
    on: Annotated[str | None, typer.Option(help="Day of the new entry, where the line's own month is locked.")] = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:  # fmt: skip
    """Say which accounts lines belong to: a proposal is replaced, a posted entry reversed and booked anew.

    Of a transfer between own accounts say it of both lines.
    """
    from kernel.books import review

    day = None if on is None else asked.day(on)
    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        accounts = {}
        for each in answers:
            line, sign, account = each.partition("=")
            if not sign:
                ui.fail(f"{each!r} is no LINE=ACCOUNT: write as 1a2b3c4d=6300")
            accounts[_line(connection, found.id, line)] = account
        done = review.correct(connection, found.id, accounts, by=who, at=asked.now(), on=day)
    _answered(done, as_json)


@app.command("countersign")
def countersign(
    tenant: asked.Tenant,
    entries: Annotated[
        list[str] | None, typer.Argument(metavar="[ENTRY…]", help="Ids; without any, those that wait are listed.")
    ] = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:  # fmt: skip
    """Post what another person approved, where two are needed."""
    from kernel.books import review

    with asked.of(tenant) as (connection, found):
        if not entries:
            rows = [row._asdict() for row in review.second_queue(connection, found.id)]
            ui.emit(rows, as_json, title="Entries that wait for a second person")
            return
        who = asked.speaker(connection, found.id, user)
        done = review.countersign(
            connection, found.id, [asked.uuid(each) for each in entries], by=who, at=asked.now()
        )
    _answered(done, as_json)


@app.command("reconcile")
def reconcile_statements(tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False) -> None:
    """Match bank lines with posted entries, one to one; what could be several is told and not matched."""
    from kernel.books import reconcile

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user, asked.ANYBODY)
        told = reconcile.reconcile(connection, found.id, actor=who, at=asked.now())
    ui.emit(told, as_json)


@app.command("export")
def export_entries(
    tenant: asked.Tenant,
    target: Annotated[str, typer.Option(help="qbo_csv, xero_csv or beancount.")] = "qbo_csv",
    to: Annotated[Path | None, typer.Option(help="Folder; REVENUE_OS_BOOKS_EXPORTS/TENANT when left out.")] = None,
    again: Annotated[str | None, typer.Option(help="Id of an export whose file is written again, byte for byte.")] = None,
    history: Annotated[bool, typer.Option("--history", help="What was handed out so far.")] = False,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:  # fmt: skip
    """Hand posted entries to an accounting system: each goes out once, however often it is asked for."""
    from dagster_project.settings import settings
    from kernel.books import export, export_ledgers

    engine = ui.connect()
    with asked.of(tenant) as (connection, found):
        folder = to or settings().books_exports / found.slug
        if history:
            rows = export.history(connection, found.id)
            short = [
                {"export": str(each.id), "target": each.target, "entries": each.entries, "lines": each.lines,
                 "when": f"{each.exported_at or each.requested_at:%Y-%m-%d %H:%M}"}
                for each in rows
            ]  # fmt: skip
            ui.emit(rows if as_json else short, as_json, title=f"Exports of {found.name}")
            return
        who = asked.speaker(connection, found.id, user, asked.ANYBODY)
        if again is not None:
            made = export.content(connection, found.id, asked.uuid(again))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{again}.csv").write_bytes(made)
            ui.emit({"file": str(folder / f"{again}.csv"), "bytes": len(made)}, as_json)
            return
        if target == "beancount":
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


@app.command("balance")
def trial_balance(
    tenant: asked.Tenant,
    until: Annotated[str | None, typer.Option(help="A day, 2026-12-31; today when left out.")] = None,
    as_json: ui.Json = False,
) -> None:
    """The trial balance: what was posted to each account."""
    from kernel.books import ledger

    day = asked.now().date() if until is None else asked.day(until)
    with asked.of(tenant) as (connection, found):
        rows = [
            {"code": each.code, "name": each.name, "type": each.type, "currency": each.currency, "debit": each.debit,
             "credit": each.credit, "balance": each.balance}
            for each in ledger.trial_balance(connection, found.id, day)
        ]  # fmt: skip
    ui.emit(rows, as_json, title=f"Trial balance of {found.name} on {day}")


@app.command("lock")
def lock(month: _Month, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False) -> None:
    """Let nobody post into a month any more."""
    from kernel.books import ledger

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        ledger.lock(connection, found.id, month, actor=who, at=asked.now())
    ui.emit({"month": month, "state": "LOCKED"}, as_json)


@app.command("reopen")
def reopen(
    month: _Month, why: asked.Why, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False
) -> None:
    """Take the lock of a month back; why stands in the audit."""
    from kernel.books import ledger

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        ledger.reopen(connection, found.id, month, actor=who, at=asked.now(), reason=why)
    ui.emit({"month": month, "state": "OPEN"}, as_json)


def _line(connection: Any, tenant_id: UUID, given: str) -> UUID:
    from kernel.books import accounts

    return accounts.line(connection, tenant_id, given)


def _answered(done: Any, as_json: bool) -> None:
    told = {
        "labelled": done.labelled, "posted": len(done.posted), "needs_another": [str(each) for each in done.needs_another],
        "already": [str(each) for each in done.already],
    }  # fmt: skip
    ui.emit(told, as_json)
