"""`revenue-os actions`: what was decided and waits for people, and what people say to it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from dagster_project.cli import action_views as views
from dagster_project.cli import asked, ui
from dagster_project.cli.action_views import SHORTEST
from kernel.text import UNSEEN

app = typer.Typer(help="Actions and tickets: list, show, answer, carry out, take back.", no_args_is_help=True)
_SHOWN = 100

Id = Annotated[str, typer.Argument(help=f"Id, or its beginning of at least {SHORTEST} characters.")]
OneOrAll = Annotated[str, typer.Option("--tenant", "-t", help="Slug or id; all when left out.")]


@app.command("list")
def list_actions(
    tenant: OneOrAll = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Also what has ended, what is snoozed, and what came too late.")
    ] = False,
    as_json: ui.Json = False,
) -> None:
    """What waits for an answer, then what is under way."""
    from kernel import tenancy
    from models.statements import statements

    now = asked.now()
    with ui.connection() as connection:
        found = tenancy.find(connection, tenant).id if tenant else None
        given = {"tenant_id": found, "everything": everything, "at": now, "limit": None}
        rows = connection.execute(statements("actions")["listed"], given).mappings().all()
    if as_json:
        ui.emit([dict(row) for row in rows], as_json)
        return
    ui.emit([views.listed(row, now, not tenant) for row in rows[:_SHOWN]], as_json, title="Actions (UTC)")
    if len(rows) > _SHOWN:
        ui.step("Actions", f"{len(rows) - _SHOWN:,} more: --tenant or --json gives all")


@app.command()
def tickets(
    tenant: OneOrAll = "",
    everything: Annotated[bool, typer.Option("--all", help="Also what is done, and what was done.")] = False,
    as_json: ui.Json = False,
) -> None:
    """Work for people: what the platform cannot do itself, or does not understand."""
    from kernel import tenancy

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant).id if tenant else None
        rows = _tickets(connection, found, everything=everything)
    if as_json:
        ui.emit(rows, as_json)
        return
    ui.emit(
        [views.ticket(row, not tenant, everything) for row in rows[:_SHOWN]], as_json, title="Tickets (UTC)"
    )
    if len(rows) > _SHOWN:
        ui.step("Tickets", f"{len(rows) - _SHOWN:,} more: --tenant or --json gives all")


@app.command()
def show(action: Id, tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """An action in words: what, why, the gates then and now, what it scored, and what has happened to it."""
    from models.statements import statements

    now = asked.now()
    with asked.of(tenant) as (connection, found):
        given = {"tenant_id": found.id, "id": _find(connection, found.id, action, "action")}
        row = dict(connection.execute(statements("actions")["shown"], given).mappings().one())
        events = [
            dict(event) for event in connection.execute(statements("actions")["events"], given).mappings()
        ]
        work = _tickets(connection, found.id, action_id=given["id"])
        standing = _gates_of(connection, found.id, now)
    gates = views.gates(row["gate_states"], standing)
    closed = views.closed_gates(row["gate_states"], standing)
    answerable = row["execution_status"] == "awaiting_ack" and not views.is_late(row, now)
    told = views.action(row, found.slug, list(closed.values()) if answerable else [])
    if as_json:
        ui.emit(told | {"gates": gates, "terms": row["terms"], "events": events, "tickets": work}, as_json)
        return
    told["expires_at"] = f"{views.instant(row['expires_at'])} UTC" if answerable else None
    known = {name: value for name, value in told.items() if value is not None}
    ui.emit(known, as_json, title=row["notes_for_humans"])
    if gates:
        ui.emit(gates, as_json, title="Gates when it was proposed and now")
    if row["terms"]:
        whose = " of the value that the kernel proposed" if row["proposed_by"] else ""
        ui.emit(views.score(row["terms"]), as_json, title=f"Score{whose}, in money")
    if work:
        ui.emit([views.ticket(each, False, True) for each in work], as_json, title="Tickets (UTC)")
    ui.emit([views.step(event) for event in events], as_json, title="History (UTC)")
    if answerable:
        short, digest = str(given["id"])[:SHORTEST], row["payload_hash"][: asked.HASH_DIGITS]
        despite = "".join(f" --despite {gate}" for gate in closed)
        ui.step(
            "Approve",
            f"revenue-os actions approve {short} -t {found.slug} --hash {digest}{despite} --as NAME",
        )
    elif row["execution_status"] == "awaiting_ack":
        ui.step("Expired", "nobody answered in time: the next cycle proposes it again if it still holds")


@app.command()
def approve(
    action: Id,
    tenant: asked.Tenant,
    payload_hash: Annotated[
        str, typer.Option("--hash", help=f"Of what was shown, or its first {asked.HASH_DIGITS} digits.")
    ],
    despite: Annotated[
        list[str] | None,
        typer.Option(help="A gate that closed since it was proposed, as show tells; several times."),
    ] = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Agree to exactly what was shown under the hash, and under the gates of now."""
    from kernel.actions import acknowledge

    now = asked.now()
    with _answering(tenant, user, action) as (connection, tenant_id, who, found):
        row = _stored(connection, tenant_id, found)
        gates = _gates_of(connection, tenant_id, now)
        closed = views.closed_gates(row["gate_states"], gates)
        for gate, why in closed.items():
            if gate not in (despite or ()):
                ui.fail(f"{why}; if you still agree, say so with --despite {gate}")
        acknowledge.approve(
            connection,
            tenant_id,
            who,
            found,
            asked.whole_hash(row["payload_hash"], payload_hash, "action", "show"),
            now,
            shown=gates,
        )
    ui.emit({"id": found, "status": "approved"}, as_json)
    ui.step(
        "Next", "carried out within a minute or two while revenue-os up runs; now: revenue-os actions apply"
    )


@app.command()
def apply(as_json: ui.Json = False) -> None:
    """Carry out now what is approved, for every tenant, as the sensor of revenue-os up does."""
    from kernel.actions import dispatch

    means: dict[str, Any] = {"clock": asked.now, "sleep": time.sleep, "worker": "command"}
    engine = ui.connect()
    settled = asdict(dispatch.reconcile(engine, **means))
    done = asdict(dispatch.run_due(engine, **means))
    if as_json:
        ui.emit({"settled": settled, "carried_out": done}, as_json)
    else:
        rows = [
            {"outcome": outcome, "carried_out": done[outcome], "settled_from_before": settled[outcome]}
            for outcome in done
            if done[outcome] or settled[outcome]
        ]
        ui.emit(rows, as_json, title="Actions that were due")
    if broken := settled["broken"] + done["broken"]:
        ui.fail(f"{broken} actions met an error of the program: see the log above")


@app.command()
def reject(
    action: Id, tenant: asked.Tenant, why: asked.Why, user: asked.As = "", as_json: ui.Json = False
) -> None:
    """Refuse it, with the reason."""
    from kernel.actions import acknowledge

    with _answering(tenant, user, action) as (connection, tenant_id, who, found):
        acknowledge.reject(connection, tenant_id, who, found, why, asked.now())
    ui.emit({"id": found, "status": "rejected"}, as_json)


@app.command()
def snooze(
    action: Id,
    tenant: asked.Tenant,
    hours: Annotated[
        float, typer.Option(help="For how long it leaves the list; it expires when it would have.")
    ],
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Put it off."""
    from kernel.actions import acknowledge

    # Nothing waits longer than three days; a year is no number of hours that overflows.
    if not 0 < hours <= 24 * 365:
        ui.fail(f"--hours {hours} is no time to wait: give a number of hours above 0")
    until = asked.now() + timedelta(hours=hours)
    with _answering(tenant, user, action) as (connection, tenant_id, who, found):
        acknowledge.snooze(connection, tenant_id, who, found, until, asked.now())
    ui.emit({"id": found, "snoozed_until": until}, as_json)


@app.command()
def edit(
    action: Id,
    tenant: asked.Tenant,
    value: Annotated[str, typer.Option(help="The new value, as JSON; anything else is text.")],
    why: asked.Why,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Propose another value; somebody else has to approve it."""
    from kernel.actions import acknowledge

    new_value = _value(value)
    with _answering(tenant, user, action) as (connection, tenant_id, who, found):
        made = acknowledge.edit(connection, tenant_id, who, found, new_value, why, asked.now())
    ui.emit({"id": found, "status": "awaiting_ack", "hash": made}, as_json)
    ui.step("Next", "somebody else has to approve it: revenue-os actions show tells them how")


@app.command()
def abort(
    action: Id, tenant: asked.Tenant, why: asked.Why, user: asked.As = "", as_json: ui.Json = False
) -> None:
    """Stop it; what is applied already is taken back with the next run."""
    from kernel.actions import acknowledge

    with _answering(tenant, user, action) as (connection, tenant_id, who, found):
        status = acknowledge.abort(connection, tenant_id, who, found, why, asked.now())
    ui.emit({"id": found, "status": status}, as_json)


@app.command()
def revert(
    action: Id, tenant: asked.Tenant, why: asked.Why, user: asked.As = "", as_json: ui.Json = False
) -> None:
    """Take an applied change back now."""
    from kernel.actions import abort as aborting
    from kernel.actions import acknowledge

    with _answering(tenant, user, action) as (connection, tenant_id, who, found):
        acknowledge.request_revert(connection, tenant_id, who, found, why, asked.now())
    outcome = aborting.revert(ui.connect(), {"tenant_id": tenant_id, "id": found}, asked.now)
    ui.emit({"id": found, "outcome": outcome}, as_json)


@app.command()
def settle(
    action: Id, tenant: asked.Tenant, why: asked.Why, user: asked.As = "", as_json: ui.Json = False
) -> None:
    """Leave what failed verification as it is, and end it: unmeasured, its tickets done."""
    from kernel.actions import acknowledge

    with _answering(tenant, user, action) as (connection, tenant_id, who, found):
        acknowledge.settle(connection, tenant_id, who, found, why, asked.now())
    ui.emit({"id": found, "status": "closed", "outcome": "not_measurable"}, as_json)


@app.command()
def done(
    ticket: Annotated[str, typer.Argument(help=f"Id of the ticket, or its first {SHORTEST} characters.")],
    tenant: asked.Tenant,
    why: Annotated[
        str, typer.Option("--why", help="What was done; it is kept for good.", callback=asked.worded)
    ],
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Report a ticket as done; an action that was nothing else ends with it."""
    from kernel.actions import acknowledge

    with _answering(tenant, user, ticket, "ticket") as (connection, tenant_id, who, found):
        status = acknowledge.done(connection, tenant_id, who, found, why, asked.now())
    ui.emit({"id": found, "status": "done", "action": status}, as_json)
    if status == "verify_failed":
        ui.step(
            "Next", "its action is still to be ended: revenue-os actions settle leaves the target as it is,"
        )
        ui.step("", "revenue-os actions abort takes back what can be")


@contextmanager
def _answering(
    tenant: str, user: str, beginning: str, what: str = "action"
) -> Iterator[tuple[Any, UUID, UUID, UUID]]:
    """A transaction in which a user of a tenant speaks about an action or a ticket, with the ids of these three."""
    from kernel import members, tenancy

    with ui.connection() as connection:
        tenant_id = tenancy.find(connection, tenant).id
        who = members.find(connection, tenant_id, asked.named(user)).user_id
        yield connection, tenant_id, who, _find(connection, tenant_id, beginning, what)


def _find(connection: Any, tenant_id: UUID, beginning: str, what: str) -> UUID:
    from models.statements import statements

    name, listing = {"action": ("by_prefix", "list"), "ticket": ("ticket_by_prefix", "tickets")}[what]
    if len(beginning) < SHORTEST:
        ui.fail(f"id {beginning!r} is too short: give at least {SHORTEST} characters")
    given = {"tenant_id": tenant_id, "prefix": beginning.lower()}
    found = connection.execute(statements("actions")[name], given).scalars().all()
    if not found:
        ui.fail(f"the tenant has no {what} {beginning}: see revenue-os actions {listing}")
    if len(found) > 1:
        ui.fail(f"several {what}s begin with {beginning}: give more of the id")
    return found[0]


def _stored(connection: Any, tenant_id: UUID, action_id: UUID) -> Mapping[str, Any]:
    from models.statements import statements

    given = {"tenant_id": tenant_id, "id": action_id}
    return connection.execute(statements("actions")["shown"], given).mappings().one()


def _value(text: str) -> Any:
    """JSON, else the text itself; refuses numbers that are none and characters that cannot be kept."""
    from kernel.decisions.levers import number

    def parsed(digits: str) -> int | float:
        if number(digits) is None:
            ui.fail(f"--value {digits[:20]} is no number that can be set: give one of ordinary size")
        return float(digits) if set(digits) & set(".eE") else int(digits)

    try:
        found = json.loads(text, parse_float=parsed, parse_int=parsed, parse_constant=parsed)
    except RecursionError:
        ui.fail("--value is nested too deeply: give the value itself")
    except ValueError:
        found = text
    written = json.dumps(found, ensure_ascii=False)
    if UNSEEN.search(written) or "\\u00" in written:
        ui.fail("--value has characters that cannot be seen: write it in plain text")
    return found


def _gates_of(connection: Any, tenant_id: UUID, at: datetime) -> Any:
    from kernel.decisions import bundle
    from kernel.decisions.contract import KernelError

    try:
        return bundle.gates_of(connection, tenant_id, at)
    except KernelError as error:
        ui.fail(error.message)


def _tickets(
    connection: Any, tenant_id: UUID | None, *, action_id: UUID | None = None, everything: bool = True
) -> list[dict[str, Any]]:
    from models.statements import statements

    given = {"tenant_id": tenant_id, "action_id": action_id, "everything": everything}
    return [dict(row) for row in connection.execute(statements("actions")["tickets"], given).mappings()]
