"""What a night's run and a person's command both do with a tenant's books: language models asked, decided lines booked."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from kernel import tenancy
from kernel.books.journal import Booked
from kernel.books.llm import Answered
from kernel.books.llm_budget import usd
from kernel.books.watch import Watched


@dataclass(frozen=True, slots=True)
class Night:
    """`broken` are figures that contradict each other and rows of a log that do not follow, by which P3 is taken back;
    `watched` says where the tenant stands.
    """

    booked: Booked
    watched: Watched
    broken: tuple[str, ...]


def asked(made: Answered) -> dict[str, Any]:
    """What came of asking a language model, as it is told."""
    return {
        "asked": made.calls, "answered": len(made.accounts), "cached": made.cached, "failures": made.failures,
        "left": made.left, "cost_usd": usd(made.micros), "refused": made.refused, "why": made.why,
    }  # fmt: skip


def book(connection: sa.Connection, tenant: tenancy.Tenant, *, at: datetime) -> Night:
    """Proposes and posts what was decided, once it was looked whether the tenant may stay in its stage."""
    from dagster_project.settings import settings
    from kernel.books import journal, logs
    from ml import deciding
    from quality import books

    limits = settings().llm_limits
    broken = books.broken(deciding.report(connection, tenant, "30d", at=at, limits=limits))
    broken += logs.broken(connection, tenant.id)
    if broken:
        # Figures that contradict each other prove nothing, nor does a log that somebody wrote into: nothing is posted on
        # their word.
        deciding.withhold(connection, tenant.id, broken, at=at)
    watched = deciding.look(connection, tenant.id, at=at, limits=limits)
    deciding.step(connection, tenant.id, at=at)
    return Night(journal.book(connection, tenant.id, at=at), watched, tuple(broken))
