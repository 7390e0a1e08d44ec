"""What goes into a kernel cycle and what comes out: contract revenue_os_v1.1, with every rule that data can break.

The frozen field names are those of the contract; fields the contract lacks are marked as additions. Nothing here
decides anything.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

VERSION = "revenue_os_v1.1"
MANDATORY_METRICS = ("pipeline_total", "bookings_new", "cac_blended")
ECONOMIC_METRICS = ("gross_margin_pct", "payback_months", "cac_blended", "revenue_per_fte")
MAX_ACTIONS = 7
MAX_TRIGGER_AGE = timedelta(hours=24)

Gate = Literal["payback_exceeded", "margin_below_floor", "cash_constrained"]
GateState = Literal["clear", "triggered", "unknown"]
Constraint = Literal["demand", "conversion", "economics", "data_quality"]
Subsystem = Literal["campaigns", "crm", "pricing", "routing", "content", "lifecycle", "data"]
ActionType = Literal[
    "config_change", "experiment", "pause", "scale", "revert", "data_correction", "alert", "forecast_update"
]
Direction = Literal["increase", "decrease", "stabilize"]
Lever = Literal["campaigns", "channels", "sequences", "pricing"]
ValueStatus = Literal["ok", "undefined", "insufficient_sample", "infinite", "not_applicable", "stale_source"]


class _Record(BaseModel):
    """Unknown fields are refused, values never change, NaN and infinity are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# Input -----------------------------------------------------------------------------------------------------------


class Trigger(_Record):
    type: Literal["scheduled", "metric_deviation", "lifecycle_event", "manual"]
    source: str = Field(min_length=1)
    triggered_at: datetime


class AnalysisWindow(_Record):
    start_date: date
    end_date: date

    @model_validator(mode="after")
    def _in_order(self) -> AnalysisWindow:
        if self.end_date < self.start_date:
            raise ValueError("end_date lies before start_date")
        return self


class Targets(_Record):
    pipeline_total: Decimal | None = Field(None, ge=0)
    bookings_new: Decimal | None = Field(None, ge=0)
    arr_target: Decimal | None = Field(None, ge=0)
    cac_max: Decimal | None = Field(None, ge=0)
    payback_max_months: Decimal | None = Field(None, gt=0)
    gross_margin_min: Decimal | None = Field(None, ge=0, le=100)

    @model_validator(mode="after")
    def _any(self) -> Targets:
        if all(value is None for value in self.__dict__.values()):
            raise ValueError("at least one target is needed")
        return self


class Guardrails(_Record):
    max_daily_spend: Decimal | None = Field(None, ge=0)
    max_experiment_exposure_pct: Decimal = Field(Decimal(20), ge=0, le=100)
    allowed_levers: tuple[Lever, ...] = Field(min_length=1)
    blocked_actions: tuple[ActionType, ...] = ()
    monthly_budget_cap: Decimal | None = Field(None, ge=0)  # addition


class CfoGuardrails(_Record):
    payback_target_months: Decimal = Field(gt=0)
    payback_tolerance_months: Decimal = Field(ge=0)
    margin_floor_pct: Decimal = Field(ge=0, le=100)
    max_cac_by_segment: dict[str, Decimal] = Field(default_factory=dict)
    cash_risk_tolerance: Literal["low", "medium", "high"] = "medium"
    runway_threshold_months: Decimal = Field(Decimal(6), ge=0)


class Reading(_Record):
    """One metric of one day. `value` is None unless `value_status` is ok. Everything after `dimension` is an addition."""

    metric_id: str
    value: Decimal | None
    date: date
    dimension: dict[str, str] | None = None
    value_status: ValueStatus = "ok"
    unit: str | None = None  # when given, must be the dictionary's
    is_final: bool = False
    snapshot_id: str | None = None

    @model_validator(mode="after")
    def _value_or_why_not(self) -> Reading:
        if (self.value is None) == (self.value_status == "ok"):
            raise ValueError("a value is given exactly when value_status is ok")
        return self


class RevenueEvent(_Record):
    id: UUID
    type: str
    amount: Decimal = Field(ge=0)
    effective_date: date
    attributed_campaign_id: UUID | None = None
    attributed_channel: str | None = None


class Campaign(_Record):
    id: UUID
    name: str
    status: str
    objective: str | None = None
    budget_total: Decimal = Field(Decimal(0), ge=0)
    budget_spent: Decimal = Field(Decimal(0), ge=0)
    start_date: date | None = None
    end_date: date | None = None


class Channel(_Record):
    """Addition: a lever of a campaign, with what it spent and earned over the analysis window."""

    id: UUID
    campaign_id: UUID
    channel: str
    status: str
    is_paid: bool
    daily_budget: Decimal = Field(ge=0)
    spend: Decimal = Field(Decimal(0), ge=0)
    leads: int = Field(0, ge=0)
    new_customers: Decimal = Field(Decimal(0), ge=0)
    pipeline: Decimal = Field(Decimal(0), ge=0)


class Opportunity(_Record):
    id: UUID
    stage: str
    amount: Decimal | None = Field(None, ge=0)
    expected_close_date: date | None = None
    win_probability: Decimal = Field(Decimal(0), ge=0, le=1)


class Setting(_Record):
    """Addition: a value that an executor could change."""

    subsystem: Subsystem
    entity_type: str = "tenant"
    entity_id: str = ""
    field: str
    value: JsonValue


class ActionResult(_Record):
    action_id: str
    target_metric: str
    baseline_value: Decimal | None
    observed_value: Decimal | None
    delta: Decimal | None
    confidence: Decimal = Field(ge=0, le=1)
    outcome: Literal["improved", "hurt", "neutral", "inconclusive", "not_measurable"]
    economic_deltas: dict[str, Decimal | None] = Field(default_factory=dict)
    # Additions, from which the kernel learns.
    family: str
    closed_at: datetime
    effect_pct: Decimal | None = None  # in the intended direction, of the baseline
    effect_stderr_pct: Decimal | None = Field(None, ge=0)
    economics: Literal["improved", "hurt", "neutral", "inconclusive"] = "inconclusive"
    # Below 1 when other actions share the credit, of the target metric and of the economics.
    weight: Decimal = Field(Decimal(1), ge=0, le=1)
    economics_weight: Decimal = Field(Decimal(1), ge=0, le=1)


class LiveAction(_Record):
    """Addition: an action that is not finished, or that a person rejected lately for the reason in `why`; the kernel
    does not propose its like."""

    family: str
    entity_type: str
    entity_id: str
    execution_status: str
    daily_spend_change: Decimal = Decimal(0)
    why: str = ""


class KernelConfig(_Record):
    min_sample_size: int = Field(30, ge=1)
    default_observation_window_days: int = Field(14, ge=1, le=90)
    risk_tolerance: Literal["low", "medium", "high"] = "medium"
    # Additions.
    cfo_expansion_enabled: bool = True
    activated_at: datetime | None = None
    config_version_id: UUID | None = None
    weights_version: int = 1
    cycle_depth: Literal["daily", "weekly"] = "daily"
    spend_committed_month: Decimal = Decimal(0)  # what actions add to this calendar month
    spend_committed_daily: Decimal = Decimal(0)  # what actions add a day from now on, of whatever month


class KernelInput(_Record):
    tenant_id: UUID
    trigger: Trigger
    analysis_window: AnalysisWindow
    targets: Targets
    guardrails: Guardrails
    cfo_guardrails: CfoGuardrails
    metrics: tuple[Reading, ...]
    revenue_events: tuple[RevenueEvent, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    opportunities: tuple[Opportunity, ...] = ()
    recent_action_results: tuple[ActionResult, ...] = ()
    config: KernelConfig = KernelConfig()
    # Additions.
    channels: tuple[Channel, ...] = ()
    settings: tuple[Setting, ...] = ()
    live_actions: tuple[LiveAction, ...] = ()


# Output ----------------------------------------------------------------------------------------------------------


class GateReading(_Record):
    """Addition: one gate with its margin. `margin` is how far the value is on the safe side of the threshold."""

    gate: Gate
    state: GateState
    value: Decimal | None
    threshold: Decimal
    margin: Decimal | None
    metric_id: str
    metric_date: date | None
    snapshot_id: str | None
    why: str


class CycleSummary(_Record):
    binding_constraint: Constraint
    priority_metric: str
    diagnosis: str = Field(min_length=1)
    confidence: Decimal = Field(ge=0, le=1)
    cfo_gates_triggered: tuple[Gate, ...]
    supporting_metrics: tuple[str, ...] = Field((), max_length=3)
    # Additions.
    gates: tuple[GateReading, ...]
    paid_label: Literal["paid_outperforming", "outbound_outperforming", "insufficient_paid_data", "none"]
    why_fewer_actions: str | None = None  # required when there are fewer than three actions


class Entity(_Record):
    type: Literal["campaign", "channel", "segment", "sequence", "tenant"]
    id: str


class ProposedChange(_Record):
    field: str
    current_value: JsonValue
    new_value: JsonValue
    description: str = ""

    @field_validator("current_value", "new_value")
    @classmethod
    def _as_stored(cls, value: JsonValue) -> JsonValue:
        return _stored(value)


class AbortCondition(_Record):
    metric_id: str
    operator: Literal["gt", "gte", "lt", "lte"]
    threshold: Decimal
    consecutive_days: int = Field(ge=1, le=30)


class ActionGuardrails(_Record):
    max_additional_spend: Decimal | None = Field(None, ge=0)
    max_exposure_percent: Decimal | None = Field(None, ge=0, le=100)
    min_sample_size: int | None = Field(None, ge=1)
    abort_conditions: tuple[AbortCondition, ...] = ()


class Experiment(_Record):
    hypothesis: str
    control_group_pct: Decimal = Field(gt=0, lt=100)
    treatment_group_pct: Decimal = Field(gt=0, lt=100)
    min_sample_size: int = Field(ge=1)
    success_metric: str
    success_threshold: Decimal

    @model_validator(mode="after")
    def _whole(self) -> Experiment:
        if self.control_group_pct + self.treatment_group_pct != 100:
            raise ValueError("control_group_pct and treatment_group_pct must add up to 100")
        return self


class ExpectedImpact(_Record):
    metric_id: str
    direction: Direction
    magnitude_pct: Decimal
    confidence: Decimal = Field(ge=0, le=1)


class EconomicImpact(_Record):
    delta_cac: Decimal | None = None
    delta_payback_months: Decimal | None = None
    delta_margin_pct: Decimal | None = None


class Attributes(_Record):
    """Addition: what gates look at, never the name of an action."""

    increases_spend: bool = False
    scales_channel: bool = False
    reduces_margin: bool = False
    exposure_pct: Decimal = Field(Decimal(0), ge=0, le=100)
    window_days: int = Field(ge=0)
    reversible: bool = True
    reallocates_budget: bool = False
    changes_price: bool = False
    daily_spend_change: Decimal = Decimal(0)


class Action(_Record):
    action_id: str = Field(min_length=1)
    priority_rank: int = Field(ge=1, le=MAX_ACTIONS)
    owner_subsystem: Subsystem
    type: ActionType
    lens_emphasis: Literal["cmo", "cro", "cfo", "blended"]
    target_metric: str
    target_direction: Direction
    target_entity: Entity | None = None
    hypothesis: str = Field(min_length=1)
    proposed_change: ProposedChange
    cfo_score: Decimal
    guardrails: ActionGuardrails
    experiment: Experiment | None = None
    expected_observation_window_days: int = Field(ge=1, le=90)
    expected_impact: ExpectedImpact
    expected_economic_impact: EconomicImpact = EconomicImpact()
    dependencies: tuple[str, ...] = ()
    notes_for_humans: str = Field(min_length=1)
    # Additions.
    family: str = Field(min_length=1)
    lever: Lever | None = None
    attributes: Attributes
    requires_acknowledgment: bool
    acknowledgment_why: str = ""

    @model_validator(mode="after")
    def _experiment_iff_type(self) -> Action:
        if (self.experiment is not None) != (self.type == "experiment"):
            raise ValueError("experiment is given exactly when type is experiment")
        return self


class DataQualityAction(_Record):
    action_id: str
    priority: int = Field(ge=1, le=3)
    issue_type: Literal["missing_data", "stale_data", "invalid_data", "missing_attribution", "inconsistent"]
    affected_metric: str
    description: str
    recommended_fix: str


class ExpectedOutcome(_Record):
    metric_id: str
    direction: Direction
    magnitude_pct: Decimal | None = None


class LearningPlan(_Record):
    metrics_to_monitor: tuple[str, ...]
    economic_metrics_to_monitor: tuple[str, ...] = Field(min_length=1)
    observation_window_days: int = Field(ge=1)
    expected_outcomes: tuple[ExpectedOutcome, ...] = ()
    next_cycle_trigger: str
    fallback_play: str


class CandidateTrace(_Record):
    """Addition: one candidate, its score terms in money, and why it was dropped (None: it is an action)."""

    family: str
    entity: Entity | None
    owner_subsystem: Subsystem
    type: ActionType
    target_metric: str
    terms: dict[str, Decimal]
    cfo_score: Decimal | None
    dropped: str | None


class KernelOutput(_Record):
    tenant_id: UUID
    cycle_id: UUID
    executed_at: datetime
    version: Literal["revenue_os_v1.1"] = VERSION
    cycle_summary: CycleSummary
    actions: tuple[Action, ...] = Field(max_length=MAX_ACTIONS)
    data_quality_actions: tuple[DataQualityAction, ...] = ()
    learning_plan: LearningPlan
    trace: tuple[CandidateTrace, ...]  # addition

    @model_validator(mode="after")
    def _distinct_ids(self) -> KernelOutput:
        ids = [action.action_id for action in self.actions]
        if len(set(ids)) < len(ids):
            raise ValueError("action ids must be unique within a cycle")
        if len(self.actions) < 3 and not self.cycle_summary.why_fewer_actions:
            raise ValueError("fewer than three actions need why_fewer_actions")
        return self


ErrorCode = Literal[
    "INVALID_INPUT", "TENANT_NOT_FOUND", "INSUFFICIENT_DATA", "CYCLE_TOO_RECENT", "INTERNAL_ERROR"
]
HTTP_STATUS: dict[str, int] = {
    "INVALID_INPUT": 400, "TENANT_NOT_FOUND": 404, "INSUFFICIENT_DATA": 422, "CYCLE_TOO_RECENT": 429,
    "INTERNAL_ERROR": 500,
}  # fmt: skip


class KernelError(Exception):
    """A cycle that could not be, with the contract's code. `as_dict` has the contract's shape."""

    def __init__(self, code: ErrorCode, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details

    def as_dict(self) -> dict[str, Any]:
        shape: dict[str, Any] = {"error": True, "code": self.code, "message": self.message}
        return shape | ({"details": self.details} if self.details else {})


def _stored(value: JsonValue) -> JsonValue:
    """The value as the database gives it back, so that its hash is the same before and after: it knows no -0.0, and
    writes out what Python writes with an exponent."""
    if isinstance(value, float):
        return int(Decimal(repr(value))) if abs(value) >= 1e16 else value + 0.0
    if isinstance(value, list):
        return [_stored(item) for item in value]
    if isinstance(value, dict):
        return {name: _stored(item) for name, item in value.items()}
    return value


def canonical(record: BaseModel) -> str:
    """The one text of a record: same content, same bytes, on every machine."""
    return json.dumps(
        record.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def payload_hash(action: Action) -> str:
    """What an acknowledgment binds to."""
    return hashlib.sha256(canonical(action).encode()).hexdigest()
