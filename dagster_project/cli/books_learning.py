"""What is learnt of a tenant's lines and how far automation has come: rules, models, gates, reports, stages, settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import typer

from dagster_project.cli import asked, ui
from dagster_project.cli import books_views as views

if TYPE_CHECKING:
    from kernel.books.promotion import Support
    from ml.learning import Candidate

rules = typer.Typer(help="Rules: what a line's words mean, as people wrote it down.", no_args_is_help=True)
_Rule = Annotated[str, typer.Argument(metavar="RULE", help="Id of a rule, or its beginning.")]
_SHOWN = 20
_PROBABILITIES = ("threshold", "lower_bound", "target")


def train(tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """Train a model on what people said so far, with the tenants of the same pool; it holds if it does no worse."""
    from dagster_project.settings import settings
    from ml import deciding, learning

    at = asked.now()
    with ui.spinner("Training", as_json), asked.of(tenant) as (connection, found):
        pool = learning.pool_of(connection, found.id)
        made = learning.train(connection, pool, settings().books_models, before=at, at=at)
        deciding.promote(connection, made, at=at)
        active = learning.holding(connection, found.id)
    told = {
        "version": made.version,
        "labels": made.labels,
        "active": active,
        "outcome": _outcome(made, active),
    }
    if as_json:
        told |= {"holds": made.may_hold and made.version == active, "why_not": list(made.why)}
    ui.emit(told, as_json)


def _outcome(made: Candidate, active: str | None) -> str:
    """What became of a training, and what to do next."""
    if made.version is None:
        return f"nothing was trained: {'; '.join(made.why)}; answer what revenue-os books queue shows"
    if made.version == active:
        return (
            "it decides from now on: run revenue-os books decide"
            if made.may_hold
            else "it was trained before, and goes on"
        )
    if made.may_hold:
        return "it is on trial with a part of the lines: revenue-os books canary shows how it does"
    stays = "rules alone decide" if active is None else f"{active} goes on deciding"
    return f"it was refused, {stays}: {'; '.join(made.why)}"


def certify(tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """Fit calibrators and certify gates on predictions that were logged before their labels were known."""
    from dagster_project.settings import settings
    from ml import gate_records, learning

    at = asked.now()
    with ui.spinner("Certifying", as_json), asked.of(tenant) as (connection, found):
        gates = gate_records.gate(connection, learning.pool_of(connection, found.id), at=at)
        rows = [gate_records.told(connection, each, settings().books_reports, at=at) for each in gates]
    for row in rows:
        digits = {name: f"{row[name]:.3f}" for name in _PROBABILITIES if row[name] is not None}
        ui.emit(row if as_json else row | digits, as_json, title=row["tenant"])


def report(
    tenant: asked.Tenant,
    period: Annotated[str, typer.Option(help="7d, 30d, 90d, 180d or 365d, up to today.")] = "30d",
    as_json: ui.Json = False,
) -> None:
    """A shadow report: what would have happened. Its files are written to REVENUE_OS_BOOKS_REPORTS/TENANT."""
    from dagster_project.settings import settings
    from ml import deciding, shadow
    from quality import books

    with ui.spinner("Reading what was decided", as_json), asked.of(tenant) as (connection, found):
        document = deciding.report(connection, found, period, at=asked.now(), limits=settings().llm_limits)
    files = shadow.write(document, settings().books_reports / found.slug)
    if as_json:
        ui.emit(document, as_json)
    else:
        typer.echo(ui.lines(shadow.charts(document)))
        typer.echo(f"Written: {', '.join(str(file) for file in files)}")
    if broken := books.broken(document):
        ui.fail(f"figures contradict each other: {', '.join(broken)}; nothing is to be built on them")


def stage(
    tenant: asked.Tenant,
    to: Annotated[
        Literal["P0", "P1", "P2", "P3"] | None, typer.Option(help="The next one; P2 takes P3 back.")
    ] = None,
    why: asked.PerhapsWhy = "",
    days: Annotated[int, typer.Option(help="For how long P3 is approved.")] = 30,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """How far automation has come, what the next stage asks for, and, with --to, the step itself."""
    from kernel.books import stages
    from ml import deciding
    from quality import books

    at = asked.now()
    with asked.of(tenant) as (connection, found):
        held = stages.current(connection, found.id, at=at)
        wanted = to or _next(held.stage)
        if wanted == "P2" and stages.newest(connection, found.id).stage == "P3" and to:
            who = asked.speaker(connection, found.id, user, asked.ANYBODY)
            made = stages.demote(connection, found.id, by=who, at=at, reason=asked.worded(why))
            ui.emit({"stage": made.stage, "since": made.since}, as_json)
            return
        with ui.spinner("Gathering evidence", as_json):
            broken = books.broken(deciding.report(connection, found, "90d", at=at))
            evidence = deciding.gather(connection, found, wanted, broken=broken, at=at)
        if to is None:
            rows = [
                {"asked": each.name, "needed": each.needed, "found": each.found, "met": each.is_met}
                for each in evidence.criteria
            ]
            until = f" until {held.expires_at:%Y-%m-%d}" if held.expires_at else ""
            what = "what an approval asks for" if held.stage == wanted else f"for {wanted}"
            ui.emit(rows, as_json, title=f"{found.name} is in {held.stage}{until}; {what}:")
            return
        who = asked.speaker(connection, found.id, user)
        made = stages.advance(
            connection, found.id, evidence, by=who, at=at, reason=asked.worded(why),
            expires_at=at + timedelta(days=days) if to == "P3" else None,
        )  # fmt: skip
    ui.emit(
        {"stage": made.stage, "since": made.since, "until": made.expires_at, "evidence": evidence.hash},
        as_json,
    )


def _next(stage: str) -> str:
    return {"P0": "P1", "P1": "P2", "P2": "P3", "P3": "P3"}[stage]


def change_settings(
    tenant: asked.Tenant,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, as threshold=0.92. Several times.")
    ] = None,
    why: asked.PerhapsWhy = "",
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """The settings of a tenant's books, or, with --set, a new version of them."""
    from kernel.books import settings

    with asked.of(tenant) as (connection, found):
        if change:
            who = asked.speaker(connection, found.id, user)
            held = settings.change(
                connection,
                found.id,
                dict(map(_pair, change)),
                author=who,
                reason=asked.worded(why),
                at=asked.now(),
            )
        else:
            held = settings.current(connection, found.id)
    if as_json:
        ui.emit({"version": held.version, **held.settings.model_dump()}, as_json)
        return
    rows = [
        {"setting": name, "value": _typed(value), "takes": settings.takes(name)}
        for name, value in held.settings.model_dump().items()
    ]
    ui.emit(rows, as_json, title=f"Settings of {found.name}, {held.version}")


def _typed(value: Any) -> str:
    """A value as it is given to --set."""
    return (
        {True: "true", False: "false", None: "none"}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _pair(given: str) -> tuple[str, Any]:
    name, sign, value = given.partition("=")
    if not sign:
        ui.fail(f"{given!r} is no NAME=VALUE: write as threshold=0.92")
    return name.strip(), {"true": True, "false": False, "none": None}.get(
        value.strip().lower(), value.strip()
    )


def _rule(connection: Any, tenant_id: UUID, given: str) -> UUID:
    from dagster_project.cli import usage_views
    from kernel.books import promotion

    return usage_views.id_of(
        given, [row._asdict() for row in promotion.listed(connection, tenant_id)], "rule"
    )


def _answered(answer: Callable[..., Any], rule: str, tenant: str, user: str) -> Any:
    """What a person's answer makes of a rule."""
    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        return answer(connection, found.id, _rule(connection, found.id, rule), by=who, at=asked.now())


@rules.command("list")
def list_rules(tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """A tenant's own rules."""
    from kernel.books import promotion

    with asked.of(tenant) as (connection, found):
        found_rules = promotion.listed(connection, found.id)
    rows = [
        row._asdict()
        if as_json
        else {
            "rule": views.line(row.id),
            "pattern": row.pattern,
            "means": row.account_code or row.category,
            "status": row.status,
        }
        for row in found_rules
    ]
    ui.emit(rows, as_json, title=f"Rules of {found.name}")


@rules.command("find")
def find_rules(tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """Vendors whose labels are enough for a rule."""
    from kernel.books import promotion

    with asked.of(tenant) as (connection, found):
        rows = promotion.find(connection, found.id)
    short = [
        {"vendor": each.vendor, "account": each.account, "lines": each.support.lines, "right": each.support.right,
         "lower bound": round(each.support.lower_bound, 3)}
        for each in rows
    ]  # fmt: skip
    ui.emit(rows if as_json else short, as_json, title="What people always answered alike")


@rules.command("propose")
def propose_rule(
    pattern: Annotated[str, typer.Argument(help="A vendor in its normal form, or with --regex a pattern.")],
    tenant: asked.Tenant,
    account: Annotated[str | None, typer.Option(help="The account that it means.")] = None,
    category: Annotated[str | None, typer.Option(help="Or what the chart maps to one, as office_supplies.")] = None,
    regex: Annotated[bool, typer.Option("--regex", help="The pattern is asked of the words of a line.")] = False,
    conditions: Annotated[str, typer.Option(help='As JSON, such as {"sign": "out", "most": 100}.')] = "{}",
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:  # fmt: skip
    """Write a rule down, with what labels say for it. It decides nothing until somebody promotes it."""
    from kernel.books import promotion

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        made = promotion.propose(
            connection, found.id, match="regex" if regex else "exact_vendor", pattern=pattern, account=account, category=category,
            conditions=json.loads(conditions), by=who, at=asked.now(),
        )  # fmt: skip
    ui.emit({"rule": made if as_json else views.line(made)}, as_json)


@rules.command("try")
def try_rule(rule: _Rule, tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """What a rule would change of the decisions of the last 90 days; nothing is changed."""
    from ml import deciding

    with asked.of(tenant) as (connection, found):
        told = deciding.try_rule(connection, found.id, _rule(connection, found.id, rule), at=asked.now())
    if as_json:
        ui.emit(told, as_json)
        return
    before, after = told.before, told.after
    names = {name: None for tally in (before, after) for name in tally.reasons}
    rows = [{"lines": "decided", "without it": before.lines, "with it": after.lines},
            {"lines": "pass every gate", "without it": before.passed, "with it": after.passed},
            *({"lines": f"wait for {name}", "without it": before.reasons.get(name, 0), "with it": after.reasons.get(name, 0)}
              for name in names)]  # fmt: skip
    ui.emit(rows, False, title="Lines of the last 90 days, without the rule and with it; nothing was changed")
    rows = [
        {"line": views.line(each.txn_id), "date": each.on, "amount": f"{views.amount(each.amount)} {each.currency}",
         "vendor": each.vendor, "without it": _outcome_of(each.account_before, each.reason_before),
         "with it": _outcome_of(each.account_after, each.reason_after)}
        for each in told.changes[:_SHOWN]
    ]  # fmt: skip
    views.table(rows, f"Lines that it would change: {len(rows)} of {len(told.affected):,} shown", below=True)
    if not rows:
        typer.echo("\nIt would change no line.")
    for warning in told.warnings:
        typer.echo(ui.lines(f"Warning: {warning}"))
    typer.echo()
    _support(told.support)


def _outcome_of(account: str | None, reason: str | None) -> str:
    return f"{account or 'nothing'}, {reason or 'passed'}"


def _support(told: Support) -> None:
    """What labels say for a rule, and what of it is not enough."""
    typer.echo(
        f"Labels: {told.right:,} of {told.lines:,} lines on {told.days:,} days name its account; lower 95 % bound "
        f"{told.lower_bound:.3f}, and another account has {told.competing:.1%}."
    )
    typer.echo(
        ui.lines(
            f"Not enough to promote it: {'; '.join(told.flaws)}." if told.flaws else "It can be promoted."
        )
    )


@rules.command("promote")
def promote_rule(rule: _Rule, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False) -> None:
    """Let a rule decide."""
    from kernel.books import promotion

    told = _answered(promotion.promote, rule, tenant, user)
    if as_json:
        ui.emit(told, as_json)
        return
    typer.echo("It decides from now on.")
    _support(told)


@rules.command("retire")
def retire_rule(rule: _Rule, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False) -> None:
    """Let a rule decide no more."""
    from kernel.books import promotion

    _answered(promotion.retire, rule, tenant, user)
    ui.emit({"rule": rule, "status": "retired"}, as_json)


@rules.command("reject")
def reject_rule(rule: _Rule, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False) -> None:
    """Say that a candidate is no rule."""
    from kernel.books import promotion

    _answered(promotion.reject, rule, tenant, user)
    ui.emit({"rule": rule, "status": "rejected"}, as_json)
