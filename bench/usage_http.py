"""Workload 12: the HTTP door of usage, with requests of 50 events and of one, at half of what it carries and at twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from bench.measure import database
from bench.usage import AT, shop
from kernel import tenancy
from kernel.usage import sites

_WORKERS = 2
_CROWD = 256  # connections


@dataclass(frozen=True, slots=True)
class Load:
    """`lost` are events that were acknowledged and are not in the ledger."""

    load: str
    requests_per_second: float
    events_per_second: float
    p50_ms: float
    p99_ms: float
    refused: int
    lost: int


def loads(seconds: float = 8) -> Iterator[Load]:
    """Each with connections that stay open. Half is of what requests of one event
    reached, twice of what a crowd of connections reached: more than the door can carry."""
    with database() as (engine, _):
        tenant_id, site = shop(engine, "http")
        with engine.begin() as connection:
            token = sites.make_key(connection, site, actor="bench", at=AT).token
        with _door(engine) as url:

            def loaded(name: str, connections: int, events: int, rate: float = 0) -> Load:
                before = _rows(engine, tenant_id)
                given = (url, token, site.public_id, connections, events, seconds, rate)
                command = [sys.executable, "-m", "bench.usage_load", *map(str, given)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                return _told(name, json.loads(done.stdout), _rows(engine, tenant_id) - before)

            loaded("warm", 8, 50)
            yield loaded("requests of 50", 16, 50)
            single = loaded("requests of 1", 32, 1)
            yield single
            yield loaded("requests of 1, half", 32, 1, single.requests_per_second / 2)
            yield loaded("requests of 1, 300 a second", 32, 1, 300)
            crowd = loaded("requests of 1, a crowd", _CROWD, 1)
            yield crowd
            yield loaded("requests of 1, twice the crowd's", _CROWD * 4, 1, crowd.requests_per_second * 2)


def _told(name: str, found: dict[str, Any], metered: int) -> Load:
    return Load(
        name,
        round(found["requests"] / found["seconds"], 1),
        round(found["acknowledged"] / found["seconds"], 1),
        round(found["p50_ms"], 1),
        round(found["p99_ms"], 1),
        sum(count for status, count in found["statuses"].items() if status != "200"),
        max(0, found["acknowledged"] - metered),
    )


@contextmanager
def _door(engine: sa.Engine) -> Iterator[str]:
    """The address of a door in processes of its own."""
    command = [str(Path(sys.executable).with_name("revenue-os")), "usage", "serve", "--port", "0"]
    command += ["--workers", str(_WORKERS), "--rate", "1000000"]
    environ = {**os.environ, "DATABASE_URL": engine.url.render_as_string(hide_password=False)}
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "http://" in line)
        yield next(word for word in line.split() if word.startswith("http://"))
    finally:
        process.terminate()
        process.communicate()


def _rows(engine: sa.Engine, tenant_id: UUID) -> int:
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        return connection.execute(sa.text("select count(*) from usage.ingest_idempotency")).scalar_one()
