"""`revenue-os decide`: running the decision kernel, reading what it decided and why, replaying past days."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from dagster_project.cli import ui

app = typer.Typer(help="The decision kernel: run, show, trace, backtest.", no_args_is_help=True)

# As kernel.decisions.scoring gives them; stored as JSON they lose their order.
TERMS = ("contribution", "payback", "margin", "spend", "cash_at_risk", "uncertainty")

Tenants = Annotated[
    list[str] | None, typer.Option("--tenant", "-t", help="Slug or id; several times. All when left out.")
]


@app.command()
def run(
    tenant: Tenants = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="The instant to decide at, ISO 8601 with its offset, not later than now; now when left out."
        ),
    ] = None,
    mode: Annotated[
        Literal["shadow", "enforce"] | None,
        typer.Option(help="Shadow records and carries nothing out; each tenant's own mode when left out."),
    ] = None,
    as_json: ui.Json = False,
) -> None:
    """Decide now: one cycle for each enabled tenant, or those named."""
    from kernel.decisions import cycles
    from kernel.decisions.contract import Trigger

    clock = _clock(at)
    ids = _ids(tenant)
    names = _slugs()
    rows: list[dict[str, Any]] = []

    def tell(fate: cycles.TenantCycle) -> None:
        summary = fate.output.cycle_summary if fate.output else None
        rows.append(
            {
                "tenant": names.get(fate.tenant_id, str(fate.tenant_id)),
                "outcome": fate.outcome,
                "constraint": summary.binding_constraint if summary else None,
                "gates": list(summary.cfo_gates_triggered) if summary else None,
                "actions": len(fate.output.actions) if fate.output else 0,
                "mode": fate.mode or None,
                "why": fate.why or None,
            }
        )

    with ui.spinner("Deciding", silent=as_json):
        report = cycles.run(
            ui.connect(),
            ids,
            clock=clock,
            trigger=Trigger(type="manual", source="revenue-os decide run", triggered_at=clock()),
            mode=mode,
            on_tenant=tell,
        )
    if as_json:
        counts = {
            "completed": len(report.completed),
            "skipped": len(report.skipped),
            "failed": len(report.failed),
        }
        ui.emit(counts | {"actions": report.actions, "tenants": rows}, as_json)
    else:
        ui.emit(rows, as_json, title="Cycles")
    if report.failed:
        ui.fail(f"{len(report.failed)} tenants could not be decided; the reason of each is in the list")


@app.command()
def show(tenant: Tenants = None, as_json: ui.Json = False) -> None:
    """The newest decision of each tenant: diagnosis, gates with their margins, actions in a sentence each."""
    told = [_told(found) for found in _newest(_ids(tenant))]
    if as_json:
        ui.emit(told, as_json)
        return
    if not told:
        ui.fail("nothing was decided yet: run revenue-os decide run")
    for cycle in told:
        gates, actions = cycle.pop("gates"), cycle.pop("actions")
        ui.emit(cycle, as_json, title=cycle["tenant"])
        if gates:
            ui.emit(gates, as_json, title="Gates")
        if actions:
            ui.emit(actions, as_json, title="Actions")


@app.command()
def trace(cycle: Annotated[UUID, typer.Argument(help="Id of the cycle.")], as_json: ui.Json = False) -> None:
    """Every candidate of a cycle: its score in money, term by term, and why it was dropped."""
    from models.statements import statements

    with ui.connection() as connection:
        found = connection.execute(statements("cycles")["one"], {"id": cycle}).one_or_none()
    if found is None:
        ui.fail(f"there is no cycle {cycle}: see revenue-os decide show")
    candidates = [
        {
            "family": item["family"],
            "entity": _entity(item["entity"]),
            "target": item["target_metric"],
            "score": _number(item["cfo_score"]),
            "terms": {name: Decimal(item["terms"][name]) for name in TERMS if name in item["terms"]},
            "dropped": item["dropped"],
        }
        for item in found.trace or []
    ]
    facts = {
        "tenant": found.slug,
        "cycle": found.id,
        "invoked_at": found.invoked_at,
        "outcome": found.error_message or found.status,
        "trigger": f"{found.trigger_type}: {found.trigger_source}",
        "mode": found.mode,
        "metrics_of": found.metrics_date,
        "configuration": found.config_version_id or "defaults",
        "weights": found.weights_version,
        "input_sha256": (found.input_snapshot_ref or {}).get("input_sha256"),
    }
    if as_json:
        ui.emit(facts | {"candidates": candidates}, as_json)
        return
    ui.emit(facts, as_json)
    typer.echo("\nCandidates, in money over their window")
    for candidate in candidates:
        typer.echo(ui.lines(_candidate(candidate)))


@app.command()
def backtest(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")],
    tenant: Tenants = None,
    days: Annotated[
        bool, typer.Option("--days", help="A row for each day instead of one per tenant.")
    ] = False,
    as_json: ui.Json = False,
) -> None:
    """Replay past days in shadow: what would have been decided on each. Nothing of it is kept."""
    from kernel import metrics
    from kernel.decisions import shadow

    names = _slugs()
    with ui.connection() as connection:
        ids = _ids(tenant) or [row.tenant_id for row in metrics.tenants_with_metrics(connection)]
    replayed = []
    with ui.progress(as_json) as progress:
        task = progress.add_task("Replaying", total=((last - first).days + 1) * len(ids))
        for item in shadow.backtest(ui.connect(), ids, first.date(), last.date()):
            replayed.append(item)
            progress.advance(task)
    rows = [_day(item, names) for item in replayed] if days else _summaries(replayed, names)
    with ui.connection() as connection:
        promises = [_promise(row, names) for row in shadow.foreseen(connection, replayed)]
    if as_json:
        ui.emit({"days" if days else "tenants": rows, "families": promises}, as_json)
        return
    ui.emit(rows, as_json, title="Backtest")
    ui.emit(promises, as_json, title="What was promised, and what the metric did by itself (mean %)")


@app.command()
def digest(
    week: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="A day of the week to tell; last week when left out."),
    ] = None,
    as_user: Annotated[
        str,
        typer.Option(
            "--as", help="Name or id: only what this user may see; the platform's digest when left out."
        ),
    ] = "",
    folder: Annotated[
        Path | None, typer.Option(help="Write the pages there instead of printing the text.")
    ] = None,
) -> None:
    """The week for the CFO: economics by tenant, gates, and what each action came to."""
    from kernel.decisions import digest as weekly
    from kernel.decisions import digest_pages

    day = week.date() if week else datetime.now(UTC).date() - timedelta(days=7)
    with ui.connection() as connection:
        user = weekly.find_user(connection, as_user) if as_user else None
        found = weekly.build(connection, day, platform=user is None, user_id=user)
    if folder is None:
        typer.echo(ui.lines(digest_pages.render_text(found)), nl=False)
        return
    for path in digest_pages.write_files(found, folder):
        ui.step("Wrote", path)


@app.command()
def reliability(tenant: Tenants = None, as_json: ui.Json = False) -> None:
    """What measured actions promised against what came of them, by family.

    A miss of 1 is as large as was claimed, one of 2 twice as large.
    """
    from kernel.decisions import calibration

    ids = _ids(tenant)
    with ui.connection() as connection:
        found = calibration.reliability(calibration.outcomes(connection, ids))
    rows = [
        {
            "family": row.family,
            "results": row.results,
            "promised_pct": round(row.predicted_pct, 2),
            "realised_pct": round(row.realised_pct, 2),
            "miss": round(row.miss, 2),
        }
        for row in found
    ]
    if not rows and not as_json:
        ui.fail("nothing was measured yet: an action is measured when its window has closed")
    ui.emit(rows, as_json, title="Promised and realised")


def _entity(entity: dict[str, str] | None) -> str:
    return f"{entity['type']} {entity['id']}".strip() if entity else "tenant"


def _candidate(candidate: dict[str, Any]) -> str:
    """A line each for what it is, its terms and its fate when the terminal is wide enough; ids shortened."""
    kind, _, entity_id = candidate["entity"].partition(" ")
    entity = f"{kind} {entity_id[:8]}".strip()
    told = [f"{_money(candidate['score']):>9}  {candidate['family']} on {entity}, {candidate['target']}"]
    terms = (f"{name} {_money(value)}" for name, value in candidate["terms"].items() if value)
    told += [", ".join(terms), f"dropped: {candidate['dropped']}" if candidate["dropped"] else ""]
    width = get_terminal_size().columns
    return "\n".join(
        fill(line, width, initial_indent=" " * 11 * bool(place), subsequent_indent=" " * 13)
        for place, line in enumerate(told)
        if line
    )


def _money(amount: Decimal | None) -> str:
    if amount is None:
        return "-"
    return f"{amount:,.0f}" if abs(amount) >= 100 else f"{amount:z,.2f}"


def _promise(row: Any, names: dict[UUID, str]) -> dict[str, Any]:
    return {
        "tenant": names[row.tenant_id],
        "family": row.family,
        "proposals": row.proposals,
        "measured": row.measured,
        "predicted_pct": None if row.predicted_pct is None else round(row.predicted_pct, 2),
        "realised_pct": None if row.realised_pct is None else round(row.realised_pct, 2),
    }


def _day(item: Any, names: dict[UUID, str]) -> dict[str, Any]:
    return {
        "tenant": names[item.tenant_id],
        "day": item.day,
        "constraint": item.constraint or None,
        "gates": list(item.gates),
        "actions": len(item.actions),
        "digest": item.digest[:12] or None,
        "why": item.why or None,
    }


def _summaries(replayed: list[Any], names: dict[UUID, str]) -> list[dict[str, Any]]:
    """Days decided, on how many each gate fired, and one digest over all of a tenant's decisions."""
    import hashlib

    by_tenant = defaultdict(list)
    for item in replayed:
        by_tenant[item.tenant_id].append(item)
    return [
        {
            "tenant": names[tenant_id],
            "days": len(items),
            "decided": sum(not item.why for item in items),
            "payback": sum("payback_exceeded" in item.gates for item in items),
            "margin": sum("margin_below_floor" in item.gates for item in items),
            "cash": sum("cash_constrained" in item.gates for item in items),
            "actions": sum(len(item.actions) for item in items),
            "digest": hashlib.sha256("".join(item.digest for item in items).encode()).hexdigest()[:12],
        }
        for tenant_id, items in by_tenant.items()
    ]


def _told(found: Any) -> dict[str, Any]:
    output = found.raw_kernel_output or {}
    summary = output.get("cycle_summary", {})
    return {
        "tenant": found.slug,
        "cycle": found.id,
        "decided_at": found.invoked_at,
        "metrics_of": found.metrics_date,
        "mode": found.mode,
        "outcome": found.error_message or found.status,
        "constraint": summary.get("binding_constraint"),
        "diagnosis": summary.get("diagnosis"),
        "why_fewer_actions": summary.get("why_fewer_actions"),
        "gates": [
            {
                "gate": gate["gate"],
                "state": gate["state"],
                "value": _number(gate["value"]),
                "threshold": _number(gate["threshold"]),
                "margin": _number(gate["margin"]),
                "why": gate["why"],
            }
            for gate in summary.get("gates", [])
        ],
        "actions": [
            {
                "rank": action["priority_rank"],
                "action": action["notes_for_humans"],
                "target": action["target_metric"],
                "score": _number(action["cfo_score"]),
                "acknowledge": action["requires_acknowledgment"],
            }
            for action in output.get("actions", [])
        ],
    }


def _newest(ids: list[UUID] | None) -> list[Any]:
    from models.statements import statements

    with ui.connection() as connection:
        wanted = {"tenant_ids": ids, "everyone": ids is None}
        return list(connection.execute(statements("cycles")["newest"], wanted))


def _ids(tenants: list[str] | None) -> list[UUID] | None:
    from kernel import tenancy

    if not tenants:
        return None
    with ui.connection() as connection:
        return [tenancy.find(connection, name).id for name in tenants]


def _slugs() -> dict[UUID, str]:
    from kernel import tenancy

    with ui.connection() as connection:
        return {tenant.id: tenant.slug for tenant in tenancy.all_tenants(connection)}


def _clock(at: str | None) -> Any:
    """A clock that stands at the given instant, or the real one."""
    if at is None:
        return lambda: datetime.now(UTC)
    try:
        instant = datetime.fromisoformat(at)
    except ValueError:
        ui.fail(f"--at {at} is no instant: write one such as 2026-07-01T06:30:00+00:00")
    if instant.tzinfo is None:
        ui.fail(f"--at {at} needs its offset from UTC: write {at}+00:00 for UTC")
    # What waits for an answer would run out, and the separation would hold back the cycles until then.
    if instant > datetime.now(UTC):
        ui.fail(f"--at {at} lies in the future: name an instant that has been")
    return lambda: instant


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
