"""What an executor is, and the one for subsystems whose configuration can be written.

An executor says where an action's change goes and which value stands for it; ports do the reading and writing.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal, Protocol
from uuid import UUID

from pydantic import JsonValue

from kernel.actions.configuration import Address, ConfigurationPort, Rejected, Value
from kernel.actions.intents import Intent
from kernel.decisions.contract import Action, Entity

_TENANT = Entity(type="tenant", id="")
EXPERIMENT = "experiment."


@dataclass(frozen=True, slots=True)
class Assignment:
    """An action to be carried out. `id` is the row's, `action.action_id` the kernel's word for it."""

    tenant_id: UUID
    id: UUID
    action: Action


class Executor(Protocol):
    """Raises Rejected for what it cannot carry out; its port may raise Denied and Transient as well."""

    subsystem: str
    fields: tuple[str, ...]
    goes_to: Literal["configuration", "tickets"]

    def address(self, assignment: Assignment) -> Address: ...

    def wanted(self, assignment: Assignment) -> JsonValue:
        """The absolute value that the change asks for, as the port reads it back."""

    def seen(self, assignment: Assignment) -> JsonValue:
        """The value the change was proposed against, as the port reads it; None when there was none to see."""

    def read(self, port: ConfigurationPort, assignment: Assignment) -> Value: ...

    def apply(self, port: ConfigurationPort, intent: Intent) -> None: ...


@dataclass(frozen=True, slots=True)
class ConfigurationExecutor:
    """Sets one field to one value. An experiment is a setting of its own beside the field that it varies."""

    subsystem: str
    fields: tuple[str, ...]
    money: tuple[str, ...] = ()
    goes_to: Literal["configuration"] = "configuration"

    def address(self, assignment: Assignment) -> Address:
        action = assignment.action
        field, entity = action.proposed_change.field, action.target_entity or _TENANT
        if action.type == "experiment":
            field = EXPERIMENT + field
        elif field not in self.fields:
            raise Rejected(f"{self.subsystem} has no field {field!r}: use {', '.join(self.fields)}")
        entity_id = "" if entity.type == "tenant" else entity.id
        return Address(assignment.tenant_id, self.subsystem, entity.type, entity_id, field)

    def wanted(self, assignment: Assignment) -> JsonValue:
        action = assignment.action
        change, experiment = action.proposed_change, action.experiment
        if experiment is None:
            return self.normal(change.field, change.new_value)
        return {
            "control": self.normal(change.field, change.current_value),
            "treatment": self.normal(change.field, change.new_value),
            "control_group_pct": _plain(experiment.control_group_pct),
            "treatment_group_pct": _plain(experiment.treatment_group_pct),
        }

    def seen(self, assignment: Assignment) -> JsonValue:
        change = assignment.action.proposed_change
        if assignment.action.type == "experiment":
            return None
        return self.normal(change.field, change.current_value)

    def normal(self, field: str, value: JsonValue) -> JsonValue:
        """The value as a port reads it back. Money is the text of a plain decimal, however it was written."""
        if field not in self.money or value is None:
            return value
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            raise Rejected(f"{self.subsystem} {field} is an amount, not {value!r}") from None
        if not amount.is_finite():
            raise Rejected(f"{self.subsystem} {field} is an amount, not {value!r}")
        return _plain(amount)

    def read(self, port: ConfigurationPort, assignment: Assignment) -> Value:
        return port.read(self.address(assignment))

    def apply(self, port: ConfigurationPort, intent: Intent) -> None:
        port.write(intent.address, intent.wanted, intent.key)


def _plain(amount: Decimal) -> str:
    return format(amount.normalize(), "f")
