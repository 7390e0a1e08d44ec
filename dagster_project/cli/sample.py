"""`revenue-os sample`: sample tenants as landing files. What they are like is decided in samples/profiles.py."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from dagster_project.cli import ui

app = typer.Typer(help="Sample tenants whose true numbers are known.", no_args_is_help=True)


@app.command()
def write(
    directory: Annotated[Path, typer.Argument(file_okay=False, help="Landing folder to write into.")],
    tenants: Annotated[int, typer.Option(min=1, help="How many tenants; the first five differ in kind.")] = 5,
    days: Annotated[int, typer.Option(min=1, help="Days of history.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 1,
    end: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Last business day; 2026-06-30 when left out."),
    ] = None,
    scale: Annotated[float, typer.Option(min=0.01, help="Multiplies the number of facts.")] = 1.0,
    as_json: ui.Json = False,
) -> None:
    """Write tenants as landing files, with the truth beside them; replaces what was written there before."""
    import samples

    written: list[dict[str, object]] = []
    with ui.progress(as_json) as progress:
        task = progress.add_task("Writing tenants", total=tenants)

        def note(world: samples.World) -> None:
            truth = world.truth
            facts = sum(len(frame) for frame in truth.facts.values())
            written.append({"tenant": truth.tenant.slug, "facts": facts, "files": len(world.deliveries)})
            progress.advance(task)

        samples.write_all(
            directory,
            samples.tenants(tenants),
            seed=seed,
            end=end.date() if end else samples.END,
            days=days,
            scale=scale,
            on_written=note,
        )
    ui.emit(written, as_json)
