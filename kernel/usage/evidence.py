"""What a month of a site rests on, as it is read from the database: its rows, the terms that rate it, its snapshots.

A close freezes it and a dispute pack hands it out: both read it here, so that they read the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from itertools import islice
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import periods, plans, rating, verify
from kernel.usage.canonical import copy_lines, instant
from kernel.usage.plans import Plan, Terms
from models.statements import array, statements

_PIECE = 512  # lines: the driver gives one at a time, hashing many at once is quicker


def code_version() -> str:
    """Of the program, as its snapshots and packs name it."""
    return metadata.version("revenue-os")


@contextmanager
def by_pages(connection: sa.Connection) -> Iterator[None]:
    """Within, whole months are read from the ledger as they lie, by two processes; what fails ends the transaction."""
    sql = statements("usage_dispute")["by_pages"]
    connection.execute(sql, {"is_begun": True})
    yield
    connection.execute(sql, {"is_begun": False})


def rows_of(
    connection: sa.Connection,
    tenant_id: UUID,
    site_id: UUID,
    month: str,
    write: Callable[[bytes], object] | None = None,
) -> verify.Rows:
    """Reads the lines of a site's month as a dispute file has them, in constant memory, and writes them if asked to.

    Raises RefusedError when the database does not hand out all of them.
    """
    rows = verify.Rows(month)
    try:
        with (
            by_pages(connection),
            connection.connection.cursor() as cursor,
            cursor.copy(copy_lines(tenant_id, site_id, month)) as copy,
        ):
            lines = iter(copy)
            while piece := b"".join(islice(lines, _PIECE)):
                rows.feed(piece)
                if write is not None:
                    write(piece)
    except psycopg.Error as error:
        why = str(error).partition("\n")[0]
        raise RefusedError(f"{month} of site {site_id} was not read to its end ({why}): try again") from error
    rows.end()
    return rows


def terms_of(
    connection: sa.Connection, tenant_id: UUID, sites: Iterable[UUID], month: str
) -> dict[UUID, dict[str, Any]]:
    """The terms that rate a month, of each site: those valid at its first instant; of one that had none then, the first
    that began within it; else those of a site without a plan. Raises RefusedError for terms that rate nothing.
    """
    asked = list(sites)
    begins, ends = periods.bounds(month)
    found = plans.plans_at(connection, tenant_id, asked, begins)
    given = {
        "tenant_id": tenant_id, "sites": array(set(asked) - found.keys()), "begins": begins, "ends": ends,
    }  # fmt: skip
    later = {row.site_id: row._mapping for row in connection.execute(_sql("first_plans"), given)}
    return {
        site_id: rating.terms_of(
            later[site_id] if site_id in later else _columns(found.get(site_id, plans.DEFAULT))
        )
        for site_id in asked
    }


def snapshots(
    connection: sa.Connection, tenant_id: UUID, *, month: str | None = None, site_id: UUID | None = None
) -> list[dict[str, Any]]:
    """Snapshots of the tenant in the order of their chain, with the fields that their hashes cover: the first ones had
    no hash of adjustments.
    """
    given = {"tenant_id": tenant_id, "month": month, "site_id": site_id}
    return [
        {name: _plain(row[name]) for name in verify.SNAPSHOT if row[name] is not None}
        for row in connection.execute(_sql("snapshots"), given).mappings()
    ]


def corrections(
    connection: sa.Connection,
    tenant_id: UUID,
    month: str,
    counts: Mapping[UUID, tuple[int, Mapping[str, Any]]],
) -> dict[UUID, list[dict[str, Any]]]:
    """The adjustments that a month pays for, by site, with the fields of verify.ADJUSTMENT.

    `counts` are the billable events and the terms of the sites in the month itself.
    """
    given = {"tenant_id": tenant_id, "month": month, "sites": array(counts)}
    found = connection.execute(_sql("corrections"), given).all()
    frozen: dict[tuple[UUID, str], tuple[int, Mapping[str, Any]]] = {
        (site_id, month): each for site_id, each in counts.items()
    }
    for of_month in {row.of_year_month for row in found} - {month}:
        for each in snapshots(connection, tenant_id, month=of_month):
            frozen[UUID(each["site_id"]), of_month] = each["event_count"], each["plan"]
    told: dict[UUID, list[dict[str, Any]]] = {}
    before: dict[tuple[UUID, str], int] = {}
    for row in found:
        key = row.site_id, row.of_year_month
        if key not in frozen:
            frozen[key] = 0, terms_of(connection, tenant_id, [row.site_id], row.of_year_month)[row.site_id]
        units, terms = frozen[key]
        units_before = before.get(key, units + row.earlier)
        before[key] = units_before + row.quantity
        why = row.reason if row.reasons == 1 else f"{row.asked:,} of them"
        told.setdefault(row.site_id, []).append(
            {
                "of_year_month": row.of_year_month,
                "quantity": row.quantity,
                "units_before": units_before,
                "plan": dict(terms),
                "told": f"{row.kind}: {why}",
            }
        )
    return told


def in_currency(
    adjustments: Iterable[dict[str, Any]], currency: str, *, other: bool = False
) -> list[dict[str, Any]]:
    """Those whose month was rated in the currency, or those of others: they belong on an invoice of their own."""
    return [each for each in adjustments if (each["plan"]["currency"] != currency) == other]


def _columns(plan: Plan) -> dict[str, Any]:
    """A plan as a row of its table has it."""
    terms = {name: getattr(plan.terms, name) for name in Terms.__slots__}
    tiers = [{"up_to": tier.up_to, "per_1k": f"{tier.per_1k:f}"} for tier in plan.terms.tiers]
    return terms | {"tiers": tiers, "id": plan.id, "valid_from": plan.valid_from}


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    return instant(value) if hasattr(value, "tzinfo") else value


def _sql(name: str) -> sa.TextClause:
    return statements("usage_close")[name]
