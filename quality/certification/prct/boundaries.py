"""Companies that differ from A in the one figure a gate looks at: on the threshold, just beyond it, unknown."""

from __future__ import annotations

from dataclasses import dataclass

from quality.certification.prct.checks import Checks
from quality.certification.prct.companies import FAILING, HEALTHY, Company, Figure
from quality.certification.prct.world import World, short

_CLEAR = ("clear", "clear", "clear")
_SCALED = ("scale_channel paid_search",)


@dataclass(frozen=True, slots=True)
class Case:
    """`scales` are the actions that add spend or scale a channel: all that a gate must keep out or let pass."""

    company: Company
    what: str
    gates: tuple[str, ...]
    constraint: str = "demand"
    scales: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.company.slug.removeprefix("prct-")


def _case(
    name: str, what: str, metric_id: str, figure: Figure | None, gates: tuple[str, ...], **more: object
) -> Case:
    return Case(HEALTHY.but(f"prct-{name}", {metric_id: figure}), what, gates, **more)  # type: ignore[arg-type]


_PAYBACK, _MARGIN, _CASH = (
    tuple("triggered" if place == on else "clear" for place in range(3)) for on in range(3)
)
_NO_PAYBACK, _NO_MARGIN, _NO_CASH = (
    tuple("unknown" if place == on else "clear" for place in range(3)) for on in range(3)
)
_BOUND = {"constraint": "economics"}
_BLIND = {"constraint": "data_quality"}

CASES = (
    _case("payback-15", "payback of exactly 15.0 triggers nothing", "payback_months", "15.0", _CLEAR, scales=_SCALED),
    _case("payback-15-01", "payback of 15.01 triggers", "payback_months", "15.01", _PAYBACK, **_BOUND),
    _case("payback-missing", "missing payback is unknown, and nothing is scaled", "payback_months", None,
          _NO_PAYBACK, **_BLIND),
    _case("payback-undefined", "payback nobody can compute is unknown", "payback_months", "undefined",
          _NO_PAYBACK, **_BLIND),
    _case("payback-stale", "payback from a stale source is unknown", "payback_months", ("6.67", "stale_source"),
          _NO_PAYBACK, **_BLIND),
    _case("payback-infinite", "infinite payback triggers", "payback_months", "infinite", _PAYBACK, **_BOUND),
    _case("margin-50", "margin of exactly 50.0 triggers nothing", "gross_margin_pct", "50.0", _CLEAR, scales=_SCALED),
    _case("margin-49-99", "margin of 49.99 triggers", "gross_margin_pct", "49.99", _MARGIN, **_BOUND),
    _case("margin-missing", "missing margin is unknown, and nothing is scaled", "gross_margin_pct", None,
          _NO_MARGIN, **_BLIND),
    _case("runway-6", "runway of exactly 6.0 triggers nothing", "cash_runway_months", "6.0", _CLEAR, scales=_SCALED),
    _case("runway-5-99", "runway of 5.99 triggers", "cash_runway_months", "5.99", _CASH, **_BOUND),
    # Runway is not among the metrics that every decision needs: growth is kept out, demand stays what is lacking.
    _case("runway-missing", "missing runway is unknown, and nothing is scaled", "cash_runway_months", None, _NO_CASH),
    _case("runway-none", "a company that burns no cash is clear", "cash_runway_months", "not_applicable", _CLEAR,
          scales=_SCALED),
    _case("inside-once", "one day inside does not leave the gate", "payback_months", ("16", "14", "12"), _PAYBACK,
          **_BOUND),
    _case("inside-twice", "two days at the target do not leave the gate", "payback_months", ("16", "12", "12"),
          _PAYBACK, **_BOUND),
    _case("inside-thrice", "three days at the target leave the gate", "payback_months", ("16", "12", "12", "12"),
          _CLEAR, scales=_SCALED),
    _case("inside-not-enough", "three days below the threshold and above the target do not", "payback_months",
          ("16", "14", "14", "14"), _PAYBACK, **_BOUND),
    Case(
        HEALTHY.but("prct-margin-negative", {"gross_margin_pct": "-5", "payback_months": "infinite"}),
        "negative margin makes payback infinite, and both gates trigger",
        ("triggered", "triggered", "clear"), "economics",
    ),
    Case(
        FAILING.but("prct-gates-off", gates_on=False),
        "with the flag off no gate is evaluated, and nothing else keeps C from growing", (), "economics",
        ("scale_channel email",),
    ),
)  # fmt: skip


def boundaries(world: World, checks: Checks) -> None:
    """One cycle for all of them at once, as every night."""
    world.found(*(case.company for case in CASES), steady=True)
    world.go(0)
    world.cycle(*(case.company for case in CASES))
    for case in CASES:
        output = world.output(case.company)
        grows = [
            short(case.company, action.action_id)
            for action in output.actions
            if action.attributes.increases_spend or action.attributes.scales_channel
        ]
        summary = output.cycle_summary
        found = {
            "gates": [gate.state for gate in summary.gates],
            "constraint": summary.binding_constraint,
            "scales": grows,
        }
        expected = {"gates": [*case.gates], "constraint": case.constraint, "scales": [*case.scales]}
        checks.equal(case.name, case.what, expected, found)


def readings(world: World, checks: Checks) -> None:
    """Metrics that stopped three days before the cycle; CAC of paid channels against that of all."""
    company = HEALTHY.but("prct-stopped")
    world.found(company, steady=True)
    world.go(4)
    world.cycle(company)
    output = world.output(company)
    states = [gate.state for gate in output.cycle_summary.gates]
    checks.equal(
        "stopped", "when no metric is computed any more every gate is unknown", ["unknown"] * 3, states
    )
    grows = [action.action_id for action in output.actions if action.attributes.daily_spend_change > 0]
    checks.equal("stopped-scales", "and nothing is scaled", [], grows)
    _labels(world, checks)


def _labels(world: World, checks: Checks) -> None:
    """CAC of paid channels against half and one and a half times the blended one, 1,200."""
    cases: dict[str, tuple[Figure | None, str]] = {
        "599-99": ("599.99", "paid_outperforming"),
        "600": ("600", "none"),
        "1800": ("1800", "none"),
        "1800-01": ("1800.01", "outbound_outperforming"),
        "missing": (None, "insufficient_paid_data"),
    }
    companies = {
        name: HEALTHY.but(f"prct-paid-{name}", {"cac_paid": cac}) for name, (cac, _) in cases.items()
    }
    world.found(*companies.values(), steady=True)
    world.go(0)
    world.cycle(*companies.values())
    found = {name: world.output(company).cycle_summary.paid_label for name, company in companies.items()}
    expected = {name: label for name, (_, label) in cases.items()}
    checks.equal("labels", "the label changes strictly beyond half and one and a half", expected, found)
