"""Work on usage in a process that is killed at a chosen step: the program that `killed` runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.usage import close, gate, outbox, recount, recovery, sites
from tests.fakes.killed import serve
from tests.integration.usage.capturing import event


def _capture(engine: sa.Engine, *, public_id: str, keys: list[str], at: str, is_away: bool) -> None:
    instant = datetime.fromisoformat(at)
    with engine.begin() as connection:
        site = sites.by_public_id(connection, public_id)
    with engine.begin() as connection:
        gate.capture(
            connection, [event(site, key, at=instant) for key in keys], at=instant, actor="gate",
            publisher=_unavailable if is_away else outbox.write,
        )  # fmt: skip


def _recover(engine: sa.Engine, *, at: str) -> None:
    recovery.work(engine, "killed", lambda: datetime.fromisoformat(at))


def _recount(engine: sa.Engine, *, tenant_id: str, at: str) -> None:
    instant = datetime.fromisoformat(at)
    with engine.begin() as connection:
        recount.find(connection, UUID(tenant_id), instant)
    recount.work(engine, "killed", lambda: instant, tenant_id=UUID(tenant_id))


def _close(engine: sa.Engine, *, tenant_id: str, month: str, at: str) -> None:
    with engine.begin() as connection:
        close.close(connection, UUID(tenant_id), month, at=datetime.fromisoformat(at), actor="operator")


def _unavailable(*_: Any) -> None:
    raise ConnectionError("the queue is away")


if __name__ == "__main__":
    serve({"capture": _capture, "recover": _recover, "recount": _recount, "close": _close})
