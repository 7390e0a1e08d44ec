"""Which drafts become actions: fitted to the gates, allowed, scored, put in order, one for each thing they touch.

What a draft is worth is computed in scoring; how an action is told is in summary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from kernel.decisions import effects, gates, scoring
from kernel.decisions.acknowledgment import TICKETS
from kernel.decisions.contract import MAX_ACTIONS, CandidateTrace
from kernel.decisions.effects import Effect
from kernel.decisions.levers import CENT, Draft, Situation
from kernel.decisions.scoring import PaidLabel

# As few actions as a person can look through; alerts fill up to here and no further.
FEWEST = 3
_PROTECTIVE = ("cac_blended", "cac_paid", "payback_months", "gross_margin_pct", "contribution_margin_pct")
_NO_EFFECT = Effect(Decimal(0), Decimal(0), 0)


@dataclass(slots=True)
class Candidate:
    """`dropped` says in one sentence why it is no action; None while it may be one."""

    draft: Draft
    effect: Effect
    terms: dict[str, Decimal]
    dropped: str | None
    partners: tuple[Draft, ...] = ()

    @property
    def score(self) -> Decimal:
        return scoring.score(self.terms).quantize(CENT)

    def trace(self) -> CandidateTrace:
        return CandidateTrace(
            family=self.draft.family,
            entity=self.draft.entity,
            owner_subsystem=self.draft.owner_subsystem,
            type=self.draft.type,
            target_metric=self.draft.target_metric,
            terms=self.terms,
            cfo_score=self.score,
            dropped=self.dropped,
        )


def judge(drafts: Sequence[Draft], situation: Situation, label: PaidLabel) -> list[Candidate]:
    """Every draft as a candidate, in the order of priority, with the reason why it was dropped."""
    found = [_candidate(_fitted(draft, situation), situation) for draft in drafts]
    _prefer_paid_or_outbound(found, label)
    groups = _groups(found)
    groups.sort(key=lambda group: _order(group, situation))
    _choose(groups, situation)
    return [candidate for group in groups for candidate in group]


def confidence(effect: Effect) -> Decimal:
    """Between 0 and 1: how far the expected effect stands out of its error; a half when both are equal."""
    size = abs(effect.mean_pct)
    whole = size + effect.stderr_pct
    return (size / whole).quantize(CENT) if whole else Decimal("0.00")


def _fitted(draft: Draft, situation: Situation) -> Draft:
    """Under the cash gate a shorter window and, for an experiment, a smaller group."""
    if "cash_constrained" not in gates.triggered(situation.gates):
        return draft
    does, test = draft.attributes, draft.experiment
    changed = {"window_days": min(does.window_days, gates.CASH_MAX_WINDOW_DAYS)}
    if test is not None:
        treated = min(test.treatment_group_pct, gates.CASH_MAX_EXPOSURE_PCT)
        test = test.model_copy(update={"treatment_group_pct": treated, "control_group_pct": 100 - treated})
        changed["exposure_pct"] = min(does.exposure_pct, treated)  # type: ignore[assignment]
    return dataclasses.replace(draft, attributes=does.model_copy(update=changed), experiment=test)


def _candidate(draft: Draft, situation: Situation) -> Candidate:
    given, clock = situation.given, situation.facts.clock
    dropped = gates.blocks(draft, situation.gates, given.guardrails)
    dropped = dropped or _blocked_by_data(draft, situation) or _blocked_by_live(draft, situation)
    if draft.type in TICKETS:
        return Candidate(draft, _NO_EFFECT, {}, dropped)
    results = given.recent_action_results
    effect = effects.posterior(
        draft.family, results, situation.weights, clock, lever=draft.lever, scale=draft.effect_scale
    )
    candidate = Candidate(draft, effect, scoring.terms(draft, effect, situation), dropped)
    if dropped is None and effects.hurts_economics(draft.family, results, situation.weights, clock):
        candidate.dropped = f"{draft.family} has hurt the economics of this tenant"
    elif dropped is None and not draft.group and candidate.score <= 0:
        candidate.dropped = "it is expected to cost at least as much as it brings"
    return candidate


def _blocked_by_data(draft: Draft, situation: Situation) -> str | None:
    grows = draft.attributes.increases_spend or draft.attributes.scales_channel
    if grows:
        for issue in situation.issues:
            if issue.is_required:
                return f"nothing is scaled while {issue.what}"
    return None


def _blocked_by_live(draft: Draft, situation: Situation) -> str | None:
    kind, name = draft.entity.type, draft.entity.id
    for live in situation.given.live_actions:
        if (live.entity_type or "tenant", live.entity_id) != (kind, name):
            continue
        if live.execution_status == "rejected":
            if live.family == draft.family:
                return f"a person rejected it lately: {live.why}"
            continue
        if live.family in (draft.family, *draft.rivals):
            return f"{live.family} is already {live.execution_status} there"
        if kind == "channel":
            return f"{live.family} is still {live.execution_status} on that channel"
    return None


def _prefer_paid_or_outbound(found: Sequence[Candidate], label: PaidLabel) -> None:
    """Where one side wins customers far cheaper, the other is not given more as long as the first can be."""
    if label not in ("paid_outperforming", "outbound_outperforming"):
        return
    better = label == "paid_outperforming"
    growing = [c for c in found if c.draft.attributes.increases_spend and c.dropped is None]
    if any(c.draft.is_paid is better for c in growing):
        for candidate in growing:
            if candidate.draft.is_paid is not better:
                first = "paid" if better else "outbound"
                candidate.dropped = f"{first} channels win customers far cheaper and come first"


def _groups(found: Sequence[Candidate]) -> list[list[Candidate]]:
    by_name: dict[str, list[Candidate]] = {}
    for candidate in found:
        by_name.setdefault(candidate.draft.group or f"alone {candidate.draft.id}", []).append(candidate)
    for group in by_name.values():
        drafts = [candidate.draft for candidate in group]
        for candidate in group:
            candidate.partners = tuple(draft for draft in drafts if draft is not candidate.draft)
    return list(by_name.values())


def _order(group: Sequence[Candidate], situation: Situation) -> tuple[int, int, Decimal, str]:
    """Tier, then under a gate what protects, then the score; what is left is the id, so no order is left to chance."""
    first = group[0].draft
    tier = 1
    if first.type == "data_correction":
        tier = 0 if situation.constraint == "data_quality" else 2
    elif first.type in TICKETS:
        tier = 4 if first.type == "alert" else 3
    protects = any(candidate.draft.target_metric in _PROTECTIVE for candidate in group)
    late = int(bool(gates.triggered(situation.gates)) and not protects)
    return tier, late, -sum((candidate.score for candidate in group), Decimal(0)), first.id


def _choose(groups: Sequence[list[Candidate]], situation: Situation) -> None:
    touched: set[tuple[str, ...]] = set()
    families: set[tuple[str, str, str]] = set()
    chosen, room = 0, situation.headroom
    for group in groups:
        reason = next((candidate.dropped for candidate in group if candidate.dropped), None)
        added = sum((c.draft.attributes.daily_spend_change for c in group), Decimal(0))
        if reason is None and len(group) > 1 and sum((c.score for c in group), Decimal(0)) <= 0:
            reason = "together they are expected to cost at least as much as they bring"
        if reason is None and any(c.draft.touches in touched or _key(c.draft) in families for c in group):
            reason = "a better action of this cycle changes the same thing"
        if reason is None and added > 0 and added > room:
            reason = "the spending caps leave no room for it"
        if reason is None and group[0].draft.type == "alert" and chosen >= FEWEST:
            reason = "enough can be done, so nobody is only asked to look"
        if reason is None and chosen + len(group) > MAX_ACTIONS:
            reason = f"{MAX_ACTIONS} better actions fill the cycle"
        if reason is not None:
            for candidate in group:
                candidate.dropped = candidate.dropped or (
                    reason if len(group) == 1 else f"what it stands with may not be: {reason}"
                )
            continue
        chosen += len(group)
        touched |= {candidate.draft.touches for candidate in group}
        families |= {_key(candidate.draft) for candidate in group}
        room -= max(added, Decimal(0))


def _key(draft: Draft) -> tuple[str, str, str]:
    return draft.family, draft.entity.type, draft.entity.id
