"""What the assets of the books share: how they are told, and going through tenants so that none stops another."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import dagster as dg

from dagster_project.database import engine
from dagster_project.lib.tables import table
from kernel import tenancy
from kernel.errors import RefusedError

OWNER = "team:books"
SHOWN = 50
# Written by people's commands and by the assets: what the graph leads back to.
_TABLES = {
    "statement_files": "Statements as they came, each once, with what was read of them and whether they tie out.",
    "labels": "What people said of bank lines: the only thing that models learn from.",
    "rules": "Rules that people wrote or agreed to.",
    "accounts": "Charts of accounts.",
}


def now() -> datetime:
    return datetime.now(UTC)


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(["books", name])


@cache
def tables() -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            key(name), description=text, group_name="books", owners=[OWNER], kinds={"postgres"},
            metadata={"dagster/table_name": f"books.{name}"},
        )
        for name, text in _TABLES.items()
    ]  # fmt: skip


def of_books(
    name: str,
    description: str,
    reads: Sequence[str],
    *,
    checks: Sequence[dg.AssetCheckSpec] = (),
    **more: Any,
) -> dict[str, Any]:
    return {
        "key": key(name), "deps": [key(each) for each in reads], "group_name": "books", "owners": [OWNER],
        "kinds": {"python", "postgres"}, "description": description, "check_specs": list(checks), **more,
    }  # fmt: skip


def by_tenant(
    name: str,
    description: str,
    reads: Sequence[str],
    *,
    checks: Sequence[dg.AssetCheckSpec] = (),
    **more: Any,
) -> dict[str, Any]:
    """Of an asset that goes through tenants: one that fails is told, and the steps behind go on for all others."""
    return of_books(name, description, reads, checks=[_done(name), *checks], **more)


def _done(name: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        f"{name}_of_every_tenant",
        asset=key(name),
        description="The step was done for every tenant that keeps books.",
    )


def each_tenant(
    step: Callable[[tenancy.Tenant], Mapping[str, Any] | None],
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What a step says of each tenant that keeps books, and by slug why it failed for others.

    None: it has nothing to say of the tenant.
    """
    from kernel.books import settings

    rows, failures = [], {}
    with engine().begin() as connection:
        tenants = settings.keepers(connection)
    for tenant in tenants:
        try:
            told = step(tenant)
        except RefusedError as error:
            failures[tenant.slug] = str(error)
        # One tenant's failure never stops another's; what it was, the run says in the end.
        except Exception as error:
            failures[tenant.slug] = f"{type(error).__name__}: {str(error)[:300]}"
        else:
            if told is not None:
                rows.append({"tenant": tenant.slug, **told})
    return rows, failures


def finished(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    failures: Mapping[str, str],
    *checks: dg.AssetCheckResult,
    empty: str = "Nobody keeps books.",
) -> dg.MaterializeResult:
    """What came of each tenant as a table, or what it says without any, and whether it failed for any."""
    why = [f"{slug}: {each}" for slug, each in failures.items()]
    check = dg.AssetCheckResult(
        check_name=_done(name).name, asset_key=key(name), passed=not why, metadata={"failed": why[:SHOWN]}
    )
    told = {"tenants": len(rows), "of_each": table(rows[:SHOWN], empty)}
    return dg.MaterializeResult(metadata=told, check_results=[check, *checks])
