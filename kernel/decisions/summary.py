"""How a cycle is told: diagnosis, why there are few actions, notes for people, what to watch afterwards.

Sentences only; every number in them was decided elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from kernel.decisions import dictionary, gates
from kernel.decisions.constraint import KNOWN, REQUIRED, Binding
from kernel.decisions.contract import (
    ECONOMIC_METRICS,
    Action,
    CycleSummary,
    DataQualityAction,
    ExpectedOutcome,
    LearningPlan,
)
from kernel.decisions.effects import Effect
from kernel.decisions.levers import CENT, Draft, Situation
from kernel.decisions.scoring import PaidLabel
from kernel.decisions.selection import FEWEST, Candidate
from kernel.decisions.trends import trend

SUPPORTING = 3
MOST_DATA_QUALITY = 3


def cycle(
    situation: Situation,
    bound: Binding,
    label: PaidLabel,
    judged: Sequence[Candidate],
    actions: Sequence[Action],
) -> CycleSummary:
    facts = situation.facts
    fresh = [facts.fresh(metric_id) for metric_id in REQUIRED]
    known = sum(reading is not None and reading.value_status in KNOWN for reading in fresh)
    gaps = sorted(bound.gaps, key=lambda gap: (-gap.money, gap.metric_id))
    supporting = [gap.metric_id for gap in gaps if gap.ratio > 0 and gap.metric_id != bound.priority_metric]
    return CycleSummary(
        binding_constraint=bound.constraint,
        priority_metric=bound.priority_metric,
        diagnosis=_diagnosis(situation, bound),
        confidence=(Decimal(known) / len(REQUIRED) * bound.share).quantize(CENT),
        cfo_gates_triggered=gates.triggered(situation.gates),
        supporting_metrics=tuple(supporting[:SUPPORTING]),
        gates=situation.gates,
        paid_label=label,
        why_fewer_actions=_why_fewer(judged) if len(actions) < FEWEST else None,
    )


def _diagnosis(situation: Situation, bound: Binding) -> str:
    metric_id, facts = bound.priority_metric, situation.facts
    if situation.gates and gates.triggered(situation.gates):
        first = " and ".join(gate.why for gate in situation.gates if gate.state == "triggered")
        told = f"Economics comes first: {first}."
    elif bound.constraint == "data_quality":
        told = f"Data comes first: {next(i.what for i in situation.issues if i.is_required)}."
    else:
        gap = next((gap for gap in bound.gaps if gap.metric_id == metric_id and gap.money > 0), None)
        moving = trend(metric_id, facts.totals.get(metric_id, ()), facts.as_of).direction
        going = "" if moving == "unknown" else f", {moving}"
        if gap is None:
            told = "Everything known is on target, so growth comes first."
        else:
            worth = round(gap.money * 30)
            told = f"{bound.constraint.capitalize()} comes first: {metric_id} is off target{going}, worth {worth:,} a month."
    if not situation.given.config.cfo_expansion_enabled:
        return f"{told} CFO gates are switched off, so none was evaluated."
    unknown = [gate.why for gate in situation.gates if gate.state == "unknown"]
    return f"{told} Nothing is scaled because {' and '.join(unknown)}." if unknown else told


def _why_fewer(judged: Sequence[Candidate]) -> str:
    dropped = Counter(candidate.dropped for candidate in judged if candidate.dropped)
    if not dropped:
        return "Nothing else could be proposed from the settings, channels and metrics that are known."
    told = [f"{reason} ({count})" for reason, count in sorted(dropped.items(), key=lambda x: (-x[1], x[0]))]
    return f"{sum(dropped.values())} candidates were dropped: {'; '.join(told)}."


def note(draft: Draft, effect: Effect, situation: Situation, ask: str) -> str:
    """The draft's own sentences, what the expectation rests on, and what the reader must know before agreeing."""
    told = [draft.notes]
    if effect.n:
        results = "1 earlier result" if effect.n == 1 else f"{effect.n} earlier results"
        told.append(f"Expected {round(effect.mean_pct, 1)} %, going by {results} of its kind.")
    if "margin_below_floor" in gates.triggered(situation.gates):
        told.append("margin_constrained: the gross margin is below its floor.")
    if ask:
        told.append(f"A person must agree: {ask}.")
    return " ".join(told)


def data_quality(situation: Situation) -> tuple[DataQualityAction, ...]:
    return tuple(
        DataQualityAction(
            action_id=f"restore_{issue.metric_id}",
            priority=issue.priority,
            issue_type=issue.kind,
            affected_metric=issue.metric_id,
            description=issue.what,
            recommended_fix=issue.fix,
        )
        for issue in situation.issues[:MOST_DATA_QUALITY]
    )


def learning(situation: Situation, actions: Sequence[Action]) -> LearningPlan:
    watched = dict.fromkeys([situation.priority_metric, *(action.target_metric for action in actions)])
    outcomes = [action.expected_impact for action in actions if action.expected_impact.magnitude_pct]
    tests = any(action.type == "experiment" for action in actions)
    windows = [action.expected_observation_window_days for action in actions]
    return LearningPlan(
        metrics_to_monitor=tuple(name for name in watched if name in dictionary.METRICS),
        economic_metrics_to_monitor=ECONOMIC_METRICS,
        observation_window_days=max(windows, default=situation.window_days),
        expected_outcomes=tuple(
            ExpectedOutcome(metric_id=o.metric_id, direction=o.direction, magnitude_pct=o.magnitude_pct)
            for o in outcomes
        ),
        next_cycle_trigger="min_sample_reached" if tests else "7d_elapsed",
        fallback_play="manual_review",
    )
