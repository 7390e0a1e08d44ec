"""What became of the demonstration's campaigns, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from dagster_project.cli import campaign_views, ui

if TYPE_CHECKING:
    from kernel.delivery.funnel import Funnel
    from kernel.delivery.views import Case

_SHOWN_CASES = 3  # of a tenant


def tell(funnels: Sequence[Funnel]) -> None:
    """Prints the funnels side by side, and the first cases of each."""
    sides = [_side(funnel) for funnel in funnels]
    lines = sorted({line for side in sides for line in side}, key=lambda line: (line.place, line.told))
    rows = [
        {"people": line.told} | {each.tenant: side.get(line, 0) for each, side in zip(funnels, sides, strict=True)}
        for line in lines
    ]  # fmt: skip
    typer.echo()
    ui.emit(rows, False, title="Two campaigns, reconciled with what the servers took")
    shown = [_case(funnel, case) for funnel in funnels for case in funnel.cases[:_SHOWN_CASES]]
    if shown:
        open_cases = sum(len(funnel.cases) for funnel in funnels)
        typer.echo()
        ui.emit(shown, False, title=f"What stays unknown: {len(shown)} of {open_cases} open cases")
    typer.echo()
    for funnel in funnels:
        run = campaign_views.short(funnel.drawer.run.id)
        typer.echo(f".venv/bin/revenue-os campaign show {run} -t {funnel.tenant}")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the table; lines stand in the order of their places."""

    place: int
    told: str


def _side(funnel: Funnel) -> dict[_Line, Any]:
    run, counts = funnel.drawer.run, asdict(funnel.counts)
    lost = [each for each in funnel.drawer.exclusions if not each.is_intended]
    lines = {
        _Line(0, "through"): run.provider,
        _Line(1, "addressed"): run.intended + sum(each.people for each in lost),
        **{_Line(2, f"  cannot be reached: {each.reason}"): each.people for each in lost},
        _Line(3, "intended"): run.intended,
    }
    for each in funnel.drawer.exclusions:
        if each.is_intended:
            line = _Line(4, f"  suppressed: {each.reason}")
            lines[line] = lines.get(line, 0) + each.people
    named = ("accepted", "rejected", "unknown", "cancelled", "expired", "abandoned", "open")
    for place, name in enumerate(named, 5):
        if counts[name] or name in ("accepted", "rejected", "unknown", "cancelled"):
            lines[_Line(place, f"  {name}")] = counts[name]
    return lines | {
        _Line(20, "the server took"): sum(funnel.taken.values()) + funnel.strangers,
        _Line(21, "  for accepted people"): funnel.taken.get("accepted", 0),
        _Line(22, "  for unknown people"): funnel.taken.get("unknown", 0),
        _Line(23, "contacted twice"): funnel.twice,
        _Line(24, "open cases"): len(funnel.cases),
    }


def _case(funnel: Funnel, case: Case) -> dict[str, Any]:
    return {
        "address": case.address,
        "tenant": funnel.tenant,
        "reason": case.reason,
        "server has it": case.id in funnel.held,
    }
