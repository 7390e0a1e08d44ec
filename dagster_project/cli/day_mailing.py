"""One campaign of the demonstration up to its launch: account, audience, consents, text, approval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dagster_project.cli import asked, ui

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
    from kernel import tenancy
    from kernel.delivery import setup, views

    with engine.begin() as connection:
        tenancy.service(connection)
        of = tenancy.find(connection, slug).id
        tenancy.service(connection, of)
        if not (mine := [each for each in views.accounts(connection, of) if each.name == ACCOUNT]):
            setup.account(connection, of, ACCOUNT, channel=CHANNEL, provider=provider)
            mine = [each for each in views.accounts(connection, of) if each.name == ACCOUNT]
        account = mine[0]
        runs = [run.id for run in views.runs(connection, of) if run.request_id == _REQUEST]
    run_id = runs[0] if runs else None
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
    from kernel import members
    from kernel.delivery import contents, launch, views
    from samples import mailing as samples

    set_account(engine, mailing, config, is_connected=True)
    if mailing.run_id:
        return mailing
    now, of = datetime.now(UTC), mailing.tenant_id
    with engine.begin() as connection:
        campaign_id = samples.campaign(connection, of, CHANNEL, RECIPIENTS, now)
        author, approver = (str(members.find(connection, of, name).user_id) for name in (_AUTHOR, _APPROVER))
        text = contents.write(
            connection, of, campaign_id, account=ACCOUNT, subject=_SUBJECT, body=_BODY, author=author
        )
        seen = views.content(connection, of, text).content_hash
        contents.approve(connection, of, text, seen, approver=approver, at=now)
        done = launch.launch(
            connection, of, campaign_id, actor=author, at=now, request_id=_REQUEST, chunk_size=100,
            problems=asked.problems,
        )  # fmt: skip
    ui.step("Launch", f"{done.intended} people of {mailing.slug} by {mailing.provider}, in {done.jobs} jobs;"
            f" {done.suppressed} are suppressed")  # fmt: skip
    return replace(mailing, run_id=done.run_id)
