"""Between a person's word and the target: what may change in the meantime, and a worker that dies half way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import budget
from quality.certification.prct.checks import Checks
from quality.certification.prct.companies import HEALTHY, MORNING, Company, day
from quality.certification.prct.provider import WorkerKilled
from quality.certification.prct.world import World

_SCALE = "scale_channel paid_search"
# Without settings there is one thing to approve.
_LONELY = HEALTHY.but("prct-lonely", settings=())


def applying(world: World, checks: Checks) -> None:
    for name, case in CASES.items():
        case(world, checks, _approved(world, name))


def _approved(world: World, name: str) -> Company:
    """A company whose scaling action has a person's word and waits for a worker."""
    company = _LONELY.but(f"prct-{name}")
    world.found(company)
    world.go(0)
    world.cycle(company)
    world.approve(company, _SCALE)
    return company


def _found(world: World, company: Company) -> dict[str, object]:
    row = world.action(company, _SCALE)
    with world.engine.begin() as connection:
        tenancy.service(connection, company.id)
        committed = budget.committed(connection, company.id, world.at.date())
    return {
        "status": row["execution_status"],
        "budget": world.held(company, "campaigns", "budget_daily", "paid_search"),
        "committed": f"{committed.normalize():f}",
        "why": row["reason"],
    }


def _stopped(why: str | None, *, status: str = "aborted", budget: str = "200") -> dict[str, object]:
    return {"status": status, "budget": budget, "committed": "0", "why": why}


def _because(found: dict[str, object], why: str) -> dict[str, object]:
    """The part of the reason that matters, where it is part of it."""
    return found | ({"why": why} if why in str(found["why"]) else {})


def _toggled(world: World, checks: Checks, company: Company) -> None:
    world.days(company, day(1), day(1), {"payback_months": "16"})
    world.go(1)
    world.dispatch()
    why = "payback_exceeded is triggered: no spend may grow"
    checks.equal(
        "toggled", "a gate that triggers after the approval stops it", _stopped(why), _found(world, company)
    )


def _blinded(world: World, checks: Checks, company: Company) -> None:
    world.days(company, day(1), day(1), {"cash_runway_months": "undefined"})
    world.go(1)
    world.dispatch()
    why = "cash_constrained is unknown: no spend may grow"
    checks.equal(
        "blinded", "a gate that is not known any more stops it too", _stopped(why), _found(world, company)
    )


def _tampered(world: World, checks: Checks, company: Company) -> None:
    _sql(
        world, "update spine.optimization_actions set payload = jsonb_set(payload, '{proposed_change,new_value}', '400')"
        " where tenant_id = :id", id=company.id,
    )  # fmt: skip
    world.dispatch()
    why = "the payload is not the one that was approved"
    checks.equal(
        "tampered",
        "a payload changed after the approval is not applied",
        _stopped(why),
        _found(world, company),
    )


def _moved(world: World, checks: Checks, company: Company) -> None:
    _sql(
        world, "update spine.spine_campaign_channels set daily_budget = 300 where tenant_id = :id and"
        " channel = 'paid_search'", id=company.id,
    )  # fmt: skip
    world.dispatch()
    why = "is '300' by now and was '200' when this was proposed"
    found = _because(_found(world, company), why)
    checks.equal(
        "moved", "what somebody else has set meanwhile is left alone", _stopped(why, budget="300"), found
    )


def _expired(world: World, checks: Checks, company: Company) -> None:
    world.at = MORNING + timedelta(hours=72)
    world.dispatch()
    why = "the approval was good until 2026-03-20 06:30"
    found = _because(_found(world, company), why)
    checks.equal("late", "an approval is good for 72 hours", _stopped(why, status="expired"), found)


def _off(world: World, checks: Checks, company: Company) -> None:
    _sql(world, "update spine.tenants set revenue_os_enabled = false where id = :id", id=company.id)
    world.dispatch()
    expected = _stopped(None, status="approved")
    checks.equal(
        "off", "nothing is applied while the company is switched off", expected, _found(world, company)
    )


def _capped(world: World, checks: Checks, company: Company) -> None:
    with world.engine.begin() as connection:
        tenancy.service(connection, company.id)
        tenancy.set_config(
            connection, company.id, {**company.config, "monthly_budget_cap": "599"}, author="prct",
            reason="less to spend", valid_from=world.at,
        )  # fmt: skip
    world.dispatch()
    found = _found(world, company)
    why = "600.00 more until the end of 2026-03 would exceed 599"
    checks.equal("capped", "the month's cap holds to the last unit", _stopped(why), _because(found, why))


def _killed(world: World, checks: Checks, company: Company) -> None:
    world.provider.kill_after = True
    _dies(world.dispatch)
    states = [_status(world, company)]
    world.dispatch()
    states.append(_status(world, company))
    world.go(0, 1)
    world.dispatch()
    world.reconcile()
    states.append(_status(world, company))
    writes = sum(count for (id, _), count in world.provider.writes.items() if id == company.id)
    checks.equal(
        "killed", "a worker killed after the change was sent leaves it to be read back, not sent again",
        {"states": ["applying", "applying", "observing"], "writes": 1, "budget": "240"},
        {"states": states, "writes": writes, "budget": _found(world, company)["budget"]},
    )  # fmt: skip


def _taken_back(world: World, checks: Checks, company: Company) -> None:
    """CAC above what it may be, 2,500, on three days in a row: the action's own condition to stop."""
    world.dispatch()
    states = []
    for number in (2, 3, 4):
        world.days(company, day(number), day(number), {"cac_blended": "2600"})
        world.go(number)
        world.watch()
        states.append([_status(world, company), _found(world, company)["budget"]])
    expected = [["observing", "240"], ["observing", "240"], ["reverted", "200"]]
    checks.equal("breached", "a change is taken back on the third day of a breach", expected, states)


def _status(world: World, company: Company) -> str:
    return world.action(company, _SCALE)["execution_status"]


def _dies(call: Callable[[], object]) -> None:
    try:
        call()
    except WorkerKilled:
        return
    raise AssertionError("the worker was to be killed and lived")


def _sql(world: World, statement: str, **given: object) -> None:
    with world.engine.begin() as connection:
        connection.execute(sa.text(statement), given)


Case = Callable[[World, Checks, Company], None]

CASES: Mapping[str, Case] = {
    "toggled": _toggled,
    "blinded": _blinded,
    "tampered": _tampered,
    "moved": _moved,
    "late": _expired,
    "off": _off,
    "capped": _capped,
    "killed": _killed,
    "breached": _taken_back,
}
