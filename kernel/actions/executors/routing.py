"""Routing of leads: rotation, capacity, territories, overflow."""

from __future__ import annotations

from kernel.actions.executors.base import ConfigurationExecutor
from kernel.actions.matrix import FIELDS

EXECUTOR = ConfigurationExecutor("routing", tuple(FIELDS["routing"]))
