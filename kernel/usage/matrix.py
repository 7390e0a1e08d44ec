"""What everybody who counted a month of a site says of it, beside what the ledger says: read only, and of one moment.

When months are compared and what follows from it stands in `recount` and `close`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import evidence, periods
from models.statements import array, statements

# A count that is off by more than both is told as an alarm; at a close nothing may be off at all.
_ALARM_ROWS, _ALARM_SHARE = 10, Decimal("0.01")
_MEASURES = ("rows", "billable", "overage", "rejected")

Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Matrix:
    """What is known of a site's month: `ledger` counts rows, billable, overage and rejected ones; every other place by
    its name what it says of these, None where it is not built or never counted. `quarantined` rows were given up.
    `behind` are places that were built before the ledger last changed: what they say is old, and not told.
    """

    ledger: Counts
    others: Mapping[str, Counts | None]
    quarantined: int = 0
    behind: tuple[str, ...] = ()
    off: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        off = {
            f"{place}.{measure}": said - self.ledger[measure]
            for place, counts in self.others.items()
            for measure, said in (counts or {}).items()
            if said != self.ledger[measure]
        }
        # What was refused is handed on by nobody.
        carried = self.ledger["rows"] - self.ledger["rejected"]
        delivered = self.others["delivered"]["rows"]
        off.pop("delivered.rows", None)
        if delivered != carried:
            off["delivered.rows"] = delivered - carried
        object.__setattr__(self, "off", off)

    @property
    def share(self) -> Decimal:
        """The worst of what is off as a share of the ledger's count, 0.01 for one in a hundred."""
        return max((self._share(name, by) for name, by in self.off.items()), default=Decimal(0))

    @property
    def alarms(self) -> list[str]:
        return sorted(
            name
            for name, by in self.off.items()
            if abs(by) > _ALARM_ROWS and self._share(name, by) > _ALARM_SHARE
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "ledger": dict(self.ledger),
            **{place: None if counts is None else dict(counts) for place, counts in self.others.items()},
            "quarantined": self.quarantined,
            "behind": list(self.behind),
            "off": dict(self.off),
            "alarms": self.alarms,
        }

    def _share(self, name: str, by: int) -> Decimal:
        # Something where the ledger has nothing is all of it too much.
        return abs(Decimal(by)) / max(self.ledger[name.rpartition(".")[2]], 1)


def compare(
    connection: sa.Connection, tenant_id: UUID, month: str, sites: Iterable[UUID]
) -> dict[UUID, Matrix]:
    """What each place says of a month of these sites. All of it is of one moment in a transaction of one snapshot.

    Raises RefusedError when rows of the month were archived.
    """
    asked = list(sites)
    refuse_archived(connection, tenant_id, month, asked)
    begins, ends = periods.bounds(month)
    given = {"tenant_id": tenant_id, "month": month, "sites": array(asked), "begins": begins, "ends": ends}

    with evidence.by_pages(connection):
        rows = connection.execute(_sql("ledger"), given).mappings().all()
    ledger, newest = _by_site(rows), {row["site_id"]: row["newest"] for row in rows}
    counters, frozen = (
        _by_site(connection.execute(_sql(name), given).mappings()) for name in ("counters", "snapshot")
    )
    none = dict.fromkeys(_MEASURES, 0)
    of_mart = {"rows": 0, "billable": 0, "overage": 0}
    marts = _marts(connection, given)

    def behind(site_id: UUID) -> tuple[str, ...]:
        return tuple(name for name, mart in marts.items() if newest.get(site_id, -1) >= mart.reach)

    def said(name: str, site_id: UUID) -> Counts | None:
        if name not in marts or name in behind(site_id):
            return None
        return marts[name].counts.get(site_id, of_mart)

    carried = {row.site_id: row for row in connection.execute(_sql("delivered"), given)}
    return {
        site_id: Matrix(
            ledger.get(site_id, none),
            {
                "counters": counters.get(site_id),
                "usage_ledger_daily": said("usage_ledger_daily", site_id),
                "site_usage_monthly": said("site_usage_monthly", site_id),
                "invoice_snapshot": frozen.get(site_id),
                "delivered": {"rows": carried[site_id].rows if site_id in carried else 0},
            },
            carried[site_id].given_up if site_id in carried else 0,
            behind(site_id),
        )
        for site_id in asked
    }


class _Mart(NamedTuple):
    """What a mart says of sites, and the transaction below which it has seen every row."""

    counts: Mapping[UUID, Counts]
    reach: int


def _marts(connection: sa.Connection, given: Mapping[str, Any]) -> dict[str, _Mart]:
    """Those that are built."""
    built = connection.execute(_sql("is_built")).one()
    asked = {
        "usage_ledger_daily": "daily" if built.daily else None,
        "site_usage_monthly": "monthly" if built.monthly else None,
    }
    return {
        name: _Mart(
            _by_site(connection.execute(_sql(source), given).mappings()),
            connection.execute(_sql(f"{source}_reach")).scalar_one(),
        )
        for name, source in asked.items()
        if source
    }


def _by_site(rows: Iterable[Mapping[Any, Any]]) -> dict[UUID, dict[str, int]]:
    return {row["site_id"]: {m: int(row[m]) for m in _MEASURES if m in row} for row in rows}


def sites_of(connection: sa.Connection, tenant_id: UUID, month: str) -> list[UUID]:
    """The tenant's sites that a month is about, also those without any usage."""
    begins, ends = periods.bounds(month)
    given = {"tenant_id": tenant_id, "month": month, "begins": begins, "ends": ends}
    return list(connection.scalars(_sql("sites_of_month"), given))


def refuse_archived(connection: sa.Connection, tenant_id: UUID, month: str, sites: list[UUID]) -> None:
    """Raises RefusedError when rows of the month left the ledger."""
    given = {"tenant_id": tenant_id, "month": month, "sites": array(sites)}
    if found := connection.execute(_sql("archived"), given).first():
        raise RefusedError(
            f"the rows of {month} of site {found.site_id} left the ledger: they are archived at {found.place}"
        )


def _sql(name: str) -> sa.TextClause:
    return statements("usage_recount")[name]
