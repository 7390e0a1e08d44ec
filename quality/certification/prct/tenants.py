"""Many companies at once: each sees itself alone, one's trouble is nobody else's, and none is decided on too often."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from kernel import members, tenancy
from kernel.actions import acknowledge
from models import actions, decisions, ops, spine  # noqa: F401 - imported to register the tables
from models.base import metadata
from quality.certification.prct.checks import Checks
from quality.certification.prct.companies import DEGRADED, HEALTHY, Company
from quality.certification.prct.facts import BEN
from quality.certification.prct.world import World

_SCALE = "scale_channel paid_search"
_SNAPSHOTS = sa.Table(
    "metric_snapshots_daily", sa.MetaData(), sa.Column("tenant_id", sa.Uuid), schema="analytics"
)
_CARL = UUID(int=0xCA)


def tenants(world: World, checks: Checks) -> None:
    ours, theirs = HEALTHY.but("prct-ours"), DEGRADED.but("prct-theirs")
    off, shadow = (
        HEALTHY.but("prct-switched-off", enabled=False),
        HEALTHY.but("prct-shadow", kernel_mode="shadow"),
    )
    empty = HEALTHY.but("prct-empty", dict.fromkeys(HEALTHY.figures))
    world.found(ours, theirs, off, shadow, empty)
    world.go(0)
    report = world.cycle(empty, off, ours, shadow, theirs)
    completed = sorted(company.slug for company in world.present if company.id in report.completed)
    checks.equal(
        "others-go-on",
        "one without metrics stops nobody else",
        ["prct-ours", "prct-shadow", "prct-theirs"],
        completed,
    )
    failed = str(report.failed.get(empty.id)).partition(":")[0]
    checks.equal("no-metrics", "without metrics nothing is decided", "INSUFFICIENT_DATA", failed)
    skipped = report.skipped.get(off.id)
    checks.equal(
        "off",
        "a company that is off has no cycle",
        "the tenant is switched off: revenue-os tenant enable switches it on",
        skipped,
    )
    _separated(world, checks, ours)
    _shadowed(world, checks, shadow)
    _alone(world, checks, ours, theirs)


def _separated(world: World, checks: Checks, company: Company) -> None:
    found = []
    for hours in (6, 11.99, 12):
        world.go(0, hours)
        report = world.cycle(company)
        found.append("decided" if report.completed else "too soon" if report.skipped else "failed")
    expected = ["too soon", "too soon", "decided"]
    checks.equal("separation", "two cycles of a company are at least twelve hours apart", expected, found)


def _shadowed(world: World, checks: Checks, company: Company) -> None:
    world.go(0, 1)
    states = sorted({row["execution_status"] for row in world.actions(company)})
    checks.equal("shadow", "in shadow every action is proposed and no more", ["proposed"], states)
    sentence = "the action is proposed, not awaiting_ack"
    checks.refused(
        "shadow-approval", "and nobody can agree to it", sentence, lambda: world.approve(company, _SCALE)
    )
    world.dispatch()
    held = world.held(company, "campaigns", "budget_daily", "paid_search")
    checks.equal("shadow-applied", "and nothing of it is applied", "200", held)


def _alone(world: World, checks: Checks, ours: Company, theirs: Company) -> None:
    """Every table that has a tenant, read as a user of one: a spot check of what the tests prove table by table."""
    foreign, missing, unpinned = [], [], []
    for table in (*metadata.sorted_tables, _SNAPSHOTS):
        key = "id" if table.fullname == "spine.tenants" else "tenant_id"
        query = sa.select(table.c[key]).distinct()
        if set(world.as_member(ours, query)) - {ours.id}:
            foreign.append(table.fullname)
        if world.as_member(None, query):
            unpinned.append(table.fullname)
        if _has(world, table, key, ours) and not world.as_member(ours, query):
            missing.append(table.fullname)
    checks.equal("foreign", "a user sees no row of another company, in no table", [], foreign)
    checks.equal("unpinned", "a user of no company sees nothing", [], unpinned)
    # Otherwise seeing nothing at all would pass.
    checks.equal("own", "a user sees the rows of the own company", [], missing)

    world.go(0, 13)
    with world.engine.begin() as connection:
        members.add(connection, theirs.id, _CARL, "Carl", "owner")
    sentence = "no approver of the tenant"
    checks.refused(
        "foreign-approver", "the owner of another company agrees to nothing here", sentence,
        lambda: world.approve(ours, _SCALE, _CARL),
    )  # fmt: skip
    action = world.action(ours, _SCALE)
    checks.refused(
        "foreign-action", "nor does naming the own company help", "the tenant has no action",
        lambda: _approve_as(world, theirs, action["id"], action["payload_hash"]),
    )  # fmt: skip
    with world.engine.begin() as connection:
        tenancy.service(connection, theirs.id)
        table = decisions.optimization_actions
        touched = connection.execute(
            sa.update(table).where(table.c.tenant_id == ours.id).values(reason="x")
        ).rowcount
    checks.equal("foreign-write", "pinned to one company the pipeline changes nothing of another", 0, touched)


def _has(world: World, table: sa.Table, key: str, company: Company) -> bool:
    with world.engine.begin() as connection:
        tenancy.service(connection)
        return connection.execute(sa.select(sa.exists().where(table.c[key] == company.id))).scalar_one()


def _approve_as(world: World, company: Company, id: UUID, digest: str) -> None:
    with world.engine.begin() as connection:
        acknowledge.approve(connection, company.id, BEN, id, digest, world.at)
