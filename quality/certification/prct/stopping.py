"""The emergency drill: one company is stopped with an action in every state, and another one goes on."""

from __future__ import annotations

import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import acknowledge, budget, emergency
from kernel.actions.emergency import Stop
from models.spine import tenants
from quality.certification.prct.checks import Checks
from quality.certification.prct.companies import HEALTHY, Company
from quality.certification.prct.facts import BEN
from quality.certification.prct.provider import WorkerKilled
from quality.certification.prct.world import World, short

_SCALE = "scale_channel paid_search"
_WHY = "spend runs away"


def stopping(world: World, checks: Checks) -> None:
    company, neighbour = HEALTHY.but("prct-stopped-at-once"), HEALTHY.but("prct-neighbour")
    world.found(company, neighbour)
    world.go(0)
    world.cycle(company)
    world.approve(company, _SCALE)
    _in_every_state(world)
    before = _states(world, company)
    world.cycle(neighbour)
    world.approve(neighbour, _SCALE)

    world.go(0, 1)
    stop = _stop(world, company)
    names = {row["id"]: short(company, row["action_id"]) for row in world.actions(company)}
    in_flight = [name for name, state in before.items() if state == "applying"]
    waited = [name for name, state in before.items() if state in ("awaiting_ack", "approved", "claimed")]
    checks.equal(
        "states", "there is an action in every state that the drill is about",
        ["applying", "approved", "awaiting_ack", "claimed", "observing"], sorted(set(before.values())),
    )  # fmt: skip
    checks.equal("aborts", "what waits or is claimed is aborted", sorted(waited), _named(names, stop.aborted))
    checks.equal("in-flight", "what a worker is sending is named", in_flight, _named(names, stop.in_flight))
    checks.equal(
        "offers",
        "what stands is offered to be taken back",
        [_SCALE],
        _named(names, tuple(id for id, _ in stop.revertible)),
    )
    _recorded(world, checks, stop)
    _nothing_stirs(world, checks, company)
    world.dispatch()
    steps = world.steps(neighbour, _SCALE)[-1]
    checks.equal("neighbour", "another company goes on", "observing", steps)
    _settled(world, checks, company, in_flight[0] if in_flight else "max_touches")
    _taken_back(world, checks, company)
    _again(world, checks, company)


def _in_every_state(world: World) -> None:
    """The first is applied, of the second the worker dies after sending, of the third before; the others wait."""
    world.dispatch(limit=1)
    for fate in ("kill_after", "kill_before"):
        setattr(world.provider, fate, True)
        try:
            world.dispatch(limit=1)
        except WorkerKilled:
            continue
        raise AssertionError("the worker was to be killed and lived")


def _states(world: World, company: Company) -> dict[str, str]:
    return {short(company, row["action_id"]): row["execution_status"] for row in world.actions(company)}


def _named(names: dict[object, str], ids: tuple[object, ...]) -> list[str]:
    return sorted(names[id] for id in ids)


def _stop(world: World, company: Company) -> Stop:
    with world.engine.begin() as connection:
        tenancy.service(connection, company.id)
        return emergency.disable(connection, company.id, actor="Olga", reason=_WHY, at=world.at)


def _recorded(world: World, checks: Checks, stop: Stop) -> None:
    row = world.rows(
        "select actor, reason, at, detail from ops.incidents where id = :id", id=stop.incident_id
    )[0]
    found = {
        "who": row["actor"],
        "why": row["reason"],
        "when": row["at"] == world.at,
        "aborted": row["detail"]["aborted"] == [str(id) for id in stop.aborted],
        "in_flight": row["detail"]["in_flight"] == [str(id) for id in stop.in_flight],
        "revertible": row["detail"]["revertible"] == [str(id) for id, _ in stop.revertible],
    }
    expected = {
        "who": "Olga",
        "why": _WHY,
        **dict.fromkeys(("when", "aborted", "in_flight", "revertible"), True),
    }
    checks.equal("incident", "the incident says who, why, when, and what became of each", expected, found)


def _nothing_stirs(world: World, checks: Checks, company: Company) -> None:
    before, cycles = _states(world, company), _cycles(world, company)
    world.go(1)
    skipped = world.cycle(company).skipped.get(company.id)
    checks.equal(
        "no-cycle",
        "no cycle runs any more",
        "the tenant is switched off: revenue-os tenant enable switches it on",
        skipped,
    )
    world.dispatch()
    after = [_states(world, company), _cycles(world, company)]
    checks.equal("nothing-applied", "no action moves any more", [before, cycles], after)


def _settled(world: World, checks: Checks, company: Company, action_id: str) -> None:
    """What was being sent at that moment is read back, and then it too can be taken back."""
    world.reconcile()
    writes = sum(count for (id, name), count in world.provider.writes.items() if id == company.id)
    found = [_states(world, company)[action_id], writes]
    checks.equal("settled", "what was being sent is read back and not sent again", ["observing", 2], found)


def _taken_back(world: World, checks: Checks, company: Company) -> None:
    id = world.action(company, _SCALE)["id"]
    with world.engine.begin() as connection:
        acknowledge.request_revert(connection, company.id, BEN, id, _WHY, world.at)
    world.watch()
    with world.engine.begin() as connection:
        tenancy.service(connection, company.id)
        committed = budget.committed(connection, company.id, world.at.date())
    held = world.held(company, "campaigns", "budget_daily", "paid_search")
    found = [_states(world, company)[_SCALE], held, f"{committed.normalize():f}"]
    # Two days at 40, the 17th and the 18th, were spent; the other thirteen are free again.
    checks.equal(
        "reverts", "a change is taken back though the company is off", ["reverted", "200", "80"], found
    )


def _again(world: World, checks: Checks, company: Company) -> None:
    with world.engine.begin() as connection:
        tenancy.service(connection, company.id)
        emergency.enable(connection, company.id, actor="Olga", reason="repaired", at=world.at)
        query = sa.select(tenants.c.revenue_os_enabled, tenants.c.revenue_os_activated_at)
        on, since = connection.execute(query.where(tenants.c.id == company.id)).one()
    found = [on, since == world.at]
    checks.equal("again", "switched on, the thirty days begin anew", [True, True], found)


def _cycles(world: World, company: Company) -> int:
    query = "select count(*) from spine.optimization_cycles where tenant_id = :id"
    return world.value(query, id=company.id)
