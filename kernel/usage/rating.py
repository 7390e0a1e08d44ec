"""From plans as they are stored to the lines of an invoice. The rule that prices an event stands in `verify.rate`.

What counts as billable is decided by the ledger, and how much of it there is by the close.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from kernel.errors import RefusedError
from kernel.usage import verify
from kernel.usage.canonical import instant
from kernel.usage.verify import Adjustment, Lines, PackError


def terms_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The terms of a row of usage.site_plans as JSON keeps them: money as text. They rate a month for good.

    A plan that is in no table has None for `id` and `valid_from`. Raises RefusedError.
    """
    terms = {name: _plain(plan[name]) for name in verify.PLAN}
    try:
        verify.plan_of(terms)
    except PackError as error:
        raise RefusedError(f"The plan cannot rate a month: {error}.") from None
    return terms


def rate(terms: Mapping[str, Any], units: int, month: str, adjustments: Iterable[Adjustment] = ()) -> Lines:
    """The lines of a site's month with `units` billable events, then those of its adjustments. Raises RefusedError."""
    try:
        return verify.rate(verify.plan_of(dict(terms)), units, month, adjustments)
    except PackError as error:
        raise RefusedError(f"{month} cannot be rated: {error}.") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return instant(value)
    return str(value) if isinstance(value, UUID) else value
