"""A tenant that is about to launch, with every rule of its channel at hand; nothing is sent before a test asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import contents, launch, reconcile, send, setup
from kernel.delivery.providers.base import Message, Outcome
from models.spine import spine_campaigns, spine_contacts
from quality.certification.delivery.provider import Ledger, Mode, Recorder

_slugs = count(1)


def no_problems(_: sa.Row[Any]) -> list[str]:
    return []


@dataclass
class Company:
    """`outcomes` are answered by address instead of the provider's own; addresses are sent to as they are."""

    engine: sa.Engine
    ledger: Ledger
    tenant_id: UUID
    campaign_id: UUID
    account_id: UUID
    mode: Mode
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def pinned(self, query: str, **given: Any) -> Sequence[sa.Row[Any]]:
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            result = connection.execute(sa.text(query), given)
            return result.all() if result.returns_rows else []

    def call(self, function: Any, *given: Any, **named: Any) -> Any:
        """A function of the kernel in a transaction of its own."""
        with self.engine.begin() as connection:
            return function(connection, self.tenant_id, *given, **named)

    def write(self, **named: Any) -> UUID:
        given = {
            "account": "mail",
            "subject": "Hello",
            "body": "Spring {{unsubscribe_url}}",
            "author": "ann",
        } | named
        return self.call(contents.write, self.campaign_id, **given)

    def approve(self, content_id: UUID, *, at: datetime | None = None) -> datetime:
        seen = self.pinned("select content_hash from delivery.contents where id = :id", id=content_id)[0][0]
        return self.call(contents.approve, content_id, seen, approver="bob", at=at or datetime.now(UTC))

    def launch(self, **named: Any) -> launch.Launched:
        given = {"actor": "ann", "at": datetime.now(UTC), "problems": no_problems} | named
        return self.call(launch.launch, self.campaign_id, **given)

    def ready(self) -> None:
        self.approve(self.write())

    def worker(self, name: str = "w", **named: Any) -> send.Worker:
        return send.Worker(self.engine, name, lambda _: _Answering(self), parallel=1, **named)

    def work(self) -> dict[str, int]:
        return dict(send.work(self.worker()))

    def settle(self) -> None:
        worker = self.worker("settler")
        reconcile.sweep(worker)
        reconcile.settle_stalled(worker)
        reconcile.look_up_cases(worker)

    def time_passes(self) -> None:
        """Leases end, deadlines pass, what waits is due; paused jobs go on waiting."""
        for change in (
            "job_queue set lease_expires_at = now() where status = 'locked'",
            "job_queue set scheduled_for = now() where status = 'queued' and scheduled_for <> 'infinity'",
            "channel_outbox set settled_at = settled_at - interval '1 minute' where status = 'queued'",
            "attempts set deadline_at = now() where state = 'dispatching'",
            "reconciliation_cases set next_lookup_at = now() where next_lookup_at is not null",
        ):
            self.pinned(f"update delivery.{change}")

    def items(self) -> dict[str, str]:
        rows = self.pinned(
            "select address, coalesce(skip_reason, status) as status from delivery.channel_outbox"
        )
        return {row.address: row.status for row in rows}

    def runs(self) -> list[sa.Row[Any]]:
        return list(self.pinned("select * from delivery.campaign_runs order by created_at, id"))

    def effects(self) -> dict[str, int]:
        return dict(self.ledger.effects(str(self.account_id)))


class _Answering(Recorder):
    def __init__(self, company: Company) -> None:
        super().__init__(
            company.ledger, str(company.account_id), company.mode, worker="test", timeout=timedelta(seconds=5)
        )
        self._company = company

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        told = self._company.outcomes.get(messages[0].address)
        return [told] if told else super().send(messages, key)


def company(
    engine: sa.Engine,
    ledger: Ledger,
    people: Sequence[str | dict[str, Any]] = ("ann@x.co", "bob@x.co"),
    *,
    mode: Mode = "keys",
    channel: str = "email",
) -> Company:
    """With contacts, a campaign, a connected account and no caps; without a content."""
    with engine.begin() as connection:
        # Workers take whatever is due, also what another test has left.
        connection.exec_driver_sql(
            "update delivery.job_queue set status = 'cancelled' where status in ('queued', 'locked')"
        )
        tenancy.service(connection)
        slug = f"company-{next(_slugs)}"
        tenant_id = tenancy.create(connection, slug, slug, "USD")
        tenancy.service(connection, tenant_id)
        for each in people:
            values = {"email": each} if isinstance(each, str) else each
            connection.execute(spine_contacts.insert().values(tenant_id=tenant_id, **values))
        made = spine_campaigns.insert().values(tenant_id=tenant_id, name="spring")
        campaign_id = connection.execute(made.returning(spine_campaigns.c.id)).scalar_one()
        account_id = setup.account(
            connection, tenant_id, "mail", channel=channel, provider="memory",
            sender="a@x.co" if channel == "email" else "+15550102030",
            config={"unsubscribe_base": "https://x.co/u"}, is_connected=True,
        )  # fmt: skip
        setup.policy(connection, tenant_id, channel, hourly_cap=None, daily_cap=None)
    return Company(engine, ledger, tenant_id, campaign_id, account_id, mode)
