"""What an executor changes and how: addresses, the port to a subsystem's configuration, and our own adapter to it.

Our own configuration is the campaigns of the spine and, for every other subsystem, spine.subsystem_settings. How a
value is chosen stands in the executors; adapters to other systems stand in modules of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import sqlalchemy as sa
from pydantic import JsonValue

from kernel import tenancy
from models.errors import RevenueOsError
from models.statements import statements


class Rejected(RevenueOsError):
    """The target will never take this change: no retry."""


class Denied(Rejected):
    """The target refuses us, not the change: no retry, and a person must look."""


class Transient(RevenueOsError):
    """The target may take the change later."""


class InDoubt(Transient):
    """The target may or may not have taken the change: read back before anything else."""


@dataclass(frozen=True, slots=True)
class Address:
    """One field of one entity of a tenant's subsystem. The tenant itself is entity `tenant` with an empty id."""

    tenant_id: UUID
    subsystem: str
    entity_type: str
    entity_id: str
    field: str

    def __str__(self) -> str:
        entity = f"{self.entity_type} {self.entity_id}".strip()
        return f"{self.subsystem} {self.field} of {entity}"


@dataclass(frozen=True, slots=True)
class Value:
    """What stands at an address, in JSON; money as the text of a plain decimal.

    `changed_by` is the idempotency key of the change that last set it, empty when that is not known; `entity` is the
    whole configuration of what the address belongs to, by field.
    """

    value: JsonValue
    changed_by: str = ""
    entity: Mapping[str, JsonValue] = field(default_factory=dict)


class ConfigurationPort(Protocol):
    """Reading and writing configuration. Every method may raise Rejected, Denied or Transient."""

    def read(self, address: Address) -> Value: ...

    def write(self, address: Address, value: JsonValue, idempotency_key: str) -> None:
        """Sets the absolute value; InDoubt when nobody can tell whether it did.

        A key that was used already changes nothing. Our own configuration does not either when somebody else has
        changed the value since the intent of the key was written: reading it back shows that.
        """


def same(left: JsonValue, right: JsonValue) -> bool:
    """Whether two values are one in JSON, where true is not 1 and 1 is 1.0."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right


class PostgresConfiguration:
    """Our own configuration. A write is one transaction of its own, guarded by the intent that stands behind it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def read(self, address: Address) -> Value:
        with _told(address, Transient), self._engine.begin() as connection:
            tenancy.service(connection, address.tenant_id)
            row = connection.execute(_statement("read", address), _parameters(address)).one_or_none()
        if row is None:
            raise Rejected(
                f"{address.subsystem} has no {address.entity_type} {address.entity_id}: it was removed, or the"
                " action names another tenant's"
            )
        return Value(row.value, row.changed_by or "", row.entity)

    def write(self, address: Address, value: JsonValue, idempotency_key: str) -> None:
        given = {**_parameters(address), "value": json.dumps(value), "key": idempotency_key}
        with _told(address, InDoubt), self._engine.begin() as connection:
            tenancy.service(connection, address.tenant_id)
            # A worker that slept through its lease must not repeat a change that was settled, and perhaps undone.
            intent = connection.execute(statements("dispatch")["intent_state"], given).one_or_none()
            if intent is None or intent.state not in ("confirmed", "refused"):
                before = intent.before if intent else None
                connection.execute(_statement("write", address), given | {"before": before})


@contextmanager
def _told(address: Address, lost: type[Transient]) -> Iterator[None]:
    """The database's errors in the port's words; `lost` is what a broken connection means."""
    try:
        yield
    except (sa.exc.IntegrityError, sa.exc.DataError) as error:
        raise Rejected(f"{address} cannot hold this value: {error.orig}") from error
    except sa.exc.OperationalError as error:
        raise lost(f"{address} could not be reached: {error.orig}") from error


# Fields of campaigns that are columns of the spine, by entity type.
_COLUMNS = {
    "channel": ("budget_daily", "status", "bidding_strategy"),
    "campaign": ("budget_total", "status", "target_segment", "end_date"),
}


def _statement(verb: str, address: Address) -> sa.TextClause:
    """Experiments and all subsystems but campaigns live in the settings."""
    if address.subsystem != "campaigns" or address.field.startswith("experiment."):
        return statements("dispatch")[f"{verb}_setting"]
    if address.field not in _COLUMNS.get(address.entity_type, ()):
        owners = [kind for kind, fields in _COLUMNS.items() if address.field in fields]
        told = f"belongs to a {' or '.join(owners)}" if owners else "is no field of campaigns"
        raise Rejected(f"{address.field} {told}, not to a {address.entity_type}: name another target_entity")
    return statements("dispatch")[f"{verb}_{address.entity_type}"]


def _parameters(address: Address) -> dict[str, Any]:
    given = {
        "tenant_id": address.tenant_id,
        "subsystem": address.subsystem,
        "entity_type": address.entity_type,
        "entity_id": address.entity_id,
        "field": address.field,
    }
    if address.subsystem == "campaigns" and not address.field.startswith("experiment."):
        try:
            given["entity_id"] = UUID(address.entity_id)
        except ValueError:
            raise Rejected(
                f"{address.entity_id!r} is no id of a {address.entity_type}: name a UUID"
            ) from None
    return given
