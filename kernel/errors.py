"""What the platform refuses to do, said in one sentence: what is wrong, where, and what to do."""

from __future__ import annotations

from models.errors import RevenueOsError


class RefusedError(RevenueOsError):
    """The request cannot be carried out as it stands; nothing was changed."""
