"""Data: what is wrong with the facts is put right by people where the facts come from."""

from __future__ import annotations

from kernel.actions.executors.tickets import TicketExecutor

EXECUTOR = TicketExecutor("data")
