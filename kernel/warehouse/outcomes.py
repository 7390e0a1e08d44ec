"""What became of each tenant in a run, kept in ops.tenant_runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.warehouse.admission import Admission
from models.statements import statements

_AREA = "metrics"


class TenantsFailedError(RefusedError):
    """Some tenants could not be computed; the message lists each with its reason."""

    def __init__(self, failed: dict[str, str]) -> None:
        listed = "; ".join(f"{tenant}: {reason}" for tenant, reason in failed.items())
        super().__init__(f"{len(failed)} tenants failed, the others are done. {listed}")


@dataclass(frozen=True, slots=True)
class RunReport:
    succeeded: tuple[str, ...]
    failed: dict[str, str]
    row_count: int


@contextmanager
def recorded(
    engine: sa.Engine,
    run_id: str,
    span: tuple[date, date],
    admission: Admission,
    clock: Callable[[], datetime],
) -> Iterator[None]:
    """Records every tenant as failed or succeeded once the body ends, also when it raises."""
    started_at = clock()
    failure: str | None = "the run was interrupted: run the same days again"
    try:
        yield
        failure = None
    except Exception as error:
        failure = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise
    finally:
        _record(engine, run_id, span, admission, failure, started_at, clock())


def _record(
    engine: sa.Engine,
    run_id: str,
    span: tuple[date, date],
    admission: Admission,
    failure: str | None,
    started_at: datetime,
    finished_at: datetime,
) -> None:
    fates = dict.fromkeys(admission.tenant_ids, failure) | dict(admission.refused)
    rows = [
        {
            "tenant_id": tenant,
            "run_id": run_id,
            "area": _AREA,
            "status": "failed" if error else "succeeded",
            "window_start": span[0],
            "window_end": span[1],
            "error": error,
            "started_at": started_at,
            "finished_at": finished_at,
        }
        for tenant, error in fates.items()
    ]
    named = statements("outcomes")
    with engine.begin() as connection:
        tenancy.service(connection)
        connection.execute(named["record"], rows)
        if failure is None:
            window = {"window_start": span[0], "window_end": span[1], "run_id": run_id}
            connection.execute(named["count_rows"], window | {"tenant_ids": list(admission.tenant_ids)})


def of_run(engine: sa.Engine, run_id: str) -> RunReport:
    with engine.begin() as connection:
        tenancy.service(connection)
        rows = connection.execute(statements("outcomes")["of_run"], {"run_id": run_id}).all()
    return RunReport(
        succeeded=tuple(row.slug for row in rows if row.status == "succeeded"),
        failed={row.slug: row.error for row in rows if row.status == "failed"},
        row_count=sum(row.row_count for row in rows),
    )


def settled(connection: sa.Connection, first: date, last: date) -> bool:
    """Whether every tenant's days of the span are computed from everything loaded; False when there is no tenant."""
    return connection.execute(statements("outcomes")["settled"], {"first": first, "last": last}).scalar_one()
