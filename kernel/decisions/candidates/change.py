"""The shapes that drafts about settings share: a change for everybody, a test on some, a ticket for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pydantic import JsonValue

from kernel.decisions.contract import (
    AbortCondition,
    ActionType,
    Attributes,
    Direction,
    EconomicImpact,
    Entity,
    Experiment,
    Lever,
    ProposedChange,
    Setting,
    Subsystem,
)
from kernel.decisions.levers import TENANT, Draft, Situation

# A test must leave a control group that is at least as large.
MOST_TREATED_PCT = Decimal(50)
# The relative change of the success metric from which a test counts as won.
SUCCESS_PCT = Decimal(5)


@dataclass(frozen=True, slots=True)
class Idea:
    """What a setting is changed for."""

    family: str
    lens: Literal["cmo", "cro", "cfo", "blended"]
    lever: Lever | None
    target_metric: str
    direction: Direction
    hypothesis: str
    notes: str
    changes_price: bool = False
    reduces_margin: bool = False
    rivals: tuple[str, ...] = ()
    price_pct: Decimal = Decimal(0)
    economics: EconomicImpact | None = None


def for_all(
    situation: Situation,
    idea: Idea,
    setting: Setting,
    entity: Entity,
    new: JsonValue,
    abort: tuple[AbortCondition, ...] = (),
) -> Draft:
    """The setting changed for everybody."""
    attributes = _attributes(situation, idea, Decimal(100))
    return _draft(idea, setting, entity, new, "config_change", attributes, None, abort)


def for_some(
    situation: Situation,
    idea: Idea,
    setting: Setting,
    entity: Entity,
    new: JsonValue,
    abort: tuple[AbortCondition, ...] = (),
) -> Iterator[Draft]:
    """The setting changed for as many as an experiment may expose; nothing when none may be."""
    treated = min(situation.given.guardrails.max_experiment_exposure_pct, MOST_TREATED_PCT)
    if treated <= 0:
        return
    experiment = Experiment(
        hypothesis=idea.hypothesis,
        control_group_pct=100 - treated,
        treatment_group_pct=treated,
        min_sample_size=situation.given.config.min_sample_size,
        success_metric=idea.target_metric,
        success_threshold=SUCCESS_PCT,
    )
    attributes = _attributes(situation, idea, treated)
    yield _draft(idea, setting, entity, new, "experiment", attributes, experiment, abort)


def ticket(
    family: str,
    subsystem: Subsystem,
    kind: ActionType,
    metric_id: str,
    days: int,
    hypothesis: str,
    what: str,
    notes: str,
    direction: Direction = "stabilize",
) -> Draft:
    """Work for a person; nothing is changed by it."""
    return Draft(
        family=family,
        owner_subsystem=subsystem,
        type=kind,
        lens="blended",
        lever=None,
        entity=TENANT,
        target_metric=metric_id,
        direction=direction,
        hypothesis=hypothesis,
        change=ProposedChange(field="ticket", current_value=None, new_value=None, description=what),
        attributes=Attributes(window_days=days),
        notes=notes,
    )


def _attributes(situation: Situation, idea: Idea, exposure: Decimal) -> Attributes:
    return Attributes(
        exposure_pct=exposure,
        window_days=situation.window_days,
        changes_price=idea.changes_price,
        reduces_margin=idea.reduces_margin,
    )


def _word(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _draft(
    idea: Idea,
    setting: Setting,
    entity: Entity,
    new: JsonValue,
    kind: ActionType,
    attributes: Attributes,
    experiment: Experiment | None,
    abort: tuple[AbortCondition, ...],
) -> Draft:
    return Draft(
        family=idea.family,
        owner_subsystem=setting.subsystem,
        type=kind,
        lens=idea.lens,
        lever=idea.lever,
        entity=entity,
        target_metric=idea.target_metric,
        direction=idea.direction,
        hypothesis=idea.hypothesis,
        change=ProposedChange(
            field=setting.field,
            current_value=setting.value,
            new_value=new,
            description=f"Change {setting.field} from {_word(setting.value)} to {_word(new)}",
        ),
        attributes=attributes,
        notes=idea.notes,
        experiment=experiment,
        abort=abort,
        rivals=idea.rivals,
        price_pct=idea.price_pct,
        economics=idea.economics,
    )
