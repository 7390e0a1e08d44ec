"""`revenue-os books`: accounts, what is decided of bank lines and what people say of it.

Statements that come in, and what stands of them beside the books, are in `books_statements`, the ledger with its files in `books_ledger`, what is learnt
and how far a tenant has come in `books_learning`, what is on trial and what it costs in `books_watch`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from dagster_project.cli import (
    asked,
    books_explain,
    books_learning,
    books_ledger,
    books_statements,
    books_watch,
    ui,
)
from dagster_project.cli import books_views as views

app = typer.Typer(
    help="Books: import statements, review what is proposed, post, reconcile, export.", no_args_is_help=True
)
_OTHERS = {
    "Statements": {
        "reconcile": books_statements.reconcile, "match": books_statements.match, "unmatch": books_statements.unmatch,
        "open-items": books_statements.open_items, "tie-out": books_statements.tie_out,
        "set-aside": books_statements.set_aside,
    },
    "Ledger": {
        "ledger": books_ledger.general_ledger, "balance": books_ledger.trial_balance, "lock": books_ledger.lock,
        "reopen": books_ledger.reopen, "export": books_ledger.export_entries,
    },
    "Automation": {
        "train": books_learning.train, "certify": books_learning.certify, "report": books_learning.report,
        "stage": books_learning.stage, "settings": books_learning.change_settings, "canary": books_watch.canary,
        "budget": books_watch.budget,
    },
}  # fmt: skip
for _panel, _commands in _OTHERS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(books_learning.rules, name="rules", rich_help_panel="Automation")

_Line = Annotated[str, typer.Argument(metavar="LINE", help="Id of a bank line, or its beginning.")]
_Most = Annotated[int, typer.Option(help="Show at most so many.", min=1)]
_COUNTED = ("reasons", "held_back", "language_model")


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


app.command("import")(books_statements.import_statements)


@app.command("decide")
def decide(tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """Ask a language model where one is set, decide about every open line, and post what may be posted."""
    from dagster_project.lib import books
    from dagster_project.settings import settings
    from ml import deciding

    given, run_id = settings(), f"cli-{asked.now():%Y%m%dT%H%M%S}"
    with ui.spinner("Asking a language model", as_json):
        answered = _asked(tenant)
    with ui.spinner("Deciding", as_json), asked.of(tenant) as (connection, found):
        made = deciding.decide_open(
            connection, found.id, given.books_models, run_id=run_id, at=asked.now(), language_model=given.llm_model
        )  # fmt: skip
    with ui.spinner("Posting", as_json), asked.of(tenant) as (connection, found):
        night = books.book(connection, found, at=asked.now())
    told = {
        "decided": made.count, **dict(made.verdicts), "reasons": dict(made.reasons), "proposed": night.booked.proposed,
        "posted": night.booked.posted, "held_back": dict(night.booked.held_back), "stage": night.watched.stage.stage,
        "taken_back": night.watched.demoted_for, "language_model": answered,
    }  # fmt: skip
    ui.emit(told if as_json else told | {name: views.counts(told[name]) for name in _COUNTED}, as_json)


def _asked(tenant: str) -> dict[str, Any] | None:
    """What came of asking a language model about lines that nobody knows; whatever it is, lines are decided then."""
    from dagster_project.lib import books
    from dagster_project.settings import settings
    from kernel.books.llm_asking import Batch
    from kernel.errors import RefusedError

    given, engine = settings(), ui.connect()
    with asked.of(tenant) as (_, found):
        pass
    try:
        made = Batch(engine, given.labeller(), given.llm_limits, asked.now).ask(found.id)
    except RefusedError as error:
        typer.echo(ui.lines(f"Nobody was asked: {error}"), err=True)
        return {"why": str(error)}
    return made and books.asked(made)


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
    from kernel.books import accounts, review
    from kernel.books.contract import REASONS

    if reason is not None and reason not in REASONS:
        ui.fail(f"no line waits for {reason!r}: give one of {', '.join(REASONS)}")
    with asked.of(tenant) as (connection, found):
        if audit:
            told = review.audit_queue(connection, found.id, most=most)
        else:
            told = review.queue(
                connection, found.id, reason=reason, vendor=vendor, only_passed=passed, most=most
            )
        is_narrowed = not audit and (reason or vendor or passed)
        waiting = review.queue(connection, found.id, most=1).total if is_narrowed and not told.lines else 0
        banks = accounts.bank_names(connection, found.id, [each.txn_id for each in told.lines])
    if as_json:
        ui.emit(
            {"total": told.total, "by_reason": told.by_reason, "lines": list(map(ui.plain, told.lines))},
            as_json,
        )
        return
    what = "drawn to be looked at" if audit else "that wait"
    if waiting:
        typer.echo(
            ui.lines(
                f"Lines of {found.name} that wait: {waiting:,}, none of them {_narrowed(reason, vendor, passed)}."
            )
        )
        return
    if not told.lines:
        typer.echo(ui.lines(f"There are no lines of {found.name} {what}."))
        return
    rows = [views.waiting(each, banks.get(each.txn_id)) for each in told.lines]
    views.table(rows, f"Lines of {found.name} {what}: {len(rows):,} of {told.total:,} shown")
    if not audit:
        typer.echo("In all: " + ", ".join(f"{count:,} {name}" for name, count in told.by_reason.items()))


def _narrowed(reason: str | None, vendor: str | None, passed: bool) -> str:
    asked_for = (
        reason and f"for {reason}",
        vendor and f"of vendor {vendor!r}",
        passed and "with every gate passed",
    )
    return ", ".join(each for each in asked_for if each)


@app.command("explain")
def explain(line: _Line, tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """Why a line was decided as it was: what is proposed, which gates do not hold, what was used, and nothing else."""
    from kernel import members
    from kernel.books import accounts, review

    with asked.of(tenant) as (connection, found):
        txn_id = _line(connection, found.id, line)
        told = review.explain(connection, found.id, txn_id)
        names = {row["code"]: row["name"] for row in accounts.listed(connection, found.id)}
        same_as = accounts.suspected_of(connection, found.id, txn_id)
        people = {str(each.user_id): each.name for each in members.of(connection, found.id)}
    if as_json:
        ui.emit(told, as_json)
        return
    typer.echo(ui.lines(books_explain.text(told, names, people, same_as)))


@app.command("approve")
def approve(
    lines: Annotated[
        list[str],
        typer.Argument(
            metavar="LINE[=ACCOUNT]…", help="Ids, or their beginnings; with what was seen to be proposed."
        ),
    ],
    tenant: asked.Tenant,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Say that proposals are right: they are labelled and posted. With =ACCOUNT only if that is still what is proposed."""
    from kernel.books import labels, review

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        typed = [each.partition("=") for each in lines]
        ids = [_line(connection, found.id, line) for line, _, _ in typed]
        seen = {txn_id: account for txn_id, (_, sign, account) in zip(ids, typed, strict=True) if sign}
        done = review.approve(connection, found.id, ids, by=who, at=asked.now(), seen=seen)
        said = labels.newest(connection, found.id, [each for each in ids if each not in done.already])
    _answered(done, as_json, to=Counter(each.account for each in said.values()))


@app.command("approve-vendor")
def approve_vendor(
    vendor: Annotated[str, typer.Argument(help="In its normal form, as the queue shows it.")],
    account: Annotated[str, typer.Option(help="Only lines for which this account is proposed.")],
    tenant: asked.Tenant,
    direction: Annotated[str | None, typer.Option(help="in or out, where money goes both ways.")] = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Approve all waiting lines of a vendor, in one direction, whose proposal is this account."""
    from kernel.books import bulk

    if direction not in (None, "in", "out"):
        ui.fail(f"direction {direction!r} is unknown: use in or out")
    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        done = bulk.approve_vendor(
            connection, found.id, vendor, account=account, direction=direction, by=who, at=asked.now()
        )
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
        list[str] | None, typer.Argument(metavar="[ENTRY…]", help="As JE-95c8847b; without any, those that wait are listed.")
    ] = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:  # fmt: skip
    """Post what another person approved, where two are needed."""
    from kernel import members
    from kernel.books import ledger, review

    with asked.of(tenant) as (connection, found):
        if not entries:
            waiting = review.second_queue(connection, found.id)
            names = {str(each.user_id): each.name for each in members.of(connection, found.id)}
            rows = (
                [row._asdict() for row in waiting]
                if as_json
                else [views.countersigned(row, names) for row in waiting]
            )
            ui.emit(rows, as_json, title="Entries that wait for a second person")
            return
        who = asked.speaker(connection, found.id, user)
        ids = [ledger.find(connection, found.id, each) for each in entries]
        done = review.countersign(connection, found.id, ids, by=who, at=asked.now())
    _answered(done, as_json)


def _line(connection: Any, tenant_id: UUID, given: str) -> UUID:
    from kernel.books import accounts

    return accounts.line(connection, tenant_id, given)


def _answered(done: Any, as_json: bool, to: Mapping[str, int] | None = None) -> None:
    """`to`: how many lines were approved with which account, where nobody named it."""
    told: dict[str, Any] = {"labelled": done.labelled, "posted": len(done.posted)}
    if to is not None:
        told["accounts"] = dict(to) if as_json else views.counts(to)
    if as_json:
        rest = {"needs_another": done.needs_another, "already": done.already, "locked": done.locked}
        ui.emit(told | rest, as_json)
        return
    waiting, already = map(views.entry, done.needs_another), map(views.line, done.already)
    rest = {"needs_another": list(waiting), "already": list(already)}
    if done.locked:
        rest["wait in locked months"] = len(done.locked)
    ui.emit(told | rest, as_json)
