"""How a tenant's decided lines come into its journal, asked for by a night's run or by a person."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from kernel import tenancy
from kernel.books.journal import Booked
from kernel.books.watch import Watched


@dataclass(frozen=True, slots=True)
class Night:
    """`broken` are figures that contradict each other, by which P3 is taken back; `watched` says where the tenant stands."""

    booked: Booked
    watched: Watched
    broken: tuple[str, ...]


def book(connection: sa.Connection, tenant: tenancy.Tenant, *, at: datetime) -> Night:
    """Proposes and posts what was decided, once it was looked whether the tenant may stay in its stage."""
    from kernel.books import journal
    from ml import deciding
    from quality import books

    broken = books.broken(deciding.report(connection, tenant, "30d", at=at))
    if broken:
        # Figures that contradict each other prove nothing: nothing is posted on their word.
        deciding.withhold(connection, tenant.id, broken, at=at)
    watched = deciding.look(connection, tenant.id, at=at)
    deciding.step(connection, tenant.id, at=at)
    return Night(journal.book(connection, tenant.id, at=at), watched, tuple(broken))
