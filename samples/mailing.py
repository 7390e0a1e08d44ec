"""A mailing of a sample company: the part of its contacts that it goes to, and who of them agreed to be written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, combinations
from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import setup
from models.spine import spine_campaigns
from models.spine import spine_contacts as contacts

# One in so many left after having agreed; one in so many was never asked.
_LEFT, _NEVER_ASKED = 90, 60
_SOURCE = "form of the sample company"
_NO_ADDRESS = "kim.patel@mail"


@dataclass(frozen=True, slots=True)
class Consents:
    agreed: tuple[str, ...]
    left: tuple[str, ...]


def part(people: Mapping[tuple[str, str], int], wanted: int) -> tuple[list[str], list[str]]:
    """The stages and personas that name the smallest part with `wanted` people; all of them when there are fewer.

    `people` counts contacts by stage and persona.
    """
    stages = sorted({stage for stage, _ in people})
    personas = sorted({persona for _, persona in people})
    parts = [
        (sum(people.get((stage, persona), 0) for stage in some for persona in of), some, of)
        for some in _choices(stages)
        for of in _choices(personas)
    ]
    _, some, of = min((found for found in parts if found[0] >= wanted), default=(0, stages, personas))
    return list(some), list(of)


def consents(addresses: Sequence[str], most: int) -> Consents:
    """By the place of an address alone, so that it repeats; `most` agreed and stayed, whoever is beyond was never asked."""
    left = tuple(addresses[_LEFT // 2 :: _LEFT])
    stayed = [
        address for place, address in enumerate(addresses, 1) if place % _NEVER_ASKED and address not in left
    ]
    return Consents((*stayed[:most], *left), left)


def campaign(connection: sa.Connection, tenant_id: UUID, channel: str, most: int, at: datetime) -> UUID:
    """A campaign for `most` of the tenant's contacts and a few more, who never agreed or left; their consents are noted."""
    wanted = _segment(connection, tenant_id, most * 21 // 20)
    _meet(connection, tenant_id, wanted)
    made = spine_campaigns.insert().values(tenant_id=tenant_id, name="What we learned", target_segment=wanted)
    campaign_id = connection.execute(made.returning(spine_campaigns.c.id)).scalar_one()
    setup.policy(connection, tenant_id, channel, hourly_cap=None, daily_cap=None, needs_consent=True)
    place = setup.workspace(connection, tenant_id)
    reach = sa.func.delivery.audience(tenant_id, campaign_id, place, channel, at).table_valued(
        "address", "is_intended"
    )
    query = sa.select(reach.c.address).where(reach.c.is_intended).order_by(reach.c.address)
    who = consents(connection.execute(query).scalars().all(), most)
    setup.consent(connection, tenant_id, who.agreed, channel=channel, basis="consent", source=_SOURCE, at=at)
    setup.suppress(connection, tenant_id, who.left, reason="opt_out", source=_SOURCE)
    return campaign_id


def _segment(connection: sa.Connection, tenant_id: UUID, people: int) -> dict[str, list[str]]:
    keys = (contacts.c.lifecycle_stage, contacts.c.persona_tag)
    known = sa.select(*keys, sa.func.count(sa.distinct(sa.func.lower(contacts.c.email)))).where(
        contacts.c.tenant_id == tenant_id,
        contacts.c.merged_into_id.is_(None),
        contacts.c.persona_tag.is_not(None),
    )
    counted = {(stage, tag): count for stage, tag, count in connection.execute(known.group_by(*keys))}
    stages, personas = part(counted, people)
    return {"lifecycle_stage": stages, "persona_tag": personas}


def _meet(connection: sa.Connection, tenant_id: UUID, segment: Mapping[str, list[str]]) -> None:
    """Two more contacts: one whose address is none, and one with the address of somebody who is there."""
    known = sa.select(contacts.c.lifecycle_stage, contacts.c.persona_tag, contacts.c.email).where(
        contacts.c.tenant_id == tenant_id, contacts.c.merged_into_id.is_(None), contacts.c.email.is_not(None),
        *(contacts.c[name].in_(words) for name, words in segment.items()),
    )  # fmt: skip
    somebody = connection.execute(known.order_by(contacts.c.email).limit(1)).one()._asdict()
    rows = [
        {"tenant_id": tenant_id, **somebody, "email": email} for email in (_NO_ADDRESS, somebody["email"])
    ]
    connection.execute(contacts.insert(), rows)


def _choices(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(words, size) for size in range(1, len(words) + 1))
