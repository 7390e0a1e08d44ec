"""The worker in the foreground, callbacks from files, and the fence after a database was put back."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dagster_project.cli import asked, ui

if TYPE_CHECKING:
    import sqlalchemy as sa

_SLEEP = timedelta(seconds=2)  # between looks for work; a launch waits that long at most
# What is due so soon is waited for, as items are that the provider was too busy for.
_SOON = timedelta(seconds=30)


class _Stop:
    """Becomes true when the process is asked to end."""

    def __init__(self) -> None:
        self.is_asked = False

    def __call__(self) -> bool:
        return self.is_asked

    def ask(self, *_: Any) -> None:
        self.is_asked = True


def work(
    forever: Annotated[
        bool, typer.Option("--forever", help="Go on when nothing is due, until the process is ended.")
    ] = False,
    lease: Annotated[
        float, typer.Option(help="Seconds until others take over what it holds, should it die.", min=1)
    ] = 300,
    as_json: ui.Json = False,
) -> None:
    """Send what is due, for every tenant, until nothing is. Ctrl-C or SIGTERM end it after the calls under way."""
    from kernel.delivery import oversight

    engine, done = ui.connect(), Counter[str]()
    with _ends_in_order() as stop, ui.progress(as_json) as progress:
        task = progress.add_task("Sending", total=None)
        while not stop():
            progress.update(task, total=done.total() + _asked(engine, oversight.due_items))
            with _worker(engine, stop, timedelta(seconds=lease)) as worker:
                for part in _rounds(worker):
                    # Those who are queued again are not done.
                    done += Counter({status: count for status, count in part.items() if status != "queued"})
                    progress.update(task, completed=done.total())
            left = _asked(engine, oversight.due)
            is_soon = left.next_at is not None and left.next_at < asked.now() + _SOON
            if not (forever or is_soon):
                break
            _wait(stop)
    left = _asked(engine, oversight.due)
    if as_json:
        ui.emit({"people": dict(done), "left": asdict(left)}, as_json)
        return
    ui.emit(dict(sorted(done.items())) or {"sent": 0}, as_json, title="What became of people")
    if stop():
        ui.step("Stopped", "jobs that were begun are handed back, nothing is lost")
    if left.waiting_jobs:
        until = (
            f"the next one until {left.next_at:%Y-%m-%d %H:%M:%S} UTC" if left.next_at else "until a resume"
        )
        ui.step("Waiting", f"{left.waiting_jobs} jobs, {until}: revenue-os campaign show tells why")


def receive(
    account: Annotated[str, typer.Argument(help="The provider account whose callback it is.")],
    tenant: asked.Tenant,
    headers: Annotated[
        Path,
        typer.Option(help="A file of its headers, one a line as Name: value.", exists=True, dir_okay=False),
    ],
    body: Annotated[
        Path, typer.Option(help="A file of its body, byte for byte.", exists=True, dir_okay=False)
    ],
    at: Annotated[
        str | None, typer.Option(help="When it came, where that is not now: signatures grow old.")
    ] = None,
    as_json: ui.Json = False,
) -> None:
    """Apply a callback that was saved: signatures are checked, events that are known change nothing."""
    from kernel.delivery import callbacks, views
    from kernel.delivery.providers import registry
    from kernel.delivery.providers.base import BadCallback

    with asked.of(tenant) as (connection, found):
        rows = [row for row in views.accounts(connection, found.id) if row.name == account]
        if not rows:
            ui.fail(
                f"the tenant has no provider account {account!r}: see revenue-os campaign accounts -t TENANT"
            )
        row = _account_row(connection, found.id, rows[0].id)
        provider = registry.make(row)
        try:
            kept = callbacks.receive(
                connection, row, provider, _headers(headers), body.read_bytes(),
                at=asked.instant(at, "UTC") if at else asked.now(),
            )  # fmt: skip
        except BadCallback as error:
            ui.fail(f"the callback is refused: {error}")
        finally:
            provider.close()
    ui.emit({"account": account, "new_events": kept}, as_json)


def fence(
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Slug or id; all when left out.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, tell what it would do.")] = False,
    as_json: ui.Json = False,
) -> None:
    """After files of the database were put back: everything in flight becomes a case before anything is sent."""
    from kernel import tenancy
    from kernel.delivery import fence as fencing
    from kernel.delivery import oversight

    rows = []
    with ui.connection() as connection:
        known = [tenancy.find(connection, tenant)] if tenant else tenancy.all_tenants(connection)
        for each in known:
            tenancy.service(connection, each.id)
            count = (
                fencing.close(connection, each.id, actor="operator")
                if yes
                else oversight.in_flight(connection, each.id)
            )
            if count or tenant:
                rows.append({"tenant": each.slug, "items": count})
    ui.emit(rows, as_json, title="Became cases" if yes else "Would become cases")
    if yes:
        ui.step(
            "Next", "revenue-os campaign cases -t TENANT lists them; providers that can be asked are asked"
        )
    elif rows:
        ui.step("Next", "stop every worker first; then revenue-os campaign fence --yes")


def _rounds(worker: Any) -> Iterator[Counter[str]]:
    """Settles what was left behind and sends until nothing is due; how many took which status."""
    from kernel.delivery import reconcile, send

    def settled() -> Iterator[Counter[str]]:
        reconcile.sweep(worker)
        yield reconcile.settle_stalled(worker)
        yield reconcile.look_up_cases(worker)

    yield from settled()
    settled_at = time.monotonic()
    for part in send.each_job(worker):
        yield part
        # A long queue does not keep what others left behind waiting.
        if time.monotonic() - settled_at > _SOON.total_seconds():
            yield from settled()
            settled_at = time.monotonic()


@contextmanager
def _worker(engine: sa.Engine, stop: _Stop, lease: timedelta) -> Iterator[Any]:
    """A worker of its own adapters: what is changed of an account counts from the next one on."""
    from kernel.delivery import send
    from kernel.delivery.providers import registry

    name = f"{socket.gethostname()}:{os.getpid()}"
    worker = send.Worker(engine, name, registry.make, lease=lease, is_stopping=stop)
    try:
        yield worker
    finally:
        worker.close()


@contextmanager
def _ends_in_order() -> Iterator[_Stop]:
    stop = _Stop()
    former = {number: signal.signal(number, stop.ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _wait(stop: _Stop) -> None:
    until = time.monotonic() + _SLEEP.total_seconds()
    while not stop() and time.monotonic() < until:
        time.sleep(0.1)


def _asked(engine: sa.Engine, view: Callable[[sa.Connection], Any]) -> Any:
    """Of every tenant."""
    from kernel import tenancy

    with engine.begin() as connection:
        tenancy.service(connection)
        return view(connection)


def _account_row(connection: sa.Connection, tenant_id: Any, account_id: Any) -> Any:
    from models.statements import statements

    given = {"tenant_id": tenant_id, "account_id": account_id}
    return connection.execute(statements("delivery")["account"], given).one()


def _headers(file: Path) -> dict[str, str]:
    found = {}
    for number, line in enumerate(asked.text_of(file).splitlines(), 1):
        name, colon, value = line[1:].partition(":") if line.startswith(":") else line.partition(":")
        if not line.strip():
            continue
        if not colon:
            ui.fail(f"{file}, line {number} is no header: write it as Name: value")
        found[(":" if line.startswith(":") else "") + name.strip()] = value.strip()
    return found
