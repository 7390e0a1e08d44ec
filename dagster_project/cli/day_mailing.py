"""One campaign of the demonstration up to its launch: account, audience, consents, text, approval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dagster_project.cli import campaign_asked, ui

if TYPE_CHECKING:
    import sqlalchemy as sa

RECIPIENTS = 500
ACCOUNT = "demo"
CHANNEL = "email"
_REQUEST = "demo"  # asked again, it launches nothing
_AUTHOR, _APPROVER = "max.member", "ana.approver"
_SUBJECT = "What we learned this month"
_BODY = """Hello {{first_name|there}},

three things we learned with teams like {{company|yours}} this month.

No more of these: {{unsubscribe_url}}
"""
_ADDRESSED = RECIPIENTS + 25  # so that some have not agreed, or left
_SOURCE = "form of the sample company"
_NO_ADDRESS = "kim.patel@mail"


@dataclass(frozen=True, slots=True)
class Mailing:
    """A tenant's account, its run once it was launched, and the folder in which its server keeps what it takes."""

    tenant_id: UUID
    slug: str
    provider: str
    account_id: UUID
    is_connected: bool
    run_id: UUID | None
    folder: Path

    @property
    def is_over(self) -> bool:
        """Whether an earlier demonstration sent it and found that it adds up: that disconnects the account."""
        return self.run_id is not None and not self.is_connected


def prepared(engine: sa.Engine, slug: str, provider: str, home: Path) -> Mailing:
    """The mailing as it stands, with an account that is not connected when there was none."""
    import sqlalchemy as sa

    from kernel import tenancy
    from kernel.delivery import setup
    from models.delivery import campaign_runs, provider_accounts

    with engine.begin() as connection:
        tenancy.service(connection)
        of = tenancy.find(connection, slug).id
        tenancy.service(connection, of)
        known = sa.select(provider_accounts.c.id, provider_accounts.c.is_connected).where(
            provider_accounts.c.tenant_id == of, provider_accounts.c.name == ACCOUNT
        )
        account = connection.execute(known).one_or_none()
        if account is None:
            setup.account(connection, of, ACCOUNT, channel=CHANNEL, provider=provider)
            account = connection.execute(known).one()
        run = sa.select(campaign_runs.c.id).where(
            campaign_runs.c.tenant_id == of, campaign_runs.c.request_id == _REQUEST
        )
        run_id = connection.execute(run).scalar_one_or_none()
    folder = home / "demo-servers" / str(account.id)
    return Mailing(of, slug, provider, account.id, account.is_connected, run_id, folder)


def set_account(
    engine: sa.Engine, mailing: Mailing, config: Mapping[str, Any], *, is_connected: bool
) -> None:
    from kernel.delivery import setup

    domain = f"{mailing.slug}.example"
    given = {"timeout_seconds": 1, "unsubscribe_base": f"https://{domain}/unsubscribe", **config}
    with engine.begin() as connection:
        setup.account(
            connection, mailing.tenant_id, ACCOUNT, channel=CHANNEL, provider=mailing.provider,
            sender=f"news@{domain}", config=given, is_connected=is_connected,
        )  # fmt: skip


def launched(engine: sa.Engine, mailing: Mailing, config: Mapping[str, Any]) -> Mailing:
    """Connects the account; writes, approves and launches in one transaction what was not launched before."""
    from kernel.actions import acknowledge
    from kernel.delivery import contents, launch, views

    set_account(engine, mailing, config, is_connected=True)
    if mailing.run_id:
        return mailing
    now, of = datetime.now(UTC), mailing.tenant_id
    with engine.begin() as connection:
        campaign_id = _campaign(connection, of, now)
        author, approver = (
            str(acknowledge.find_member(connection, of, name).user_id) for name in (_AUTHOR, _APPROVER)
        )
        text = contents.write(
            connection, of, campaign_id, account=ACCOUNT, subject=_SUBJECT, body=_BODY, author=author
        )
        seen = views.content(connection, of, text).content_hash
        contents.approve(connection, of, text, seen, approver=approver, at=now)
        done = launch.launch(
            connection, of, campaign_id, actor=author, at=now, request_id=_REQUEST, chunk_size=100,
            problems=campaign_asked.problems,
        )  # fmt: skip
    ui.step("Launch", f"{done.intended} people of {mailing.slug} by {mailing.provider}, in {done.jobs} jobs;"
            f" {done.suppressed} are suppressed")  # fmt: skip
    return replace(mailing, run_id=done.run_id)


def _campaign(connection: sa.Connection, tenant_id: UUID, now: datetime) -> UUID:
    """A campaign for a part of the contacts, with who of them agreed and who left."""
    import sqlalchemy as sa

    from kernel.delivery import setup
    from models.spine import spine_campaigns
    from samples import mailing

    wanted = _segment(connection, tenant_id)
    _meet(connection, tenant_id, wanted)
    made = spine_campaigns.insert().values(tenant_id=tenant_id, name="What we learned", target_segment=wanted)
    campaign_id = connection.execute(made.returning(spine_campaigns.c.id)).scalar_one()
    setup.policy(connection, tenant_id, CHANNEL, hourly_cap=None, daily_cap=None, needs_consent=True)
    place = setup.workspace(connection, tenant_id)
    reach = sa.func.delivery.audience(tenant_id, campaign_id, place, CHANNEL, now).table_valued(
        "address", "is_intended"
    )
    query = sa.select(reach.c.address).where(reach.c.is_intended).order_by(reach.c.address)
    who = mailing.consents(connection.execute(query).scalars().all(), RECIPIENTS)
    setup.consent(connection, tenant_id, who.agreed, channel=CHANNEL, basis="consent", source=_SOURCE, at=now)
    setup.suppress(connection, tenant_id, who.left, reason="opt_out", source=_SOURCE)
    return campaign_id


def _segment(connection: sa.Connection, tenant_id: UUID) -> dict[str, list[str]]:
    import sqlalchemy as sa

    from models.spine import spine_contacts as contacts
    from samples import mailing

    keys = (contacts.c.lifecycle_stage, contacts.c.persona_tag)
    people = sa.select(*keys, sa.func.count(sa.distinct(sa.func.lower(contacts.c.email)))).where(
        contacts.c.tenant_id == tenant_id,
        contacts.c.merged_into_id.is_(None),
        contacts.c.persona_tag.is_not(None),
    )
    counted = {(stage, tag): count for stage, tag, count in connection.execute(people.group_by(*keys))}
    stages, personas = mailing.part(counted, _ADDRESSED)
    return {"lifecycle_stage": stages, "persona_tag": personas}


def _meet(connection: sa.Connection, tenant_id: UUID, segment: Mapping[str, list[str]]) -> None:
    """Two more contacts: one whose address is none, and one with the address of somebody who is there."""
    import sqlalchemy as sa

    from models.spine import spine_contacts as contacts

    known = sa.select(contacts.c.lifecycle_stage, contacts.c.persona_tag, contacts.c.email).where(
        contacts.c.tenant_id == tenant_id, contacts.c.merged_into_id.is_(None), contacts.c.email.is_not(None),
        *(contacts.c[name].in_(words) for name, words in segment.items()),
    )  # fmt: skip
    somebody = connection.execute(known.order_by(contacts.c.email).limit(1)).one()._asdict()
    rows = [
        {"tenant_id": tenant_id, **somebody, "email": email} for email in (_NO_ADDRESS, somebody["email"])
    ]
    connection.execute(contacts.insert(), rows)
