"""Two campaigns of the demonstration, really sent: one by mail, one over HTTP to a provider that fails on order.

Workers are processes of the command that sends in production; the first one is killed on the way. What is launched
stands in `day_mailing`, the other end in `day_servers`, and what is compared in `day_funnel`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.cli import day_funnel, day_mailing, ui
from dagster_project.cli.day_mailing import RECIPIENTS, Mailing
from dagster_project.cli.day_servers import serving

if TYPE_CHECKING:
    import sqlalchemy as sa

_BY_MAIL, _BY_HTTP = "acme-healthy", "borealis-underperforming"
_LEASE_SECONDS = 6  # of five minutes: nobody watches a demonstration for so long
_KILLED_AFTER = RECIPIENTS * 2 // 3  # messages, of two campaigns
_PATIENCE_SECONDS = 300


def live(engine: sa.Engine, home: Path) -> list[day_funnel.Funnel]:
    """Sends both campaigns once and compares; a second call changes nothing. Fails when something does not add up."""
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
    if wrong := [told for each in funnels for told in day_funnel.mismatches(each)]:
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
    from models.delivery import FINAL_RUN_STATUSES

    ended = {*FINAL_RUN_STATUSES, "needs_reconciliation"}
    return all(_counted(engine, each, "campaign_runs", "status").keys() <= ended for each in mailings)


def _is_caught(engine: sa.Engine, mailings: Sequence[Mailing], worker: subprocess.Popen[bytes]) -> bool:
    """Whether the worker stands still in the middle of calls; else it goes on."""
    worker.send_signal(signal.SIGSTOP)
    if _in_call(engine, mailings):
        return True
    worker.send_signal(signal.SIGCONT)
    return False


def _in_call(engine: sa.Engine, mailings: Sequence[Mailing]) -> int:
    return sum(_counted(engine, each, "attempts", "state")["dispatching"] for each in mailings)


def _counted(engine: sa.Engine, mailing: Mailing, table: str, column: str) -> Counter[str]:
    """Rows of the mailing's run by a column of theirs."""
    import sqlalchemy as sa

    from kernel import tenancy
    from models import delivery

    rows = getattr(delivery, table).c
    is_mine = rows["id" if table == "campaign_runs" else "run_id"] == mailing.run_id
    query = sa.select(rows[column], sa.func.count()).where(rows.tenant_id == mailing.tenant_id, is_mine)
    with engine.begin() as connection:
        tenancy.service(connection, mailing.tenant_id)
        return Counter(dict(connection.execute(query.group_by(rows[column])).all()))


def _funnel(engine: sa.Engine, mailing: Mailing) -> day_funnel.Funnel:
    from kernel import tenancy
    from kernel.delivery.providers import effects

    with engine.begin() as connection:
        tenancy.service(connection, mailing.tenant_id)
        taken = effects.read(mailing.folder)
        return day_funnel.read(connection, mailing.tenant_id, mailing.slug, mailing.run_id, taken)
