"""Twins who do the same thing and fare differently: what was learned from it shows in the next cycle."""

from __future__ import annotations

from collections.abc import Mapping

from quality.certification.prct.checks import Checks
from quality.certification.prct.companies import HEALTHY, Company, Figure, day
from quality.certification.prct.loop import SECOND, second
from quality.certification.prct.world import World, told

# One thing to change, so that nothing else can be the cause.
_TWIN = HEALTHY.but("prct-twin", settings=(("crm", "max_touches", 5),))
_MORE_MEETINGS: Mapping[str, Figure] = {"meeting_book_rate": "0.044"}
# Payback = CAC / (250 x margin).
_BETTER = {**_MORE_MEETINGS, "cac_blended": "1100", "payback_months": "6.11", "revenue_per_fte": "166000"}
_WORSE = {**_MORE_MEETINGS, "cac_blended": "1400", "payback_months": "8.00", "gross_margin_pct": "70"}


def learning(world: World, checks: Checks) -> None:
    """More meetings for all three. For one they pay, for one they cost, for one the economics stay."""
    twins = (
        ("helped", _BETTER, "improved", None),
        ("harmed", _WORSE, "hurt", "max_touches has hurt the economics of this tenant"),
        ("even", _MORE_MEETINGS, "neutral", None),
    )
    for name, figures, economics, dropped in twins:
        twin = _TWIN.but(f"prct-twin-{name}")
        _live(world, twin, figures)
        row = world.rows(
            "select actions.outcome, results.metadata #>> '{economics,outcome}' as economics"
            " from spine.optimization_actions as actions"
            " inner join spine.optimization_action_results as results"
            " on results.tenant_id = actions.tenant_id and results.optimization_action_id = actions.id"
            " and results.metric_id = actions.target_metric where actions.tenant_id = :id and actions.family = 'max_touches'",
            id=twin.id,
        )[0]
        checks.equal(
            f"{name}.verdict", "the target and the economics are judged each for itself", ["improved", economics],
            [row["outcome"], row["economics"]],
        )  # fmt: skip
        world.cycle(twin)
        output = world.output(twin)
        reasons = {each.family: each.dropped for each in output.trace}
        what = "what hurt the economics is not done again" if dropped else "what helped is done again"
        checks.equal(f"{name}.dropped", what, dropped, reasons.get("max_touches", "not considered"))
        again = [told(twin, row) for row in world.actions(twin) if row["family"] == "max_touches"]
        once_more = ["max_touches: config_change max_touches 6 -> 7, 14 days, approved"]
        checks.equal(
            f"{name}.again", "the second cycle follows from the result", [] if dropped else once_more, again
        )
    _counted(world, checks)


def _live(world: World, twin: Company, figures: Mapping[str, Figure]) -> None:
    world.found(twin)
    world.go(0)
    world.cycle(twin)
    world.go(0, 1)
    world.dispatch()
    world.trade(twin, day(1), day(SECOND))
    second(world, _Unheard(), twin, figures)


class _Unheard(Checks):
    """Scenario A has made these checks already."""

    def __init__(self) -> None:
        super().__init__("unheard")


def _counted(world: World, checks: Checks) -> None:
    """4 % assumed with an error of 4, 9.98 % measured with the least error that is believed, 1."""
    expected = {"helped": "9.62", "even": "9.62"}
    found = {}
    for name in expected:
        [row] = [
            row for row in world.actions(_TWIN.but(f"prct-twin-{name}")) if row["family"] == "max_touches"
        ]
        found[name] = row["payload"]["expected_impact"]["magnitude_pct"]
    checks.equal("counted", "a result outweighs the assumption it replaces", expected, found)
