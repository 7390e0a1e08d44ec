"""Who acts on a tenant's books: its own people, asked for by id or name, told by their ids in what is stored.

What the machine does is told by other words, which no person's id is.
"""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from kernel import members
from kernel.errors import RefusedError
from kernel.members import OPERATOR as OPERATOR

# Before the number of the stage whose approval the machine acts by.
AUTOPOST = "autopost:"
PIPELINE = "pipeline"


def person(connection: sa.Connection, tenant_id: UUID, asked: str) -> str:
    """The id of a member of the tenant. Raises RefusedError for anybody and anything else."""
    return str(members.find(connection, tenant_id, asked).user_id)


def approver(connection: sa.Connection, tenant_id: UUID, asked: str) -> str:
    """The id of a member who may approve. Raises RefusedError for anybody else."""
    found = members.find(connection, tenant_id, asked)
    if found.role not in members.APPROVERS:
        raise RefusedError(f"{found.name} is no {' or '.join(members.APPROVERS)} of the tenant: ask one")
    return str(found.user_id)
