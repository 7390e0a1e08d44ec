"""The base of every error that is meant for a person: one sentence, no traceback."""

from __future__ import annotations


class RevenueOsError(Exception):
    """What is wrong, where, and what to do."""
