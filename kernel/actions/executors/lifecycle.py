"""Customer lifecycle: no system is registered for it yet, so its actions are work for people."""

from __future__ import annotations

from kernel.actions.executors.tickets import TicketExecutor

EXECUTOR = TicketExecutor("lifecycle")
