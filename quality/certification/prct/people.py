"""Who may agree to what: the second person, the exact payload, the thirty days, the three days an answer may take."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from kernel import tenancy
from kernel.actions import acknowledge
from kernel.decisions.acknowledgment import TICKETS
from quality.certification.prct.checks import Checks
from quality.certification.prct.companies import HEALTHY, MORNING, Company
from quality.certification.prct.facts import ANA, BEN, MIA
from quality.certification.prct.world import World

_SCALE = "scale_channel paid_search"
_NOBODY = UUID(int=0xDD)


def people(world: World, checks: Checks) -> None:
    company = HEALTHY.but("prct-people")
    fresh = HEALTHY.but("prct-activated-lately", activated=10)
    unknown = HEALTHY.but("prct-activated-unknown", activated=None)
    world.found(company, fresh, unknown)
    world.go(0)
    world.cycle(company, fresh, unknown)
    for name, who, what in (
        ("first-thirty-days", fresh, "within thirty days of activation every change waits for a person"),
        ("activation-unknown", unknown, "an unknown activation counts as a recent one"),
    ):
        states = {row["execution_status"] for row in world.actions(who) if row["type"] not in TICKETS}
        checks.equal(name, what, ["awaiting_ack"], sorted(states))

    shown = world.action(company, _SCALE)["payload_hash"]
    refusals = (
        ("member", "a member who is no approver may not", "no approver of the tenant", MIA, shown),
        ("stranger", "whoever does not belong to the company may not", "no approver of the tenant", _NOBODY, shown),
        ("other-hash", "nobody agrees to what they were not shown", "not what was shown", BEN, "0" * 64),
    )  # fmt: skip
    for name, what, sentence, who, digest in refusals:
        checks.refused(name, what, sentence, _approval(world, company, who, digest))
    _edited(world, checks, company, shown)
    _ended(world, checks, company)


def _edited(world: World, checks: Checks, company: Company, shown: str) -> None:
    """Ana proposes another value: from then on it is hers, and somebody else has to agree."""
    checks.refused(
        "edit-beyond", "an edit meets the same rules as a proposal", "0 to 50 percent",
        lambda: _edit(world, company, "discount_ceiling", 60),
    )  # fmt: skip
    _edit(world, company, _SCALE, "220")
    edited = world.action(company, _SCALE)["payload_hash"]
    checks.equal("edit-hash", "an edited payload has another hash", True, edited != shown)
    checks.refused(
        "old-hash", "what was shown before the edit is not what is approved", "not what was shown",
        _approval(world, company, BEN, shown),
    )  # fmt: skip
    checks.refused(
        "proposer", "who proposed a change may not agree to it", "whoever proposed a change may not acknowledge it",
        _approval(world, company, ANA, edited),
    )  # fmt: skip
    status = world.action(company, _SCALE)["execution_status"]
    checks.equal("still-waits", "after every refusal it waits as before", "awaiting_ack", status)
    if status == "awaiting_ack":
        world.approve(company, _SCALE)
    world.dispatch()
    held = world.held(company, "campaigns", "budget_daily", "paid_search")
    checks.equal(
        "second-person", "what the second person agreed to is applied, and nothing else", "220", held
    )
    who = world.action(company, _SCALE)
    checks.equal(
        "on-record", "both people are on record", [str(ANA), str(BEN)],
        [str(who["proposed_by"]), str(who["acknowledged_by"])],
    )  # fmt: skip


def _ended(world: World, checks: Checks, company: Company) -> None:
    def reject(why: str) -> None:
        with world.engine.begin() as connection:
            id = world.action(company, "discount_ceiling")["id"]
            acknowledge.reject(connection, company.id, BEN, id, why, world.at)

    checks.refused("why", "a rejection needs its reason", "needs its reason", lambda: reject(" "))
    reject("not in this quarter")
    row = world.action(company, "discount_ceiling")
    checks.equal(
        "rejected", "a rejected action has ended, with its reason", ["rejected", "not in this quarter"],
        [row["execution_status"], row["reason"]],
    )  # fmt: skip
    world.at = MORNING + timedelta(hours=72)
    checks.refused(
        "too-late", "after 72 hours nobody can agree any more", "expired",
        _approval(world, company, BEN, world.action(company, "trial_length")["payload_hash"], "trial_length"),
    )  # fmt: skip


def _approval(world: World, company: Company, who: UUID, digest: str, action_id: str = _SCALE) -> Any:
    def approve() -> None:
        id = world.action(company, action_id)["id"]
        with world.engine.begin() as connection:
            acknowledge.approve(connection, company.id, who, id, digest, world.at)

    return approve


def _edit(world: World, company: Company, action_id: str, value: Any) -> None:
    id = world.action(company, action_id)["id"]
    with world.engine.begin() as connection:
        tenancy.service(connection, company.id)
        acknowledge.edit(connection, company.id, ANA, id, value, "smaller steps", world.at)
