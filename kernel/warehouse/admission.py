"""Which tenants a run may compute: one tenant's bad facts are named and left out, the others go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from models.statements import statements


@dataclass(frozen=True, slots=True)
class Admission:
    """Tenant ids in scope that may be computed, and for the others why not."""

    tenant_ids: tuple[str, ...]
    refused: dict[str, str]


def admit(engine: sa.Engine, tenant_ids: Sequence[str] = ()) -> Admission:
    """Checks the facts of the named tenants, or of every active one.

    Raises RefusedError when a named tenant does not exist or when nobody can be computed.
    """
    with engine.begin() as connection:
        tenancy.service(connection)
        known = {
            str(row.id)
            for row in connection.execute(sa.text("select id from spine.tenants where status <> 'suspended'"))
        }
        refused: dict[str, str] = {}
        for statement in statements("admission").values():
            for row in connection.execute(statement):
                refused.setdefault(str(row.tenant_id), row.reason)
    unknown = set(tenant_ids) - known
    if unknown:
        raise RefusedError(
            f"tenant {min(unknown)} does not exist or is suspended: see revenue-os tenant list"
        )
    scope = set(tenant_ids) or known
    refused = {tenant: reason for tenant, reason in refused.items() if tenant in scope}
    admitted = tuple(sorted(scope - set(refused)))
    if not admitted:
        reasons = "; ".join(f"{tenant}: {reason}" for tenant, reason in sorted(refused.items()))
        raise RefusedError(f"no tenant can be computed ({reasons or 'none exists: load one first'})")
    return Admission(admitted, refused)
