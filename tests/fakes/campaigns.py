"""A company with a campaign that may be launched, and a provider that answers as the address of a person says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import contents, launch, send, setup
from kernel.delivery.providers.base import Capabilities, Message, Outcome, rejected, unknown

# One whom the provider takes, one whom it refuses, one of whom nobody knows, and one who is suppressed.
PEOPLE = (
    "taken@example.com",
    "also@example.com",
    "busy@example.com",
    "doubtful@example.com",
    "left@example.com",
)


@dataclass
class Scripted:
    """`said` are the answers by the part of the address before the @; everybody else is accepted."""

    said: dict[str, Outcome] = field(
        default_factory=lambda: {
            "busy": rejected("busy", "try again", retryable=True),
            "doubtful": unknown("timeout", "no answer"),
        }
    )
    capabilities: Capabilities = field(
        default_factory=lambda: Capabilities(concurrency=1, timeout=timedelta(seconds=5))
    )

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        accepted = [Outcome("accepted", message_id=f"m-{message.reference}") for message in messages]
        return [
            self.said.get(message.address.split("@")[0], outcome)
            for message, outcome in zip(messages, accepted, strict=True)
        ]

    def close(self) -> None: ...


def add_company(engine: sa.Engine, slug: str, people: Sequence[str] = PEOPLE, **columns: Any) -> UUID:
    """A tenant with contacts, a connected account `mail`, and an approved campaign `spring`."""
    now = datetime.now(UTC)
    with engine.begin() as connection:
        tenancy.service(connection)
        tenant_id = tenancy.create(connection, slug, slug.title(), "USD")
    with engine.begin() as connection:
        for name, value in columns.items():
            given = {"value": value, "id": tenant_id}
            connection.execute(sa.text(f"update spine.tenants set {name} = :value where id = :id"), given)
        _insert(connection, "spine_contacts", [{"tenant_id": tenant_id, "email": each} for each in people])
        _insert(connection, "spine_campaigns", [{"tenant_id": tenant_id, "name": "spring"}])
        campaign_id = _campaign(connection, tenant_id)
        setup.account(
            connection, tenant_id, "mail", channel="email", provider="memory", sender="news@acme.example",
            config={"unsubscribe_base": "https://x.co/u"}, is_connected=True,
        )  # fmt: skip
        setup.policy(connection, tenant_id, "email", hourly_cap=None, daily_cap=None)
        setup.suppress(connection, tenant_id, ["left@example.com"], reason="opt_out", source="test")
        content_id = contents.write(
            connection, tenant_id, campaign_id, account="mail", subject="Hi", body="{{unsubscribe_url}}", author="ann"
        )  # fmt: skip
        seen = sa.text("select content_hash from delivery.contents where tenant_id = :of and id = :id")
        content_hash = connection.execute(seen, {"of": tenant_id, "id": content_id}).scalar_one()
        contents.approve(connection, tenant_id, content_id, content_hash, approver="bob", at=now)
    return tenant_id


def launched(engine: sa.Engine, tenant_id: UUID, **options: Any) -> UUID:
    """The run of the campaign `spring`, with nothing of it sent yet."""
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        done = launch.launch(
            connection, tenant_id, _campaign(connection, tenant_id), actor="ann", at=datetime.now(UTC),
            problems=lambda account: [], **options,
        )  # fmt: skip
    return done.run_id


ATTEMPTS = 3  # of an item in one run, when each may be repeated


def worker(engine: sa.Engine, provider: Any = None, **given: Any) -> send.Worker:
    adapter = provider or Scripted()
    return send.Worker(engine, "test", lambda account: adapter, **given)


def later(engine: sa.Engine) -> None:
    """What waits for another attempt is due."""
    with engine.begin() as connection:
        tenancy.service(connection)
        for change in (
            "job_queue set scheduled_for = now()",
            "channel_outbox set settled_at = now() - interval '1 hour'",
        ):
            connection.exec_driver_sql(f"update delivery.{change} where status = 'queued'")


def _campaign(connection: sa.Connection, tenant_id: UUID) -> UUID:
    query = sa.text("select id from spine.spine_campaigns where tenant_id = :id and name = 'spring'")
    return connection.execute(query, {"id": tenant_id}).scalar_one()


def _insert(connection: sa.Connection, name: str, rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    values = ", ".join(f":{column}" for column in columns)
    connection.execute(sa.text(f"insert into spine.{name} ({', '.join(columns)}) values ({values})"), rows)
