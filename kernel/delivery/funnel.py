"""What became of a run, beside what the server at the other end took: of a server that shows its messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import views
from kernel.delivery.providers.effects import Effect
from kernel.delivery.rollup import Counts
from kernel.delivery.views import Case, Drawer
from models.delivery import ACCEPTED_STATUSES, attempts, campaign_runs, channel_outbox


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
    connection: sa.Connection, tenant_id: UUID, run_id: UUID, tenant: str, effects: Sequence[Effect]
) -> Funnel:
    """The caller is pinned to the tenant."""
    drawer = views.drawer(connection, tenant_id, run_id)
    return compared(tenant, drawer, _references(connection, tenant_id, run_id), effects)


def compared(
    tenant: str, drawer: Drawer, references: Mapping[str, tuple[UUID, str]], effects: Sequence[Effect]
) -> Funnel:
    """`references` gives the item, and what became of it, of each reference that a message may carry."""
    known = [references[effect.reference] for effect in effects if effect.reference in references]
    reached = {item for item, _ in known}
    cases = [case for case in drawer.cases if case.resolution is None]
    return Funnel(
        tenant=tenant,
        drawer=drawer,
        taken=Counter(became for _, became in known),
        strangers=len(effects) - len(known),
        twice=sum(count > 1 for count in Counter(effect.address for effect in effects).values()),
        missing=len({item for item, became in references.values() if became == "accepted"} - reached),
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


def standing(connection: sa.Connection, tenant_id: UUID, run_id: UUID) -> str:
    """The status of a run."""
    is_asked = (campaign_runs.c.tenant_id == tenant_id, campaign_runs.c.id == run_id)
    return connection.execute(sa.select(campaign_runs.c.status).where(*is_asked)).scalar_one()


def in_call(connection: sa.Connection, tenant_id: UUID, run_id: UUID) -> int:
    """How many attempts of a run are with the provider now."""
    is_asked = (
        attempts.c.tenant_id == tenant_id,
        attempts.c.run_id == run_id,
        attempts.c.state == "dispatching",
    )
    return connection.execute(sa.select(sa.func.count()).where(*is_asked)).scalar_one()


def _references(connection: sa.Connection, tenant_id: UUID, run_id: UUID) -> dict[str, tuple[UUID, str]]:
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
