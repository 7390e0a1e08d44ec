"""Handing work to people: the executor of what no program can do, and the tickets it writes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import JsonValue

from kernel import tenancy
from kernel.actions import intents
from kernel.actions.configuration import Address, ConfigurationPort, Transient, Value
from kernel.actions.executors.base import Assignment
from kernel.actions.intents import Intent
from kernel.actions.matrix import TICKETS
from kernel.errors import RefusedError
from models.statements import statements

_TITLE_LENGTH = 120  # one line of a list


class Tickets:
    """The tickets as a port: an action has one, its title and body are the value."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def read(self, address: Address) -> Value:
        key = intents.key(address.tenant_id, UUID(address.entity_id), "apply")
        try:
            with self._engine.begin() as connection:
                tenancy.service(connection, address.tenant_id)
                given = {"tenant_id": address.tenant_id, "key": key}
                row = connection.execute(statements("dispatch")["read_ticket"], given).one_or_none()
        except sa.exc.OperationalError as error:
            raise Transient(f"{address} could not be read: {error.orig}") from error
        return Value(row.value, row.changed_by) if row else Value(None)

    def write(self, address: Address, value: JsonValue, idempotency_key: str) -> None:
        assert isinstance(value, dict)
        try:
            with self._engine.begin() as connection:
                tenancy.service(connection, address.tenant_id)
                title, body = str(value["title"]), str(value["body"])
                _write(connection, address, idempotency_key, title, body)
        except sa.exc.OperationalError as error:
            raise Transient(f"{address} could not be written: {error.orig}") from error


def asks_people(kind: str, subsystem: str) -> bool:
    """Whether an action of that type writes a ticket and changes nothing by itself."""
    from kernel.actions.executors import REGISTRY  # which imports this module

    return kind in TICKETS or REGISTRY[subsystem].goes_to == "tickets"


def resolve(
    connection: sa.Connection, tenant_id: UUID, ticket_id: UUID, by: str, why: str, at: datetime
) -> UUID:
    """Marks the ticket as done; the action it is about. Raises RefusedError when it is done already."""
    found = _resolve(connection, tenant_id, by, why, at, ticket_id=ticket_id)
    if not found:
        raise RefusedError(
            f"ticket {ticket_id} is no open ticket of the tenant: see revenue-os actions tickets --all"
        )
    return found[0]


def resolve_all(
    connection: sa.Connection, tenant_id: UUID, action_id: UUID, by: str, why: str, at: datetime
) -> None:
    """Marks every open ticket about the action as done."""
    _resolve(connection, tenant_id, by, why, at, action_id=action_id)


def _resolve(
    connection: sa.Connection,
    tenant_id: UUID,
    by: str,
    why: str,
    at: datetime,
    *,
    ticket_id: UUID | None = None,
    action_id: UUID | None = None,
) -> list[UUID]:
    which = {"tenant_id": tenant_id, "ticket_id": ticket_id, "action_id": action_id}
    said = {"by": by, "why": why, "at": at}
    return list(connection.execute(statements("actions")["resolve_tickets"], which | said).scalars())


def raise_alert(connection: sa.Connection, assignment: Assignment, about: str, title: str, body: str) -> None:
    """Asks a person to look at an action. Once for each action and what it is `about`."""
    key = intents.key(assignment.tenant_id, assignment.id, f"alert {about}")
    _write(connection, _address(assignment, assignment.action.owner_subsystem), key, title, body)


def _write(connection: sa.Connection, address: Address, key: str, title: str, body: str) -> None:
    connection.execute(
        statements("dispatch")["write_ticket"],
        {
            "tenant_id": address.tenant_id,
            "action_id": UUID(address.entity_id),
            "key": key,
            "subsystem": address.subsystem,
            "title": title[:_TITLE_LENGTH],
            "body": body,
        },
    )


def _address(assignment: Assignment, subsystem: str) -> Address:
    return Address(assignment.tenant_id, subsystem, "ticket", str(assignment.id), "ticket")


@dataclass(frozen=True, slots=True)
class TicketExecutor:
    subsystem: str
    fields: tuple[str, ...] = ()
    goes_to: Literal["tickets"] = "tickets"

    def address(self, assignment: Assignment) -> Address:
        return _address(assignment, self.subsystem)

    def wanted(self, assignment: Assignment) -> JsonValue:
        action = assignment.action
        what = action.proposed_change.description or action.hypothesis
        return {"title": f"{action.type}: {what}"[:_TITLE_LENGTH], "body": action.notes_for_humans}

    def seen(self, assignment: Assignment) -> JsonValue:
        return None

    def read(self, port: ConfigurationPort, assignment: Assignment) -> Value:
        return port.read(self.address(assignment))

    def apply(self, port: ConfigurationPort, intent: Intent) -> None:
        port.write(intent.address, intent.wanted, intent.key)
