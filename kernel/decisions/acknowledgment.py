"""Which actions wait for a person. Who may acknowledge, and how, is not decided here."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from kernel.decisions.contract import ActionType, Attributes, KernelInput, Subsystem

FIRST_DAYS = timedelta(days=30)
# They only ask people for work, so nobody has to agree beforehand.
TICKETS: tuple[ActionType, ...] = ("alert", "data_correction", "forecast_update")


class Proposal(Protocol):
    @property
    def type(self) -> ActionType: ...
    @property
    def owner_subsystem(self) -> Subsystem: ...
    @property
    def attributes(self) -> Attributes: ...


def required(action: Proposal, given: KernelInput, clock: datetime) -> tuple[bool, str]:
    """Whether a person must agree, and why (empty when not). An unknown activation counts as a recent one."""
    if action.type in TICKETS:
        return False, ""
    does = action.attributes
    if does.increases_spend or does.daily_spend_change > 0:
        return True, "it increases spend"
    if does.changes_price or action.owner_subsystem == "pricing":
        return True, "it changes what customers pay"
    if does.reallocates_budget:
        return True, "it takes or moves budget"
    activated = given.config.activated_at
    if activated is None:
        return True, "it is not known since when decisions have been carried out for this tenant"
    if clock - activated <= FIRST_DAYS:
        return True, f"decisions have been carried out for this tenant only since {activated.date()}"
    return False, ""
