"""Tests of what a campaign says, and the addresses of the tenant's own that they go to."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.cli import asked, ui
from dagster_project.cli import campaign_views as told

if TYPE_CHECKING:
    from uuid import UUID

    import sqlalchemy as sa


def seeds(
    tenant: asked.Tenant,
    address: Annotated[
        list[str] | None, typer.Argument(help="To add, or with --remove to take away.")
    ] = None,
    channel: Annotated[str, typer.Option(help="email, sms or voice.")] = "email",
    remove: Annotated[bool, typer.Option("--remove", help="Take them off the list.")] = False,
    why: Annotated[str, typer.Option("--why", help="Whose they are; with addresses.")] = "",
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """The seed list: addresses of your own that tests may go to. No contact can be on it."""
    from kernel.decisions import switches
    from kernel.delivery import setup, views

    with asked.of(tenant) as (connection, found):
        if address:
            who = asked.speaker(connection, found.id, user)
            if remove:
                setup.remove_seeds(connection, found.id, address, channel=channel)
            else:
                setup.add_seeds(connection, found.id, address, channel=channel, actor=who)
            done = {"seeds": address, "channel": channel, "removed": remove}
            switches.record(connection, found.id, done, actor=who, reason=why, at=asked.now())
        rows = views.seeds(connection, found.id)
    ui.emit(rows if as_json else [told.seed(row) for row in rows], as_json, title="Seed list (UTC)")


def send_test(
    what: Annotated[
        str, typer.Argument(metavar="RUN|CAMPAIGN", help="A campaign's newest content, or that of a run.")
    ],
    tenant: asked.Tenant,
    to: Annotated[
        list[str], typer.Option("--to", help="An address of the seed list; several times for more.")
    ],
    channel: asked.Channel = None,
    step: asked.Step = None,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Send a content to your own addresses, marked [Test]: approved or not, in no count, to no contact."""
    from kernel.delivery import trial
    from kernel.delivery.providers import registry

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user, asked.ANYBODY)
        content_id = _content(connection, found.id, what, channel, step)
    tested = trial.send(
        ui.connect(), found.id, content_id, to, provider_of=registry.make, problems=asked.problems, actor=who, now=asked.now
    )  # fmt: skip
    if as_json:
        ui.emit([asdict(each) for each in tested], as_json)
    else:
        ui.emit([told.tested(each) for each in tested], as_json, title="Tests")
    if any(each.outcome.state != "accepted" for each in tested):
        raise typer.Exit(1)


def _content(
    connection: sa.Connection, tenant_id: UUID, what: str, channel: str | None, step: int | None
) -> UUID:
    """Of the run of that id, else the newest of the campaign of that name or id."""
    from uuid import UUID

    from kernel.delivery import launch, views
    from kernel.errors import RefusedError

    try:
        run_id = views.find(connection, tenant_id, "run", what)
    except RefusedError:
        campaign_id = views.find(connection, tenant_id, "campaign", what)
        found = launch.prerequisites(connection, tenant_id, campaign_id, channel, step, asked.now())
        if found["content_id"] is None:
            why = [each["message"] for each in found["requirements"] if not each["pass"]]
            ui.fail(f"there is nothing to test: {'; '.join(why)}")
        return UUID(found["content_id"])
    return views.drawer(connection, tenant_id, run_id).run.content_id
