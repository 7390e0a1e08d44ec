"""Two campaigns of the demonstration, really sent: one by mail, one over HTTP to a provider that fails on order.

Workers are processes of the command that sends in production; the first one is killed on the way. What is launched
stands in `day_mailing`, the other end in `day_servers`, and what is compared in `kernel.delivery.funnel`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from dagster_project.cli import day_funnel, day_mailing, ui
from dagster_project.cli.day_mailing import RECIPIENTS, Mailing
from dagster_project.cli.day_servers import serving

if TYPE_CHECKING:
    import sqlalchemy as sa

    from kernel.delivery.funnel import Funnel

_Found = TypeVar("_Found")

_BY_MAIL, _BY_HTTP = "acme-healthy", "borealis-underperforming"
_LEASE_SECONDS = 6  # of five minutes: nobody watches a demonstration for so long
_KILLED_AFTER = RECIPIENTS * 2 // 3  # messages, of two campaigns
_PATIENCE_SECONDS = 300


def live(engine: sa.Engine, home: Path) -> list[Funnel]:
    """Sends both campaigns once and compares; a second call changes nothing. Fails when something does not add up."""
    from kernel.delivery import funnel

    by_mail = day_mailing.prepared(engine, _BY_MAIL, "smtp", home)
    by_http = day_mailing.prepared(engine, _BY_HTTP, "simulator", home)
    if by_mail.is_over and by_http.is_over:
        ui.step("Campaigns", "were sent and reconciled: nothing to do")
        return [_funnel(engine, each) for each in (by_mail, by_http)]
    account = (by_http.tenant_id, by_http.account_id)
    with serving(engine, by_mail.folder, by_http.folder, account) as servers:
        mail = {"host": "127.0.0.1", "port": servers.mail.mail_port, "tls": "none"}
        http = {"base_url": servers.http.url, "mode": "lookup", "account": _BY_HTTP, "batch": 2}
        by_mail = day_mailing.launched(engine, by_mail, mail)
        by_http = day_mailing.launched(engine, by_http, http)
        launched = (by_mail, by_http)
        with _worker(engine, home) as worker:
            _until(
                lambda: (
                    (servers.taken() >= _KILLED_AFTER and _is_caught(engine, launched, worker))
                    or _is_sent(engine, launched)
                ),
                worker,
            )
            worker.kill()
        ui.step(
            "Kill",
            f"worker {worker.pid}, after {servers.taken()} messages, {_in_call(engine, launched)} in a call",
        )
        with _worker(engine, home) as worker:
            ui.step(
                "Take over", f"worker {worker.pid}; in {_LEASE_SECONDS} s what the killed one held is free"
            )
            _until(lambda: _is_sent(engine, launched), worker)
        _until(lambda: not servers.http.teller.waiting)
        faults, heard = servers.mail.spent + servers.http.spent, servers.heard
        ui.step("Faults", ", ".join(f"{count} {fault}" for fault, count in sorted(faults.items())))
        ui.step(
            "Callbacks",
            f"{heard.callbacks} came late, {heard.callbacks - heard.events} of them for the second time",
        )
    funnels = [_funnel(engine, each) for each in launched]
    if wrong := [told for each in funnels for told in funnel.mismatches(each)]:
        day_funnel.tell(funnels)
        ui.fail(f"what was sent does not add up: {'; '.join(wrong)}")
    # Their servers are gone: nothing is sent to where they were.
    day_mailing.set_account(engine, by_mail, mail, is_connected=False)
    day_mailing.set_account(engine, by_http, http, is_connected=False)
    return funnels


@contextmanager
def _worker(engine: sa.Engine, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command that sends in production, until it is asked to end."""
    command = [str(Path(sys.executable).with_name("revenue-os")), "campaign", "work", "--forever"]
    command += ["--lease", str(_LEASE_SECONDS)]
    environ = {**os.environ, "DATABASE_URL": engine.url.render_as_string(hide_password=False)}
    with (home / "demo-workers.log").open("a") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)  # noqa: S603
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _until(holds: Callable[[], bool], worker: subprocess.Popen[bytes] | None = None) -> None:
    """Waits until something holds. Fails when the worker ends by itself, or when it takes too long."""
    ends_at = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        if worker is not None and worker.poll() is not None:
            ui.fail("a worker ended by itself: demo-workers.log beside the data says why")
        if time.monotonic() > ends_at:
            ui.fail(
                f"the campaigns were not sent in {_PATIENCE_SECONDS} s: revenue-os campaign runs tells how far they are"
            )
        time.sleep(0.1)


def _is_sent(engine: sa.Engine, mailings: Sequence[Mailing]) -> bool:
    """Whether every person has an outcome, or a case."""
    from kernel.delivery import funnel
    from models.delivery import FINAL_RUN_STATUSES

    ended = {*FINAL_RUN_STATUSES, "needs_reconciliation"}
    return all(_read(engine, each, funnel.standing) in ended for each in mailings)


def _is_caught(engine: sa.Engine, mailings: Sequence[Mailing], worker: subprocess.Popen[bytes]) -> bool:
    """Whether the worker stands still in the middle of calls; else it goes on."""
    worker.send_signal(signal.SIGSTOP)
    if _in_call(engine, mailings):
        return True
    worker.send_signal(signal.SIGCONT)
    return False


def _in_call(engine: sa.Engine, mailings: Sequence[Mailing]) -> int:
    from kernel.delivery import funnel

    return sum(_read(engine, each, funnel.in_call) for each in mailings)


def _funnel(engine: sa.Engine, mailing: Mailing) -> Funnel:
    from kernel.delivery import funnel
    from kernel.delivery.providers import effects

    taken = effects.read(mailing.folder)
    return _read(engine, mailing, lambda *which: funnel.read(*which, mailing.slug, taken))


def _read(
    engine: sa.Engine, mailing: Mailing, asked: Callable[[sa.Connection, UUID, UUID], _Found]
) -> _Found:
    from kernel import tenancy

    with engine.begin() as connection:
        tenancy.service(connection, mailing.tenant_id)
        return asked(connection, mailing.tenant_id, mailing.run_id)
