"""Content: templates, variants, subject lines, calls to action."""

from __future__ import annotations

from kernel.actions.executors.base import ConfigurationExecutor
from kernel.actions.matrix import FIELDS

EXECUTOR = ConfigurationExecutor("content", tuple(FIELDS["content"]))
