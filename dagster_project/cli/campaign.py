"""`revenue-os campaign`: launching campaigns, what became of them, and what people do about it.

What is set before a launch stands in `campaign_setup`, the worker and its kin in `campaign_work`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dagster_project.cli import asked, campaign_setup, campaign_trial, campaign_work, ui
from dagster_project.cli import campaign_views as told

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    import sqlalchemy as sa

    from kernel.delivery import views
    from kernel.delivery.preview import Preview

app = typer.Typer(
    help="Campaigns: write, approve, launch, send, follow, and settle what is uncertain.",
    no_args_is_help=True,
)
app.command("list")(campaign_setup.list_campaigns)
app.command()(campaign_setup.accounts)
app.command()(campaign_setup.account)
app.command()(campaign_setup.policy)
app.command()(campaign_setup.suppress)
app.command()(campaign_setup.consent)
app.command()(campaign_trial.seeds)
app.command()(campaign_setup.write)

_SHOWN = 20
_ONCE = "once"  # the occurrence of a campaign that is not repeated
_At = Annotated[
    str | None, typer.Option(help="When the first message goes: 2026-12-01T09:00, in --time-zone.")
]
_Until = Annotated[str | None, typer.Option(help="Nothing goes after this: what is queued then expires.")]
_Zone = Annotated[str | None, typer.Option(help="IANA name; the tenant's when left out.")]


@app.command()
def preview(
    campaign: asked.Campaign,
    tenant: asked.Tenant,
    channel: asked.Channel = None,
    step: asked.Step = None,
    at: _At = None,
    until: _Until = None,
    time_zone: _Zone = None,
    as_json: ui.Json = False,
) -> None:
    """What a launch would send to whom, its cost, by when, beside which others, and what stands in its way."""
    options = {"channel": channel, "step": step, "at": at, "until": until, "time-zone": time_zone}
    _dry_run(campaign, tenant, options, None, as_json)


app.command("test")(campaign_trial.send_test)
app.command()(campaign_setup.approve)


@app.command()
def launch(
    campaign: asked.Campaign,
    tenant: asked.Tenant,
    channel: asked.Channel = None,
    step: asked.Step = None,
    content_hash: Annotated[
        str | None, typer.Option("--hash", help="Of what preview showed: launch that and nothing newer.")
    ] = None,
    at: _At = None,
    until: _Until = None,
    time_zone: _Zone = None,
    occurrence: Annotated[
        str, typer.Option(help="Which time of a repeated campaign, such as 2026-12.")
    ] = _ONCE,
    request: Annotated[
        str | None, typer.Option(help="Your own id of this request: asked again, nothing is launched twice.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Launch nothing: tell what would happen, as preview does.")
    ] = False,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Queue the newest approved content for the audience of this moment; workers send it."""
    from kernel.delivery import launch as launching
    from kernel.delivery import views

    if dry_run:
        options = {"channel": channel, "step": step, "at": at, "until": until, "time-zone": time_zone,
                   "occurrence": None if occurrence == _ONCE else occurrence, "request": request,
                   "as": user}  # fmt: skip
        _dry_run(campaign, tenant, options, content_hash, as_json)
        return
    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user, asked.ANYBODY)
        campaign_id = _campaign(connection, found.id, campaign)
        if content_hash is not None:
            content_hash = _seen(connection, found.id, campaign_id, channel, step, content_hash)
        zone = time_zone or found.time_zone
        made = launching.launch(
            connection, found.id, campaign_id, actor=who, at=asked.now(), problems=asked.problems,
            request_id=request, channel=channel, step=step, content_hash=content_hash, occurrence=occurrence,
            scheduled_for=_instant(at, zone), expires_at=_instant(until, zone), time_zone=zone,
        )  # fmt: skip
        rows = views.exclusions(connection, found.id, made.run_id)
    excluded = {row.reason: row.people for row in rows if not row.found_when_sending}
    if as_json:
        ui.emit(asdict(made) | {"excluded": excluded}, as_json)
    else:
        ui.emit(made, as_json)
        told.tell_excluded(excluded)
    ui.step("Next", f"revenue-os campaign show {told.short(made.run_id)} -t {found.slug}")
    if made.suppressed < made.intended:
        ui.step("", "it is sent while revenue-os campaign work runs")
    else:
        ui.step("Nobody", told.nobody(excluded))


@app.command()
def runs(
    tenant: asked.Tenant,
    campaign: Annotated[str | None, typer.Argument(help="Of this campaign alone: its name or id.")] = None,
    most: Annotated[int, typer.Option(help="So many, the newest first.", min=1)] = 100,
    as_json: ui.Json = False,
) -> None:
    """What was launched, and how far it is."""
    from kernel.delivery import views

    with asked.of(tenant) as (connection, found):
        campaign_id = _campaign(connection, found.id, campaign) if campaign else None
        rows = views.runs(connection, found.id, campaign_id=campaign_id, most=most)
    ui.emit(rows if as_json else [told.listed(row) for row in rows], as_json, title="Runs (UTC)")


@app.command()
def show(
    run: asked.RunId,
    tenant: asked.Tenant,
    status: Annotated[str | None, typer.Option(help="Only people of this status, such as failed.")] = None,
    person: Annotated[
        str | None, typer.Option(help="Only people whose address or name has this in it.")
    ] = None,
    item: Annotated[
        str | None, typer.Option(help="Every attempt for one person: an address, or the id of an item.")
    ] = None,
    after: Annotated[int, typer.Option(help="Go on behind this place of the list.", min=0)] = 0,
    most: Annotated[int, typer.Option(help="So many people, and so many cases.", min=1)] = _SHOWN,
    as_json: ui.Json = False,
) -> None:
    """A run with its counts, jobs, people, cases and the runs it hangs together with."""
    from kernel.delivery import views

    with asked.of(tenant) as (connection, found):
        run_id = views.find(connection, found.id, "run", run)
        if item is not None:
            one = _one(views.people(connection, found.id, run_id, person=item), item)
            tries = views.attempts(connection, found.id, one.item_id) if one.item_id else []
            _tell_item(one, tries, as_json)
            return
        drawer = views.drawer(connection, found.id, run_id, most_cases=most)
        page = views.people(
            connection, found.id, run_id, status=status, person=person, after=after, most=most
        )
    if as_json:
        people = {"people": [asdict(each) for each in page.people], "after": page.after}
        ui.emit(asdict(drawer) | people, as_json)
        return
    if not (status or person or after):
        told.tell_drawer(drawer)
    ui.emit(told.people(page.people), as_json, title="One by one")
    if page.after is not None:
        ui.step("More", f"--after {page.after} goes on, --person finds one, --item tells its attempts")


@app.command()
def pause(run: asked.RunId, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False) -> None:
    """Send nothing more of a run until it is resumed; what is being sent is settled."""
    from kernel.delivery import control

    _controlled(run, tenant, user, as_json, control.pause)


@app.command()
def resume(run: asked.RunId, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False) -> None:
    """Go on with a paused run."""
    from kernel.delivery import control

    _controlled(run, tenant, user, as_json, control.resume)


@app.command()
def cancel(run: asked.RunId, tenant: asked.Tenant, user: asked.As = "", as_json: ui.Json = False) -> None:
    """Hold back for good everything of a run that is not being sent at this moment."""
    from kernel.delivery import control

    _controlled(run, tenant, user, as_json, control.cancel)


@app.command()
def retry(
    run: asked.RunId,
    tenant: asked.Tenant,
    request: Annotated[
        str | None, typer.Option(help="Your own id of this request: asked again, nothing is retried twice.")
    ] = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """A new run for those of an ended one that failed and may end otherwise; nobody else is contacted."""
    from kernel.delivery import control, views

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        run_id = views.find(connection, found.id, "run", run)
        made = control.retry(connection, found.id, run_id, actor=who, at=asked.now(), request_id=request)
    ui.emit(made, as_json)
    ui.step("Next", "it is sent while revenue-os campaign work runs")


@app.command()
def cases(
    tenant: asked.Tenant,
    run: Annotated[str | None, typer.Option(help="Of this run alone.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is resolved, and by whom.")] = False,
    as_json: ui.Json = False,
) -> None:
    """Messages of which nobody knows whether they went out, the most urgent first."""
    from kernel.delivery import views

    with asked.of(tenant) as (connection, found):
        run_id = views.find(connection, found.id, "run", run) if run else None
        rows = views.cases(connection, found.id, run_id=run_id, closed=everything)
    ui.emit(rows if as_json else told.cases(rows, with_campaign=True), as_json, title="Cases (UTC)")


@app.command()
def resolve(
    resolution: Annotated[str, typer.Argument(help="accepted, rejected or abandoned.")],
    tenant: asked.Tenant,
    why: asked.Why,
    case: Annotated[list[str] | None, typer.Argument(help="Cases by their ids, or their beginnings.")] = None,
    run: Annotated[str | None, typer.Option(help="Every open case of this run.")] = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Say what became of an uncertain message: accepted went out, rejected may be retried, abandoned never is."""
    from kernel.delivery import reconcile, views
    from models.delivery import RESOLUTIONS

    if resolution not in RESOLUTIONS:
        ui.fail(f"{resolution!r} is no resolution: use {', '.join(RESOLUTIONS)}")
    if bool(case) == bool(run):
        ui.fail("name the cases, or a run with --run: one of both")
    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        if run:
            run_id = views.find(connection, found.id, "run", run)
            ids = [row.id for row in views.cases(connection, found.id, run_id=run_id)]
        else:
            ids = [views.find(connection, found.id, "case", each) for each in case or ()]
        for case_id in ids:
            reconcile.resolve(connection, found.id, case_id, resolution, actor=who, note=why, at=asked.now())
    ui.emit({"resolution": resolution, "cases": len(ids)}, as_json)


app.command()(campaign_work.work)
app.command()(campaign_work.receive)
app.command()(campaign_work.fence)


def _campaign(connection: sa.Connection, tenant_id: UUID, campaign: str) -> UUID:
    from kernel.delivery import views

    return views.find(connection, tenant_id, "campaign", campaign)


def _dry_run(
    campaign: str, tenant: str, options: Mapping[str, Any], digits: str | None, as_json: bool
) -> None:
    """What a launch with these options would do, and the command that does it."""
    with asked.of(tenant) as (connection, found):
        campaign_id = _campaign(connection, found.id, campaign)
        zone = options["time-zone"] or found.time_zone
        seen = _previewed(
            connection, found.id, campaign_id, options["channel"], options["step"],
            scheduled_for=_instant(options["at"], zone), expires_at=_instant(options["until"], zone),
        )  # fmt: skip
    if digits is not None:
        _expect_seen(seen, digits)
    if as_json:
        ui.emit(told.preview(seen), as_json)
        return
    told.tell_preview(seen)
    if seen.content_id is not None and not seen.included:
        ui.step("Nobody", told.nobody(seen.excluded or {}))
    missing = [each.id for each in seen.requirements if not each.passed]
    if missing == ["content_approved"]:
        ui.step("Approve", f"revenue-os campaign approve {told.short(seen.content_id)} -t {found.slug}"
                f" --hash {seen.content_hash[: asked.HASH_DIGITS]} --as NAME")  # fmt: skip
    elif seen.is_ready:
        given = {"hash": seen.content_hash[: asked.HASH_DIGITS], **options}
        given["as"] = given.get("as") or "NAME"
        words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None]
        ui.step("Launch", f"revenue-os campaign launch {told.short(campaign_id)} -t {found.slug} {' '.join(words)}")  # fmt: skip


def _previewed(
    connection: sa.Connection, tenant_id: UUID, campaign_id: UUID, channel: str | None, step: int | None,
    **when: datetime | None,
) -> Preview:  # fmt: skip
    from kernel.delivery.preview import preview as previewed

    return previewed(
        connection, tenant_id, campaign_id, at=asked.now(), problems=asked.problems, channel=channel, step=step, **when
    )  # fmt: skip


def _instant(text: str | None, zone: str) -> datetime | None:
    return asked.instant(text, zone) if text else None


def _seen(
    connection: sa.Connection, tenant_id: UUID, campaign_id: UUID, channel: str | None, step: int | None, digits: str
) -> str:  # fmt: skip
    return _expect_seen(_previewed(connection, tenant_id, campaign_id, channel, step), digits)


def _expect_seen(found: Preview, digits: str) -> str:
    if found.content_hash is None:
        ui.fail("the campaign has nothing to send: write its content first")
    return asked.whole_hash(found.content_hash, digits)


def _controlled(run: str, tenant: str, user: str, as_json: bool, act: Any) -> None:
    from kernel.delivery import views

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        run_id = views.find(connection, found.id, "run", run)
        act(connection, found.id, run_id, actor=who, at=asked.now())
        (after,) = [views.drawer(connection, found.id, run_id).run]
    ui.emit(after if as_json else told.listed(after), as_json)


def _one(page: views.Page, item: str) -> views.Person:
    exact = [each for each in page.people if item.lower() in (each.address, str(each.item_id))] or page.people
    if not exact:
        ui.fail(f"the run holds nobody with {item!r}: see revenue-os campaign show RUN --person PART")
    if len(exact) > 1:
        ui.fail(f"several people of the run have {item!r} in their address, name or id: give more of it")
    return exact[0]


def _tell_item(one: views.Person, tries: list[views.Attempt], as_json: bool) -> None:
    if as_json:
        ui.emit(asdict(one) | {"attempts": [asdict(each) for each in tries]}, as_json)
        return
    ui.emit(told.item(one, tries), as_json, title="Item (UTC)")
    ui.emit([told.attempt(each) for each in tries], as_json, title="Attempts (UTC)")
