"""Campaigns and their channels: budgets, status, bidding, segment, end."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from kernel.actions.executors.base import ConfigurationExecutor
from kernel.actions.matrix import FIELDS


@dataclass(frozen=True, slots=True)
class _Campaigns(ConfigurationExecutor):
    def normal(self, field: str, value: JsonValue) -> JsonValue:
        # The spine calls a running channel active.
        if field == "status" and value == "active":
            return "running"
        return ConfigurationExecutor.normal(self, field, value)


EXECUTOR = _Campaigns("campaigns", tuple(FIELDS["campaigns"]), money=("budget_daily", "budget_total"))
