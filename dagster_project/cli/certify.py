"""`revenue-os certify`: frozen components, generated specifications, the pre-rollout certainty test."""

from __future__ import annotations

from typing import Annotated

import typer

from dagster_project.cli import ui

app = typer.Typer(help="Proofs: what is frozen, and that the rules hold.", no_args_is_help=True)


@app.command()
def freeze(
    record: Annotated[str | None, typer.Option(help="Agree to this component as it is now.")] = None,
    version: Annotated[str, typer.Option(help="Its new version; required with --record.")] = "",
    as_json: ui.Json = False,
) -> None:
    """The frozen components; fails when one changed without specification, version and changelog line."""
    from dagster_project.settings import REPOSITORY
    from quality.certification import freeze as frozen

    if record:
        frozen.record(REPOSITORY, record, version)
    rows = [
        {"component": state.component.name, "version": state.version, "digest": state.digest[:12],
         "specification": state.component.specification}
        for state in frozen.check(REPOSITORY)
    ]  # fmt: skip
    ui.emit(rows, as_json, title="Frozen components, as agreed")


@app.command()
def specs(
    write: Annotated[bool, typer.Option("--write", help="Bring the tables up to date.")] = False,
    as_json: ui.Json = False,
) -> None:
    """Whether the tables in docs/specs and the JSON Schemas are what code and data say."""
    from dagster_project.settings import REPOSITORY
    from quality.certification import specs as specifications

    changed = specifications.write(REPOSITORY) if write else specifications.check(REPOSITORY)
    ui.emit({"written" if write else "out_of_date": changed}, as_json)
    if changed and not write:
        ui.fail("specifications are out of date: run revenue-os certify specs --write")
