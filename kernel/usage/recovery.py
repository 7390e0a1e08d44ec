"""Recovery: messages that could not be published when they were captured are published later, and billed no second time.

What was tried in vain often enough is given up, and credited (`adjustments.credit`) before its month is closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import audit, outbox
from kernel.usage.outbox import Message, Publisher
from models.statements import statements, texts

ATTEMPTS = 10
LEASE = timedelta(minutes=7)


@dataclass(frozen=True, slots=True)
class Held:
    """A message that its holder may publish; `attempt` counts from 1."""

    tenant_id: UUID
    id: UUID
    site_id: UUID
    attempt: int


def claim(connection: sa.Connection, owner: str, at: datetime, *, lease: timedelta = LEASE) -> Held | None:
    """Takes the message that is due longest, of whatever tenant; None when none is. `owner` is nobody else's name."""
    tenancy.service(connection)
    given_up = connection.execute(_sql("give_up"), {"at": at, "attempts": ATTEMPTS}).all()
    for row in given_up:
        connection.execute(
            _sql("quarantined"), {"tenant_id": row.tenant_id, "id": row.id, "actor": owner, "at": at}
        )
    row = connection.execute(_sql("claim"), {"owner": owner, "at": at, "until": at + lease}).first()
    return None if row is None else Held(*row)


def recover(
    engine: sa.Engine,
    held: Held,
    owner: str,
    clock: Callable[[], datetime],
    publisher: Publisher = outbox.write,
) -> str:
    """Publishes a message and marks its rows, in one transaction; its status then, LOST when another has taken it.

    Rows of a month that was closed meanwhile keep their state: they were billed with it.
    """
    with engine.begin() as connection:
        tenancy.service(connection, held.tenant_id)
        of = {
            "tenant_id": held.tenant_id,
            "site_id": held.site_id,
            "id": held.id,
            "actor": owner,
            "at": clock(),
        }
        kept = connection.execute(_sql("hold"), of | {"owner": owner}).first()
        if kept is None:
            return "LOST"
        payloads = [payload.encode() for payload in kept.payloads]
        message = Message(
            held.tenant_id,
            held.site_id,
            kept.year_month,
            kept.keys,
            payloads,
            kept.created_at,
            of_buffer=held.id,
        )
        try:
            with connection.begin_nested():
                publisher(connection, message)
        except Exception as error:
            # Whatever a publisher raises, the message stays and is tried again.
            given = of | {"reason": outbox.told(error), "attempts": ATTEMPTS}
            status = connection.execute(_sql("failed"), given).scalar_one()
            if status == "QUARANTINE":
                connection.execute(_sql("quarantined"), of)
            return status
        keys = {"keys": texts(kept.keys)}
        months = connection.scalars(_sql("hold_months"), of | keys).all()
        connection.execute(_sql("mark"), of | keys | {"months": texts(months)})
        connection.execute(_sql("recovered"), of)
        return "RECOVERED"


def work(
    engine: sa.Engine,
    owner: str,
    clock: Callable[[], datetime],
    publisher: Publisher = outbox.write,
    most: int = 1000,
) -> Counter[str]:
    """Recovers what is due now, at most so many messages; how many ended as what."""
    done: Counter[str] = Counter()
    for _ in range(most):
        with engine.begin() as connection:
            held = claim(connection, owner, clock())
        if held is None:
            break
        done[recover(engine, held, owner, clock, publisher)] += 1
    return done


def waiting(connection: sa.Connection, at: datetime) -> int:
    """Messages of all tenants that may be recovered now, or wait to be handed on."""
    tenancy.service(connection)
    return sum(connection.execute(_sql("waiting"), {"at": at}).one())


def again(connection: sa.Connection, tenant_id: UUID, message_id: UUID, *, actor: str, at: datetime) -> None:
    """A person has a message that was given up tried again. Raises RefusedError for any other, and a credited one."""
    tenancy.service(connection, tenant_id)
    who = audit.entitled(connection, tenant_id, actor)
    given = {"tenant_id": tenant_id, "id": message_id, "at": at}
    if connection.execute(_sql("requeue"), given).first() is None:
        raise RefusedError(
            f"message {message_id} was not given up, or its events were credited: nothing was changed"
        )
    audit.append(connection, tenant_id, "message_requeued", actor=who, at=at, message_id=message_id)


def listed(
    connection: sa.Connection, tenant_id: UUID, *, everything: bool = False, most: int = 100
) -> list[Mapping[str, Any]]:
    """The tenant's newest messages that could not be published, those recovered only when everything is asked for."""
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "everything": everything, "most": most}
    return [dict(row) for row in connection.execute(_sql("buffered"), given).mappings()]


def _sql(name: str) -> sa.TextClause:
    return statements("usage_recovery")[name]
