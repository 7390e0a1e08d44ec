"""Bank lines and logged predictions as frames, from the database. What is known is bound to an instant: nothing that was
said later is seen.

Columns of lines: tenant and txn (text), post_date (date), amount_minor (int), currency, description, counterparty,
vendor, card, bank_category, account (the label, None for lines without one), labelled_at (UTC, NaT without a label).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import pandas as pd
import sqlalchemy as sa

from kernel import tenancy
from kernel.books import plans
from models.statements import array, statements, texts

COLUMNS = (
    "tenant", "txn", "post_date", "amount_minor", "currency", "description", "counterparty", "vendor", "card",
    "bank_category", "account", "labelled_at",
)  # fmt: skip


def labelled(
    connection: sa.Connection, tenant_ids: Sequence[UUID], *, since: date, before: datetime
) -> pd.DataFrame:
    """Lines of the days from `since` on whose label was known before an instant, with that label."""
    _act_for(connection, tenant_ids)
    given = {"tenants": array(tenant_ids), "since": since, "before": before}
    return _lines(connection, "labelled", given)


def labelled_around(
    connection: sa.Connection,
    tenant_id: UUID,
    others: Sequence[UUID],
    vendors: Sequence[str],
    *,
    since: date,
    before: datetime,
) -> pd.DataFrame:
    """As `labelled`, of a tenant, and what others said of some vendors; without what the bank says and the amount."""
    _act_for(connection, [tenant_id, *others])
    given = {
        "tenant_id": tenant_id, "others": array(others), "vendors": texts(sorted(set(vendors) - {""})), "since": since,
        "before": before,
    }  # fmt: skip
    return _lines(connection, "labelled_around", given)


def open_lines(
    connection: sa.Connection,
    tenant_id: UUID,
    *,
    at: datetime,
    versions: Mapping[str, Any],
    news: Collection[UUID] = (),
) -> pd.DataFrame:
    """Lines without a label that these versions have not decided about: any of `models`, with calibrator_version,
    ruleset_version and config_version. Lines in `news` are decided about anew.

    `bank_account_id` comes beside the columns.
    """
    _act_for(connection, [tenant_id])
    given = {
        "tenant_id": tenant_id,
        "at": at,
        **versions,
        "models": texts(versions["models"]),
        "news": array(news),
    }
    return _lines(connection, "open", given)


def logged(
    connection: sa.Connection, tenant_ids: Sequence[UUID], *, since: datetime, before: datetime
) -> pd.DataFrame:
    """Decisions from `since` on whose label came after them and was known before an instant: `proposed`, `raw_p` (what was
    calibrated), `calibrated_p`, the label as `account`, whether a brake `held` them, and what they were made by.
    """
    _act_for(connection, tenant_ids)
    found = _frame(connection, "logged", {"tenants": array(tenant_ids), "since": since, "before": before})
    for name in ("raw_p", "calibrated_p", "threshold"):
        found[name] = found[name].astype(float)
    return found


def seen(
    connection: sa.Connection, tenant_ids: Sequence[UUID], *, since: datetime
) -> dict[tuple[str, int], bytes]:
    """What the second stage saw of the lines of decisions from `since` on, by tenant and number."""
    _act_for(connection, tenant_ids)
    found = connection.execute(
        statements("books_frames")["seen"], {"tenants": array(tenant_ids), "since": since}
    )
    return {(str(row.tenant_id), row.number): bytes(row.seen) for row in found}


def _act_for(connection: sa.Connection, tenant_ids: Sequence[UUID]) -> None:
    # Of several who agreed to learn together, all of them; the statement names whom.
    tenancy.service(connection, tenant_ids[0] if len(tenant_ids) == 1 else None)


def _lines(connection: sa.Connection, name: str, given: dict[str, Any]) -> pd.DataFrame:
    found = _frame(connection, name, given)
    found["labelled_at"] = pd.to_datetime(found["labelled_at"], utc=True)
    return found


def _frame(connection: sa.Connection, name: str, given: dict[str, Any]) -> pd.DataFrame:
    with plans.without_loops(connection):
        result = connection.execute(statements("books_frames")[name], given)
        found = pd.DataFrame(result.all(), columns=list(result.keys()))
    found["tenant_id"] = found["tenant_id"].map(str)
    found["txn"] = found["txn"].map(str)
    return found.rename(columns={"tenant_id": "tenant"})
