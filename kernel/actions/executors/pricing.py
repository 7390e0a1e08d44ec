"""Pricing: discounts, tiers, promotions, trials."""

from __future__ import annotations

from kernel.actions.executors.base import ConfigurationExecutor
from kernel.actions.matrix import FIELDS

EXECUTOR = ConfigurationExecutor("pricing", tuple(FIELDS["pricing"]))
