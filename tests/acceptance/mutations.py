"""Rules of the platform broken on purpose, one at a time, and the checks of the certification that must notice."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from kernel.actions import abort, budget, dispatch, emergency, lifecycle, observe, results, settlement
from kernel.decisions import acknowledgment, constraint, cycles, effects, gates, selection, summary
from kernel.decisions.contract import payload_hash
from models.statements import statements

Break = Callable[[pytest.MonkeyPatch, sa.Engine], None]


@dataclass(frozen=True)
class Mutation:
    """A rule broken on purpose, and the checks that must notice."""

    name: str
    scenario: str
    break_it: Break
    fails: tuple[str, ...]


def _gates_never_trigger(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(gates, "_holds", lambda rule, history: False)


def _an_equal_value_triggers(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    def breached(rule, value):
        return value >= rule.threshold if rule.breached_above else value <= rule.threshold

    patch.setattr(gates._Rule, "breached", breached)


def _gates_forget_yesterday(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    real = gates._holds
    patch.setattr(gates, "_holds", lambda rule, history: real(rule, history[-1:]))


def _gates_fail_open(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    real = gates._blocked_by
    patch.setattr(
        gates, "_blocked_by", lambda gate, does: real(gate, does) if gate.state == "triggered" else None
    )


def _old_metrics_count_as_new(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(gates, "is_stale", lambda reading, as_of, clock: False)


def _nothing_is_blocked(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(gates, "blocks", lambda action, readings, guardrails: None)


def _long_windows_are_allowed(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(gates, "CASH_MAX_WINDOW_DAYS", 60)


def _large_experiments_are_allowed(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(gates, "CASH_MAX_EXPOSURE_PCT", 100)


def _the_flag_is_ignored(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    real = gates.evaluate
    patch.setattr(gates, "evaluate", lambda *args, enabled, **named: real(*args, enabled=True, **named))


def _gates_do_not_bind(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    real = constraint.binding
    patch.setattr(constraint, "binding", lambda situation: real(dataclasses.replace(situation, gates=())))


def _outbound_is_scaled_too(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(selection, "_prefer_paid_or_outbound", lambda found, label: None)


def _nobody_is_asked(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(acknowledgment, "required", lambda action, given, clock: (False, ""))


def _thirty_days_are_none(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(acknowledgment, "FIRST_DAYS", timedelta(0))


def _approvals_never_expire(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(lifecycle, "GOOD_FOR", timedelta(days=1000))


def _without(engine: sa.Engine, condition: str) -> None:
    """Takes a condition out of the database's own function."""
    name = "spine.acknowledge_action(uuid, text, timestamptz)"
    with engine.begin() as connection:
        text = connection.execute(
            sa.text("select pg_get_functiondef(cast(:name as regprocedure))"), {"name": name}
        )
        source = text.scalar_one()
        assert condition in source
        connection.exec_driver_sql(source.replace(condition, "if false then").replace("%", "%%"))


def _proposers_approve(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    _without(engine, "if found_action.proposed_by = who then")


def _any_hash_is_approved(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    _without(engine, "if found_action.payload_hash is distinct from hash then")
    # The table itself would refuse it too.
    with engine.begin() as connection:
        name = "optimization_actions_approved_payload_check"
        connection.exec_driver_sql(f"alter table spine.optimization_actions drop constraint {name}")


def _payloads_may_change(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    first: dict[str, str] = {}
    patch.setattr(
        lifecycle, "payload_hash", lambda action: first.setdefault(action.action_id, payload_hash(action))
    )
    patch.setattr(dispatch, "payload_hash", lambda action: first[action.action_id])


def _drift_is_overwritten(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(dispatch, "_expect_unmoved", lambda executor, assignment, wanted, found: None)


def _caps_are_ignored(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(budget, "_expect_room", lambda *args: None)


def _nothing_is_reserved(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(budget, "reserve", lambda *args: None)


def _the_switch_is_ignored(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    named = statements("dispatch")
    claim = named["claim"].text.replace("tenants.revenue_os_enabled and", "")
    patch.setitem(named, "claim", sa.text(claim))
    patch.setitem(named, "tenant_enabled", sa.text("select true, cast(:id as uuid)"))


def _doubt_is_sent_again(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    real = dispatch.read_back

    def resent(worker, lease, assignment, executor, port, intent, error):
        if error is not None:
            executor.apply(port, intent)
        return real(worker, lease, assignment, executor, port, intent, error)

    patch.setattr(dispatch, "read_back", resent)


def _snapshots_are_left_out(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(
        dispatch, "Worker", functools.partial(settlement.Worker, capture=lambda *args, **named: None)
    )


def _abort_conditions_are_ignored(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(abort, "broken", lambda condition, days: None)


def _everything_improves(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(results, "verdict", lambda *args: results.Verdict("improved", 1.0))


def _provisional_days_count(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    real = observe.series

    def final(*args):
        return {
            name: [dataclasses.replace(day, is_final=True) for day in days]
            for name, days in real(*args).items()
        }

    patch.setattr(observe, "series", final)


def _harm_is_forgotten(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(effects, "hurts_economics", lambda *args: False)


def _executing_actions_are_forgotten(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(emergency, "_IN_FLIGHT", ())
    patch.setattr(emergency, "_STOPPED", ("awaiting_ack", "approved", "scheduled"))


def _standing_changes_are_not_offered(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(emergency, "_IN_FORCE", ())


def _the_emergency_switches_nothing_off(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    patch.setattr(emergency, "_switch", lambda *args: None)


def _separation_is_ignored(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    real = cycles._admitted
    close = timedelta(0)
    patch.setattr(
        cycles, "_admitted", lambda c, id, order: real(c, id, dataclasses.replace(order, separation=close))
    )


def _shadow_is_ignored(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    real = cycles._admitted
    patch.setattr(cycles, "_admitted", lambda *args: real(*args) and "enforce")


def _one_table_is_open(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create policy open on spine.optimization_actions for select to revenue_member using (true)"
        )


def _the_pipeline_is_not_pinned(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create policy wide on spine.optimization_actions to revenue_service using (true) with check (true)"
        )


def _decisions_vary(patch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    real = summary.note
    patch.setattr(summary, "note", lambda *args: f"{real(*args)} {uuid4()}")


_INSIDE = ("inside-once", "inside-twice", "inside-not-enough")
MUTATIONS = (
    Mutation("gates never trigger", "failing", _gates_never_trigger, ("gates", "fired", "dropped", "actions")),
    Mutation("an equal value triggers", "boundaries", _an_equal_value_triggers, ("payback-15", "margin-50", "runway-6")),
    Mutation("a gate does not bind", "boundaries", _gates_do_not_bind, ("margin-49-99", "runway-5-99")),
    Mutation("gates forget yesterday", "boundaries", _gates_forget_yesterday, _INSIDE),
    Mutation("gates forget yesterday, in the loop", "degraded", _gates_forget_yesterday, ("hysteresis",)),
    Mutation("unknown gates let spend grow", "boundaries", _gates_fail_open, ("runway-missing",)),
    Mutation("unknown gates let spend grow when applying", "applying", _gates_fail_open, ("blinded",)),
    Mutation("old metrics count as new", "readings", _old_metrics_count_as_new, ("stopped",)),
    Mutation("nothing is blocked when deciding", "failing", _nothing_is_blocked, ("actions", "dropped", "small")),
    Mutation("nothing is blocked when deciding, payback", "degraded", _nothing_is_blocked, ("dropped", "grows")),
    Mutation("nothing is blocked when applying", "applying", _nothing_is_blocked, ("toggled", "blinded")),
    Mutation("long windows under the cash gate", "failing", _long_windows_are_allowed, ("short", "actions")),
    Mutation("large experiments under the cash gate", "failing", _large_experiments_are_allowed, ("small",)),
    Mutation("the flag is ignored", "boundaries", _the_flag_is_ignored, ("gates-off",)),
    Mutation("outbound is scaled beside paid", "healthy", _outbound_is_scaled_too, ("dropped", "actions")),
    Mutation("nobody is asked", "healthy", _nobody_is_asked, ("actions", "waits")),
    Mutation("the first thirty days are none", "people", _thirty_days_are_none, ("first-thirty-days",)),
    Mutation("approvals never expire", "people", _approvals_never_expire, ("too-late",)),
    Mutation("approvals never expire, applying", "applying", _approvals_never_expire, ("late",)),
    Mutation("proposers approve", "people", _proposers_approve, ("proposer", "still-waits", "on-record")),
    Mutation("any hash is approved", "people", _any_hash_is_approved, ("other-hash",)),
    Mutation("payloads may change", "applying", _payloads_may_change, ("tampered",)),
    Mutation("drift is overwritten", "applying", _drift_is_overwritten, ("moved",)),
    Mutation("caps are ignored", "applying", _caps_are_ignored, ("capped",)),
    Mutation("nothing is reserved", "healthy", _nothing_is_reserved, ("reserved",)),
    Mutation("the switch is ignored", "applying", _the_switch_is_ignored, ("off",)),
    Mutation("what is in doubt is sent again", "applying", _doubt_is_sent_again, ("killed",)),
    Mutation("snapshots are left out", "healthy", _snapshots_are_left_out, ("snapshot",)),
    Mutation("abort conditions are ignored", "applying", _abort_conditions_are_ignored, ("breached",)),
    Mutation("everything improves", "healthy", _everything_improves, ("outcomes",)),
    Mutation("everything improves, learning", "learning", _everything_improves, ("harmed.verdict", "harmed.again")),
    Mutation("provisional days count", "healthy", _provisional_days_count, ("patience",)),
    Mutation("harm is forgotten", "learning", _harm_is_forgotten, ("harmed.dropped", "harmed.again")),
    Mutation("executing actions are forgotten", "stopping", _executing_actions_are_forgotten, ("aborts", "in-flight")),
    Mutation("standing changes are not offered", "stopping", _standing_changes_are_not_offered, ("offers",)),
    Mutation("the emergency switches nothing off", "stopping", _the_emergency_switches_nothing_off, ("no-cycle",)),
    Mutation("separation is ignored", "tenants", _separation_is_ignored, ("separation",)),
    Mutation("shadow is ignored", "tenants", _shadow_is_ignored, ("shadow", "shadow-approval")),
    Mutation("one table is open", "tenants", _one_table_is_open, ("foreign", "unpinned")),
    Mutation("the pipeline is not pinned", "tenants", _the_pipeline_is_not_pinned, ("foreign-write",)),
    Mutation("decisions vary", "replay", _decisions_vary, ("a.twice", "b.stored", "c.order")),
)  # fmt: skip
