"""The CRM: follow-up, sequences, assignment."""

from __future__ import annotations

from kernel.actions.executors.base import ConfigurationExecutor
from kernel.actions.matrix import FIELDS

EXECUTOR = ConfigurationExecutor("crm", tuple(FIELDS["crm"]))
