"""One cycle of one tenant: from what is known to at most seven actions, each candidate with its reasons.

Pure: the same input gives the same bytes. Reading the input and storing the output stand elsewhere.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from uuid import UUID

from kernel.decisions import acknowledgment, candidates, constraint, gates, selection, summary
from kernel.decisions.contract import (
    MAX_ACTIONS,
    Action,
    ActionGuardrails,
    EconomicImpact,
    ExpectedImpact,
    KernelError,
    KernelInput,
    KernelOutput,
)
from kernel.decisions.inputs import checked, most_extreme
from kernel.decisions.levers import CENT, Situation
from kernel.decisions.scoring import Weights, paid_label
from kernel.decisions.selection import Candidate

_ARITHMETIC = Context(prec=28, rounding=ROUND_HALF_EVEN)


def decide(given: KernelInput, clock: datetime, *, cycle_id: UUID, weights: Weights) -> KernelOutput:
    """Decides a cycle as of the end of the analysis window. Raises KernelError for input that cannot be decided on."""
    try:
        with localcontext(_ARITHMETIC):
            return _decided(given, clock, cycle_id, weights)
    except (ArithmeticError, ValueError) as error:
        # To Python a text of thousands of digits is a ValueError.
        field = most_extreme(given)
        if field is None and not isinstance(error, ArithmeticError):
            raise
        told = f"{field} is a number of absurd size" if field else "no arithmetic is possible with the input"
        details = {"field": field} if field else None
        raise KernelError("INVALID_INPUT", f"{told}: correct it", details) from error


def _decided(given: KernelInput, clock: datetime, cycle_id: UUID, weights: Weights) -> KernelOutput:
    facts = checked(given, clock)
    readings = [reading for metric_id in gates.METRICS for reading in facts.totals.get(metric_id, ())]
    states = gates.evaluate(
        readings,
        given.cfo_guardrails,
        enabled=given.config.cfo_expansion_enabled,
        as_of=facts.as_of,
        clock=clock,
    )
    situation = Situation(given, facts, states, constraint.issues(facts), weights)
    bound = constraint.binding(situation)
    situation = dataclasses.replace(
        situation, constraint=bound.constraint, priority_metric=bound.priority_metric
    )
    label = paid_label(facts)
    judged = selection.judge(candidates.drafts(situation), situation, label)
    chosen = [candidate for candidate in judged if candidate.dropped is None][:MAX_ACTIONS]
    actions = tuple(_action(candidate, rank, situation) for rank, candidate in enumerate(chosen, start=1))
    return KernelOutput(
        tenant_id=given.tenant_id,
        cycle_id=cycle_id,
        executed_at=clock,
        cycle_summary=summary.cycle(situation, bound, label, judged, actions),
        actions=actions,
        data_quality_actions=summary.data_quality(situation),
        learning_plan=summary.learning(situation, actions),
        trace=tuple(candidate.trace() for candidate in judged),
    )


def _action(candidate: Candidate, rank: int, situation: Situation) -> Action:
    draft, effect = candidate.draft, candidate.effect
    does = draft.attributes
    ask, why = acknowledgment.required(draft, situation.given, situation.facts.clock)
    is_ticket = draft.type in acknowledgment.TICKETS
    partners = [
        other for other in candidate.partners if other.attributes.daily_spend_change < does.daily_spend_change
    ]
    return Action(
        action_id=draft.id,
        priority_rank=rank,
        owner_subsystem=draft.owner_subsystem,
        type=draft.type,
        lens_emphasis=draft.lens,
        target_metric=draft.target_metric,
        target_direction=draft.direction,
        target_entity=draft.entity,
        hypothesis=draft.hypothesis,
        proposed_change=draft.change,
        cfo_score=candidate.score,
        guardrails=ActionGuardrails(
            max_additional_spend=max(does.daily_spend_change, Decimal(0)) * does.window_days,
            max_exposure_percent=does.exposure_pct,
            min_sample_size=None if is_ticket else situation.given.config.min_sample_size,
            abort_conditions=draft.abort,
        ),
        experiment=draft.experiment,
        expected_observation_window_days=does.window_days,
        expected_impact=ExpectedImpact(
            metric_id=draft.target_metric,
            direction=draft.direction,
            magnitude_pct=Decimal(0) if is_ticket else effect.mean_pct.quantize(CENT),
            confidence=Decimal(0) if is_ticket else selection.confidence(effect),
        ),
        expected_economic_impact=draft.economics or EconomicImpact(),
        dependencies=tuple(partner.id for partner in partners),
        notes_for_humans=summary.note(draft, effect, situation, why if ask else ""),
        family=draft.family,
        lever=draft.lever,
        attributes=does,
        requires_acknowledgment=ask,
        acknowledgment_why=why,
    )
