"""What is done with a month of usage: recounting, closing, invoicing and correcting it.

What comes in, sites and plans stand in `usage`, proving a month to others in `usage_pack`; refusals of the kernel stand
there.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from dagster_project.cli import asked, ui
from dagster_project.cli import usage_views as views

app = typer.Typer(help="Months of usage: recount, close, invoice, correct.", no_args_is_help=True)

_LATE_DAYS = 3

_AnyMonth = Annotated[str | None, typer.Option("--month", help="In UTC, as 2026-01; all when left out.")]
_Adjustments = Annotated[list[str] | None, typer.Argument(metavar="ADJUSTMENT")]
_Late = Annotated[
    str | None, typer.Option("--late", metavar="MONTH", help="All late events of a month that wait.")
]


@app.command()
def periods(
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Slug or id; all when left out.")] = "",
    days: Annotated[
        int, typer.Option(help="A month that ended so many days ago should be closed.", min=0)
    ] = _LATE_DAYS,
    as_json: ui.Json = False,
) -> None:
    """Months and their states, and those that should be closed by now: then it ends with 1."""
    from kernel import tenancy
    from kernel.usage import periods as months

    with ui.connection() as connection:
        late = months.missed(connection, at=asked.now(), days=days)
        rows, names = [], {}
        if tenant:
            found = tenancy.find(connection, tenant)
            late = [each for each in late if each.tenant_id == found.id]
            rows, names = months.listed(connection, found.id), views.people(connection, found.id)
    if as_json:
        ui.emit(
            {"periods": [ui.plain(row) for row in rows], "missed": [ui.plain(row) for row in late]}, as_json
        )
    else:
        if tenant:
            ui.emit([views.row(each, names=names) for each in rows], as_json, title="Months")
        if late:
            told = [
                {"tenant": row.tenant, "month": row.year_month, "state": row.state or "never metered", "days": row.days}
                for row in late
            ]  # fmt: skip
            ui.emit(told, as_json, title=f"Ended {days} days ago or earlier, and not closed")
            ui.step("Next", "revenue-os usage close --month MONTH -t TENANT --as NAME, the oldest first")
    if late:
        raise typer.Exit(1)


@app.command()
def recount(
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Slug or id; all when left out.")] = "",
    month: Annotated[
        str | None, typer.Option("--month", help="Count this one whether it changed or not; needs --tenant.")
    ] = None,
    as_json: ui.Json = False,
) -> None:
    """Compare what changed with the ledger everywhere it was counted, and correct counters; 1 when something is off."""
    from kernel import tenancy
    from kernel.usage import recount as recounts

    if month and not tenant:
        ui.fail("name the tenant whose month is counted with --tenant")
    engine, now = ui.connect(), asked.now()
    only = None
    with engine.begin() as connection:
        tenancy.service(connection)
        known = [tenancy.find(connection, tenant)] if tenant else tenancy.all_tenants(connection)
    if tenant:
        only = known[0].id
    for each in known:
        # Of each tenant by itself: the oldest transaction under way is looked for once, and nobody waits for all.
        with engine.begin() as connection:
            recounts.find(connection, each.id, now)
            if month:
                recounts.queue(connection, each.id, month, at=now)
    done = recounts.work(engine, _worker(), asked.now, tenant_id=only, month=month)
    off = [each for each in done if each.error or (each.matrix and each.matrix.off)]
    counts = dict(Counter(each.status for each in done)) or {"COMPLETED": 0}
    told = [
        {
            "site": str(each.job.site_id), "month": each.job.year_month, "status": each.status,
            "off": each.error or ", ".join(f"{name} {by:+,}" for name, by in sorted(each.matrix.off.items())),
            "alarm": bool(each.matrix and each.matrix.alarms),
        }
        for each in off
    ]  # fmt: skip
    if as_json:
        ui.emit({"jobs": counts, "off": told}, as_json)
    else:
        ui.emit(counts, as_json, title="Recounts")
        if told:
            ui.emit(
                told, as_json, title="Not the same everywhere (counters of open months are corrected now)"
            )
    if off:
        raise typer.Exit(1)


@app.command()
def close(
    month: Annotated[str, typer.Option("--month", help="In UTC, as 2026-01.")],
    tenant: asked.Tenant,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what is in the way.")] = False,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Recount a month, check what must hold, freeze it for good, and draft its invoices."""
    from kernel import tenancy
    from kernel.usage import close as closing
    from kernel.usage import periods as months
    from kernel.usage import recount as recounts

    engine, now = ui.connect(), asked.now()
    months.bounds(month)
    with engine.begin() as connection:
        tenancy.service(connection)
        found = tenancy.find(connection, tenant)
        if not dry_run:
            who = asked.named(user)
            months.begin_closing(connection, found.id, at=now)
            recounts.find(connection, found.id, now)
    if not dry_run:
        recounts.work(engine, _worker(), asked.now, tenant_id=found.id, month=month)
    if dry_run:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            checks = closing.preflight(connection, found.id, month, at=now)
        rows = [{"check": each.name, "holds": each.is_ok, "why": each.why} for each in checks]
        ui.emit(rows, as_json, title=f"Before {month} is closed")
        if not all(each.is_ok for each in checks):
            raise typer.Exit(1)
        return
    with ui.spinner("Freezing", as_json), engine.begin() as connection:
        done = closing.close(connection, found.id, month, at=now, actor=who)
        names = views.people(connection, found.id)
    title = "Closed" if done.is_new else "It was closed before: nothing was changed"
    if as_json:
        ui.emit(views.closed(done), as_json)
        return
    told = views.row(views.closed(done), names=names)
    kept = told.pop("snapshots")
    del told["hash"]
    ui.emit(told, as_json, title=title)
    ui.emit(kept, as_json, title="Keep, by site")
    ui.step("Next", f"revenue-os usage invoice --month {month} -t {found.slug}")


@app.command()
def invoice(
    tenant: asked.Tenant,
    month: _AnyMonth = None,
    final: Annotated[
        str | None, typer.Option("--final", metavar="INVOICE", help="Make this draft final, for good.")
    ] = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Invoices with their lines, and the hash of the snapshot that each site's lines rest on, of all months or one."""
    from kernel.usage import evidence, invoices, sites

    with asked.of(tenant) as (connection, found):
        names = views.people(connection, found.id)
        if final is not None:
            known = [ui.plain(each) for each in invoices.listed(connection, found.id, month)]
            made = invoices.finalise(
                connection,
                found.id,
                views.id_of(final, known, "invoice"),
                actor=asked.named(user),
                at=asked.now(),
            )
            ui.emit(made if as_json else views.row(made, names=names), as_json, title="Final")
            return
        listed = invoices.listed(connection, found.id, month)
        lines = {each.id: invoices.lines(connection, found.id, each.id) for each in listed}
        named = {each.id: each.public_id for each in sites.of(connection, found.id)}
        bound = {
            month: [
                {"site": named[UUID(each["site_id"])], "snapshot": each["hash"]}
                for each in evidence.snapshots(connection, found.id, month=month)
            ]
            for month in {each.year_month for each in listed}
        }
    if as_json:
        ui.emit(
            [
                ui.plain(each)
                | {
                    "lines": [views.line(line) for line in lines[each.id]],
                    "snapshots": bound[each.year_month],
                }
                for each in listed
            ],
            as_json,
        )
        return
    for each in listed:
        ui.emit(views.row(each, names=names), as_json, title=f"{each.year_month} in {each.currency}")
        told = [views.row(views.line(line), each.currency) for line in lines[each.id]]
        reasons = [{"number": line["number"], **why} for line in told for why in line.pop("reasons")]
        ui.emit(told, as_json)
        if reasons:
            ui.emit(reasons, as_json, title="Why it is corrected, by line")
        ui.emit(bound[each.year_month], as_json, title="Bound to, by site")
    if not listed:
        ui.step("Invoices", "none: they are drafted when a month is closed")


@app.command()
def adjust(
    tenant: asked.Tenant,
    month: _AnyMonth = None,
    site: Annotated[str | None, typer.Option("--site", help="Public id or id.")] = None,
    events: Annotated[
        int | None,
        typer.Option(help="How many more the month is billed for; fewer with a minus, such as -3."),
    ] = None,
    kind: Annotated[
        Literal["late", "void", "credit", "correction"],
        typer.Option(help="late adds events, void and credit take away, correction does either."),
    ] = "correction",
    message: Annotated[
        UUID | None,
        typer.Option(help="Credit this message that was given up, by its id, in place of --events."),
    ] = None,
    why: Annotated[
        str, typer.Option("--why", help="The reason, of 10 characters at least; it stands on the invoice.")
    ] = "",
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Ask for a correction of a month, which somebody else approves; or list those there are."""
    from kernel.usage import adjustments, sites

    with asked.of(tenant) as (connection, found):
        if events is None and message is None:
            rows = adjustments.listed(connection, found.id, month)
            ui.emit(
                rows if as_json else [views.adjustment(row) for row in rows], as_json, title="Adjustments"
            )
            return
        given: Any = {"reason": why, "actor": asked.named(user), "at": asked.now()}
        if message is not None:
            made = adjustments.credit(connection, found.id, message, **given)
        elif month is None or site is None:
            ui.fail("name what is corrected with --month and --site")
        else:
            site_id = sites.find(connection, found.id, site).id
            made = [
                adjustments.ask(connection, found.id, site_id, month, events, kind=kind, **given)  # type: ignore[arg-type]
            ]
    ui.emit([{"adjustment": each} for each in made], as_json)
    ui.step("Next", f"somebody else: revenue-os usage approve {made[0]} -t {found.slug} --as NAME")


@app.command()
def approve(
    tenant: asked.Tenant,
    ids: _Adjustments = None,
    late: _Late = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Approve corrections that others asked for, all that are named or none."""
    from kernel.usage import adjustments

    done = _answered(adjustments.approve, tenant, ids, late, user)
    paid = Counter[tuple[str, str]]()
    for each in done:
        paid[each.of_year_month, each.pays] += each.quantity
    rows = [{"month": of, "paid_by": pays, "events": count} for (of, pays), count in sorted(paid.items())]
    ui.emit(rows, as_json, title="Approved")


@app.command()
def refuse(
    tenant: asked.Tenant,
    why: Annotated[
        str,
        typer.Option(
            "--why", help="The reason, of 10 characters at least; it is kept for good.", callback=asked.worded
        ),
    ],
    ids: _Adjustments = None,
    late: _Late = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Refuse corrections that were asked for, or take your own back, all that are named or none."""
    from kernel.usage import adjustments

    done = _answered(partial(adjustments.refuse, why=why), tenant, ids, late, user)
    ui.emit([{"adjustment": each} for each in done], as_json, title="Refused")


def _answered(
    answer: Callable[..., Any], tenant: str, ids: Sequence[str] | None, late: str | None, user: str
) -> Any:
    """What an answer makes of the adjustments that are named, and of the late ones of a month that nobody decided."""
    from kernel.usage import adjustments

    with asked.of(tenant) as (connection, found):
        who = asked.named(user)
        known = adjustments.listed(connection, found.id)
        named = [views.id_of(each, known, "adjustment") for each in ids or []]
        if late is not None:
            named += [
                row["id"]
                for row in known
                if row["kind"] == "late" and row["of_year_month"] == late
                and row["approved_at"] is None and row["refused_at"] is None
            ]  # fmt: skip
        if not named:
            ui.fail("nothing waits for approval there: name adjustments, or a month with --late")
        return answer(connection, found.id, named, actor=who, at=asked.now())


def _worker() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
