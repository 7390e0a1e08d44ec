"""What is about to be done to the outside, written down and committed before it is done.

Which action may come to an intent, and what follows from one, stands in `dispatch`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import JsonValue

from kernel.actions.configuration import Address
from models.statements import statements

Kind = Literal["apply", "revert"]


def key(tenant_id: UUID, action_id: UUID, kind: str) -> str:
    """The idempotency key: the same for every attempt, so that a receiver sees one change however often it is sent."""
    return hashlib.sha256(f"{tenant_id}|{action_id}|{kind}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Intent:
    """One change of one address from `before` to `wanted`, both absolute values in JSON."""

    key: str
    action_id: UUID
    kind: Kind
    address: Address
    before: JsonValue
    wanted: JsonValue
    state: Literal["recorded", "confirmed", "refused", "in_doubt"] = "recorded"

    @property
    def is_open(self) -> bool:
        return self.state in ("recorded", "in_doubt")


def intended(action_id: UUID, kind: Kind, address: Address, before: JsonValue, wanted: JsonValue) -> Intent:
    """An intent that is not recorded yet."""
    return Intent(key(address.tenant_id, action_id, kind), action_id, kind, address, before, wanted)


def find(connection: sa.Connection, tenant_id: UUID, action_id: UUID, kind: Kind) -> Intent | None:
    given = {"tenant_id": tenant_id, "action_id": action_id, "kind": kind}
    row = connection.execute(statements("dispatch")["find_intent"], given).one_or_none()
    if row is None:
        return None
    address = Address(row.tenant_id, row.subsystem, row.entity_type, row.entity_id, row.field)
    return Intent(row.key, row.action_id, row.kind, address, row.before, row.wanted, row.state)


def record(connection: sa.Connection, intent: Intent, at: datetime) -> Intent:
    """Records the intent, or gives the one that was recorded before: that one rules."""
    address = intent.address
    is_new = connection.execute(
        statements("dispatch")["record_intent"],
        {
            "tenant_id": address.tenant_id,
            "key": intent.key,
            "action_id": intent.action_id,
            "kind": intent.kind,
            "subsystem": address.subsystem,
            "entity_type": address.entity_type,
            "entity_id": address.entity_id,
            "field": address.field,
            "before": json.dumps(intent.before),
            "wanted": json.dumps(intent.wanted),
            "at": at,
        },
    ).scalar()
    if is_new:
        return intent
    ruling = find(connection, address.tenant_id, intent.action_id, intent.kind)
    assert ruling is not None
    return ruling


def settle(
    connection: sa.Connection,
    intent: Intent,
    state: Literal["confirmed", "refused", "in_doubt"],
    observed: JsonValue,
    at: datetime,
) -> bool:
    """False when the intent was settled before. An intent in doubt stays open."""
    given = {
        "tenant_id": intent.address.tenant_id,
        "key": intent.key,
        "state": state,
        "observed": json.dumps(observed),
        "settled_at": None if state == "in_doubt" else at,
    }
    return connection.execute(statements("dispatch")["settle_intent"], given).rowcount == 1
