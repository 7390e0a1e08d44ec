"""A month of usage of the demonstration: metered, closed, invoiced, proved to a stranger, and a forgery refused.

It is the last full month before the companies' facts end, lived on a clock of its own through the doors that production
has. What the sites send is made by `samples.usage`, what is compared stands in `day_usage_account`; nothing here is a rule.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.cli import day_usage_account, ui
from dagster_project.cli.day_usage_account import Account, Demo

if TYPE_CHECKING:
    import sqlalchemy as sa

    from kernel.usage.dispute import Pack
    from kernel.usage.outbox import Message, Publisher
    from kernel.usage.plans import Terms

# A tenant, and how many events its site has in a month.
SITES = {"acme-healthy": 4_200, "borealis-underperforming": 3_100}
_ACTOR = "ana.approver"
_OUTAGE_WEEK = 3
_AGAIN = timedelta(minutes=30)  # after the month: every file comes a second time
_LOST = "the queue does not answer"


def live(engine: sa.Engine, home: Path, events: Path, last: date) -> list[Account]:
    """Lives the month once; a second call changes nothing. Fails when something does not add up or a forgery passes.

    Files are kept in `home`; `events` is the folder to which events are handed on.
    """
    from kernel.usage import periods

    month = periods.before(f"{last:%Y-%m}")
    demos = [_prepared(engine, tenant, month, home / "demo-usage" / tenant) for tenant in SITES]
    if all(demo.forged.exists() for demo in demos):
        ui.step("Usage", f"{month} was metered, closed, exported and verified: nothing to do")
        return [day_usage_account.read(engine, demo, events) for demo in demos]
    _ingest(engine, demos, events)
    _close(engine, demos)
    accounts = [day_usage_account.read(engine, demo, events) for demo in demos]
    if wrong := [told for each in accounts for told in day_usage_account.mismatches(each)]:
        day_usage_account.tell(accounts)
        ui.fail(f"the month of usage does not add up: {'; '.join(wrong)}")
    for demo in demos:
        _prove(engine, demo)
    return accounts


def _prepared(engine: sa.Engine, tenant: str, month: str, folder: Path) -> Demo:
    """The tenant's site with its plan, both made when they are not there, and what the site sends."""
    from kernel import tenancy
    from kernel.usage import audit, periods, plans, sites
    from samples import usage

    begins, ends = periods.bounds(month)
    public_id = f"{tenant.partition('-')[0]}-demo"
    with engine.begin() as connection:
        tenancy.service(connection)
        of = tenancy.find(connection, tenant)
        known = [site for site in sites.of(connection, of.id) if site.public_id == public_id]
        site = known[0] if known else sites.make(connection, of.id, f"{of.name}, web", public_id=public_id)
        if plans.plan_at(connection, of.id, site.id, begins).id is None:
            terms = _terms(tenant, of.default_currency)
            actor = audit.entitled(connection, of.id, _ACTOR)
            plans.set_plan(connection, of.id, site.id, terms, valid_from=begins, actor=actor, at=begins)
    sent = usage.month(public_id, begins, SITES[tenant])
    return Demo(tenant, site, month, begins, ends, sent, folder)


def _terms(tenant: str, currency: str) -> Terms:
    from kernel.usage.plans import Terms, Tier

    events = SITES[tenant]
    if tenant == "acme-healthy":
        tiers = (Tier(events * 5 // 6, Decimal("25.00")), Tier(None, Decimal("20.00")))
        return Terms(
            monthly_limit=events * 2 // 3, soft_limit_enabled=True, plan_tier="growth", currency=currency,
            base_price=Decimal("99.00"), tiers=tiers,
        )  # fmt: skip
    return Terms(
        monthly_limit=events * 9 // 10, plan_tier="starter", currency=currency, base_price=Decimal("19.00"),
        minimum=Decimal("49.00"),
    )  # fmt: skip


def _ingest(engine: sa.Engine, demos: Sequence[Demo], events: Path) -> None:
    """Week after week as they come in, one of them while nothing can be published, then all of them once more."""
    from kernel.usage import outbox, recovery, relay

    became: Counter[str] = Counter()
    degraded = 0
    for demo in demos:
        for number, week in enumerate(demo.sent.weeks, 1):
            publisher = _unreachable if number == _OUTAGE_WEEK else outbox.write
            done = _take(engine, demo, number, publisher, week.ends)
            degraded += done["degraded"]
            became += done
    ui.step(
        "Ingest", f"{sum(demo.sent.lines for demo in demos):,} lines of {len(demos)} sites: {_said(became)}"
    )
    ui.step(
        "Outage", f"in week {_OUTAGE_WEEK} {_LOST}: {degraded:,} events are metered, and kept to be published"
    )
    recovered = recovery.work(engine, f"demo {os.getpid()}", _at(demos[0].ends))
    ui.step("Recover", f"{recovered['RECOVERED']} messages are published, and nothing is billed again")
    again: Counter[str] = Counter()
    for demo in demos:
        for number in range(1, len(demo.sent.weeks) + 1):
            again += _take(engine, demo, number, outbox.write, demos[0].ends + _AGAIN)
    ui.step("Again", f"the same files: {_said(again)}")
    if new := again["queued"] + again["degraded"]:
        ui.fail(f"{new:,} events of files that came before were metered a second time")
    handed_on = relay.work(engine, relay.folder(events), lambda: datetime.now(UTC))
    ui.step("Deliver", f"{handed_on} messages handed on to {events}")


def _take(engine: sa.Engine, demo: Demo, number: int, publisher: Publisher, at: datetime) -> Counter[str]:
    """What became of the lines of a week that are taken at an instant."""
    from dagster_project.settings import settings
    from kernel import tenancy
    from kernel.usage import audit
    from kernel.usage.batch import Intake

    week = demo.sent.weeks[number - 1]
    file = demo.folder / "sent" / week.name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(line + b"\n" for line in week.lines))
    with engine.begin() as connection:
        tenancy.service(connection, demo.site.tenant_id)
        actor = audit.entitled(connection, demo.site.tenant_id, _ACTOR)
    intake = Intake(engine, demo.site, settings().idempotency_version, actor, _at(at), publisher=publisher)
    return intake.take(file).statuses


def _unreachable(connection: sa.Connection, message: Message) -> None:
    raise ConnectionError(_LOST)


def _close(engine: sa.Engine, demos: Sequence[Demo]) -> None:
    from dagster_project import runs
    from kernel import tenancy
    from kernel.usage import close, periods, recount

    at = demos[0].ends + day_usage_account.CLOSED
    behind: set[str] = set()
    for demo in demos:
        of, month = demo.site.tenant_id, demo.month
        with engine.begin() as connection:
            tenancy.service(connection, of)
            periods.begin_closing(connection, of, at=at)
            recount.find(connection, of, at)
            recount.queue(connection, of, month, at=at)
        for each in recount.work(engine, f"demo {os.getpid()}", _at(at), tenant_id=of, month=month):
            if each.matrix is None or each.matrix.off:
                wrong = each.error or ", ".join(sorted(each.matrix.off))
                ui.fail(f"{month} of {demo.tenant} is not counted the same everywhere: {wrong}")
            behind |= {*each.matrix.behind}
    ui.step("Recount", "the ledger, the counters and what is delivered say the same")
    if behind:
        # Somebody had them built, and then a close asks them too.
        with ui.spinner("One Dagster run: the marts of usage"):
            why = runs.rebuild("rebuild_usage_marts", on_wait=lambda line: ui.step("Waiting", line))
        if why:
            ui.fail(why)
        ui.step("Marts", f"{', '.join(sorted(behind))} have counted the month")
    for demo in demos:
        with engine.begin() as connection:
            done = close.close(connection, demo.site.tenant_id, demo.month, at=at, actor=_ACTOR)
        ui.step("Close", f"{demo.month} of {demo.tenant}: {done.events:,} events, {done.overage:,} of them overage,"
                f" frozen as {done.hash[:16]}")  # fmt: skip


def _prove(engine: sa.Engine, demo: Demo) -> None:
    """Exports the pack, has its own program check it without anything of ours, and has a forged copy refused."""
    from kernel.usage import dispute

    pack = dispute.export(
        engine, demo.site.tenant_id, demo.site.id, demo.month, demo.folder,
        actor=_ACTOR, at=demo.ends + day_usage_account.CLOSED,
    )  # fmt: skip
    assert pack.snapshot_hash is not None
    ui.step("Export", f"{pack.rows:,} rows of {demo.tenant} into {demo.folder}")
    checked = _checked(pack.program, pack.file, pack)
    if checked.returncode:
        ui.fail(
            f"the pack of {demo.tenant} is refused by its own program: {checked.stdout or checked.stderr}"
        )
    ui.step("Verify", checked.stdout.splitlines()[0])
    place = _forge(demo, pack)
    refused = _checked(pack.program, _unproved(demo) / pack.file.name, pack)
    if refused.returncode != 1 or not refused.stdout:
        ui.fail(f"a pack of {demo.tenant} was forged and is not refused: {refused.stdout or refused.stderr}")
    ui.step("Forge", f"one bit of byte {place:,} of a copy is changed: {refused.stdout.splitlines()[0]}")
    # A forgery that bears its name tells the next demonstration that this one came to its end.
    shutil.rmtree(demo.forged, ignore_errors=True)
    _unproved(demo).rename(demo.forged)


def _checked(program: Path, file: Path, pack: Pack) -> subprocess.CompletedProcess[str]:
    """The program's answer; -I keeps everything of ours out of its sight."""
    command = [sys.executable, "-I", str(program), str(file), "--snapshot", str(pack.snapshot_hash)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def _unproved(demo: Demo) -> Path:
    return demo.forged.with_suffix(".part")


def _forge(demo: Demo, pack: Pack) -> int:
    """Makes a copy of the pack with one bit changed in the middle; at which byte."""
    folder = _unproved(demo)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    content = bytearray(pack.file.read_bytes())
    place = next(at for at in range(len(content) // 2, len(content)) if chr(content[at]).isalnum())
    content[place] ^= 1
    (folder / pack.file.name).write_bytes(content)
    shutil.copy(pack.manifest, folder)
    return place


def _said(statuses: Counter[str]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items()))


def _at(instant: datetime) -> Callable[[], datetime]:
    return lambda: instant
