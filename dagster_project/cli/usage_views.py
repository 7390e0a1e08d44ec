"""How usage is shown to people: money, names and adjustments in tables. `--json` gives what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dagster_project.cli import ui
from dagster_project.cli.action_views import SHORTEST

if TYPE_CHECKING:
    import sqlalchemy as sa

UNLIMITED = "unlimited"
_MONEY = (
    "base_price",
    "overage_price_per_1k",
    "minimum",
    "total",
    "price_per_1k",
    "amount",
    "projected_invoice",
)
_PEOPLE = ("closed_by", "final_by")


def money(amount: Decimal | None, currency: str | None) -> str | None:
    """With the decimals of its currency, more where a price has them, and the code."""
    from kernel.money import digits

    if amount is None or currency is None:
        return None
    written = -int(amount.normalize().as_tuple().exponent)
    return f"{amount:,.{max(written, digits(currency))}f} {currency}"


def people(connection: sa.Connection, tenant_id: UUID) -> dict[str, str]:
    """The names of the tenant's people by their ids."""
    from kernel import members

    return {str(each.user_id): each.name for each in members.of(connection, tenant_id)}


def row(record: Any, currency: str | None = None, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A record as a table has it: money with its code, which needs no column of its own then, and people by name."""
    told = ui.plain(record)
    code = told.pop("currency", currency)
    told |= {name: money(told[name], code) for name in _MONEY if name in told}
    return told | {name: (names or {}).get(told[name], told[name]) for name in _PEOPLE if name in told}


def used(record: Mapping[str, Any]) -> dict[str, Any]:
    """How far a site's month is; a closed one is said to be so beside its name."""
    told = row(record)
    status = told.pop("status")
    return told if status == "active" else told | {"site": f"{told['site']} ({status})"}


def line(record: Any) -> dict[str, Any]:
    """A line of an invoice, with its reasons by their fields."""
    return ui.plain(record) | {"reasons": [each._asdict() for each in record.reasons]}


def closed(record: Any) -> dict[str, Any]:
    """A closed month, with its snapshots by their fields."""
    return ui.plain(record) | {"snapshots": [each._asdict() for each in record.snapshots]}


def without_limit(told: dict[str, Any], limit: str, *more: str) -> dict[str, Any]:
    """With the word in place of a number that stands for no limit, and of what is left of it."""
    from kernel.usage import plans

    if told[limit] != plans.UNLIMITED:
        return told
    return told | dict.fromkeys((limit, *more), UNLIMITED)


def adjustment(record: Mapping[str, Any]) -> dict[str, Any]:
    refuser = record["refuser"]
    decided = (
        f"refused by {refuser}: {record['refused_why']}" if refuser else record["approver"] or "nobody yet"
    )
    return {
        "id": str(record["id"])[:SHORTEST],
        "site": record["site"],
        "month": record["of_year_month"],
        "paid by": "-" if refuser else record["year_month"],
        "kind": record["kind"],
        "events": record["quantity"],
        "reason": record["reason"],
        "asked, approved": f"{record['asker']}, {decided}",
    }


def id_of(beginning: str, known: Sequence[Mapping[str, Any]], what: str) -> UUID:
    """Of what a list showed, by the beginning of its id."""
    found = [each["id"] for each in known if str(each["id"]).startswith(beginning.lower())]
    if len(beginning) < SHORTEST or len(found) != 1:
        ui.fail(
            f"{beginning!r} names {len(found)} {what}s: copy the id from the list, eight characters or more"
        )
    return found[0]
