"""One module per subsystem that actions may change, and the registry in which dispatch finds them.

A module here and a line in REGISTRY are all that carrying out takes. That the word exists, which values are safe and
what is worth proposing stand elsewhere: docs/how-to/add-a-subsystem.md lists the steps and the reason of each.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernel.actions.configuration import Rejected
from kernel.actions.executors import campaigns, content, crm, data, lifecycle, pricing, routing
from kernel.actions.executors.base import Assignment, Executor
from kernel.actions.executors.tickets import TicketExecutor
from kernel.actions.matrix import TICKETS

REGISTRY: Mapping[str, Executor] = {
    executor.subsystem: executor
    for executor in (
        campaigns.EXECUTOR,
        crm.EXECUTOR,
        pricing.EXECUTOR,
        routing.EXECUTOR,
        content.EXECUTOR,
        data.EXECUTOR,
        lifecycle.EXECUTOR,
    )
}


def executor_of(assignment: Assignment, executors: Mapping[str, Executor] = REGISTRY) -> Executor:
    """Who carries the action out; Rejected when nobody does. What only a person can do goes to a ticket, whatever the subsystem."""
    action = assignment.action
    if action.type in TICKETS:
        return TicketExecutor(action.owner_subsystem)
    if action.owner_subsystem not in executors:
        raise Rejected(f"nothing is registered that carries out actions of {action.owner_subsystem}")
    return executors[action.owner_subsystem]
