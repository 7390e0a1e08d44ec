"""What became of a campaign of the demonstration, beside what the server at the other end took. Nothing is sent here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from dagster_project.cli import campaign_views, ui

if TYPE_CHECKING:
    from uuid import UUID

    import sqlalchemy as sa

    from kernel.delivery.providers.effects import Effect
    from kernel.delivery.rollup import Counts
    from kernel.delivery.views import Case, Drawer

_SHOWN_CASES = 3  # of a tenant


@dataclass(frozen=True, slots=True)
class Funnel:
    """A run and its messages at the server. `taken` counts the messages that the server took, by what became of their people here.

    `strangers` are messages of the server that no attempt stands for; `twice` are addresses it took several messages
    for; `missing` are people who count as accepted and of whom the server knows nothing. `held` are the open cases of
    which the server has the message.
    """

    tenant: str
    drawer: Drawer
    taken: Mapping[str, int]
    strangers: int
    twice: int
    missing: int
    cases: Sequence[Case]
    held: frozenset[UUID]

    @property
    def counts(self) -> Counts:
        return self.drawer.run.counts


def read(
    connection: sa.Connection, tenant_id: UUID, tenant: str, run_id: UUID, effects: Sequence[Effect]
) -> Funnel:
    """The caller is pinned to the tenant."""
    from kernel.delivery import views

    drawer = views.drawer(connection, tenant_id, run_id)
    return compared(tenant, drawer, _attempts(connection, tenant_id, run_id), effects)


def compared(
    tenant: str, drawer: Drawer, attempts: Mapping[str, tuple[UUID, str]], effects: Sequence[Effect]
) -> Funnel:
    """`attempts` gives the item, and what became of it, of each reference that a message may carry."""
    known = [attempts[effect.reference] for effect in effects if effect.reference in attempts]
    reached = {item for item, _ in known}
    cases = [case for case in drawer.cases if case.resolution is None]
    return Funnel(
        tenant=tenant,
        drawer=drawer,
        taken=Counter(became for _, became in known),
        strangers=len(effects) - len(known),
        twice=sum(count > 1 for count in Counter(effect.address for effect in effects).values()),
        missing=len({item for item, became in attempts.values() if became == "accepted"} - reached),
        cases=cases,
        held=frozenset(case.id for case in cases if case.item_id in reached),
    )


def mismatches(funnel: Funnel) -> list[str]:
    """What does not add up, in words; empty when everything does."""
    counts, intended = funnel.counts, funnel.drawer.run.intended
    found = {
        f"{intended} were intended, and {counts.intended} are accounted for": counts.intended != intended,
        f"{counts.open} are still open": counts.open,
        f"{funnel.twice} were contacted twice": funnel.twice,
        f"{funnel.missing} count as accepted and were never taken by the server": funnel.missing,
        f"the server took {funnel.strangers} messages that nobody sent": funnel.strangers,
        f"{counts.unknown} are unknown, with {len(funnel.cases)} open cases": counts.unknown != len(funnel.cases),
    } | {
        f"the server took {count} messages for people who count as {became}": True
        for became, count in funnel.taken.items()
        if became not in ("accepted", "unknown")
    }  # fmt: skip
    return [f"{funnel.tenant}: {told}" for told, is_wrong in found.items() if is_wrong]


def tell(funnels: Sequence[Funnel]) -> None:
    """Prints the funnels side by side, and the first cases of each."""
    sides = [_side(funnel) for funnel in funnels]
    lines = sorted({line for side in sides for line in side}, key=lambda line: (line.place, line.told))
    rows = [
        {"people": line.told} | {each.tenant: side.get(line, 0) for each, side in zip(funnels, sides, strict=True)}
        for line in lines
    ]  # fmt: skip
    typer.echo()
    ui.emit(rows, False, title="Two campaigns, reconciled with what the servers took")
    shown = [_case(funnel, case) for funnel in funnels for case in funnel.cases[:_SHOWN_CASES]]
    if shown:
        open_cases = sum(len(funnel.cases) for funnel in funnels)
        typer.echo()
        ui.emit(shown, False, title=f"What stays unknown: {len(shown)} of {open_cases} open cases")
    typer.echo()
    for funnel in funnels:
        run = campaign_views.short(funnel.drawer.run.id)
        typer.echo(f".venv/bin/revenue-os campaign show {run} -t {funnel.tenant}")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the table; lines stand in the order of their places."""

    place: int
    told: str


def _side(funnel: Funnel) -> dict[_Line, Any]:
    run, counts = funnel.drawer.run, asdict(funnel.counts)
    lost = [each for each in funnel.drawer.exclusions if not each.is_intended]
    lines = {
        _Line(0, "through"): run.provider,
        _Line(1, "addressed"): run.intended + sum(each.people for each in lost),
        **{_Line(2, f"  cannot be reached: {each.reason}"): each.people for each in lost},
        _Line(3, "intended"): run.intended,
    }
    for each in funnel.drawer.exclusions:
        if each.is_intended:
            line = _Line(4, f"  suppressed: {each.reason}")
            lines[line] = lines.get(line, 0) + each.people
    named = ("accepted", "rejected", "unknown", "cancelled", "expired", "abandoned", "open")
    for place, name in enumerate(named, 5):
        if counts[name] or name in ("accepted", "rejected", "unknown", "cancelled"):
            lines[_Line(place, f"  {name}")] = counts[name]
    return lines | {
        _Line(20, "the server took"): sum(funnel.taken.values()) + funnel.strangers,
        _Line(21, "  for accepted people"): funnel.taken.get("accepted", 0),
        _Line(22, "  for unknown people"): funnel.taken.get("unknown", 0),
        _Line(23, "contacted twice"): funnel.twice,
        _Line(24, "open cases"): len(funnel.cases),
    }


def _case(funnel: Funnel, case: Case) -> dict[str, Any]:
    return {
        "address": case.address,
        "tenant": funnel.tenant,
        "reason": case.reason,
        "server has it": case.id in funnel.held,
    }


def _attempts(connection: sa.Connection, tenant_id: UUID, run_id: UUID) -> dict[str, tuple[UUID, str]]:
    import sqlalchemy as sa

    from models.delivery import ACCEPTED_STATUSES, attempts, channel_outbox

    query = (
        sa.select(attempts.c.id, channel_outbox.c.id.label("item_id"), channel_outbox.c.status)
        .join(channel_outbox, sa.and_(channel_outbox.c.tenant_id == attempts.c.tenant_id,
                                      channel_outbox.c.id == attempts.c.item_id))
        .where(channel_outbox.c.tenant_id == tenant_id, channel_outbox.c.root_run_id == run_id)
    )  # fmt: skip
    return {
        str(row.id): (row.item_id, "accepted" if row.status in ACCEPTED_STATUSES else row.status)
        for row in connection.execute(query)
    }
