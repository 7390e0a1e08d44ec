"""`revenue-os certify`: frozen components, generated specifications, the pre-rollout certainty test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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


@app.command()
def prct(
    evidence: Annotated[Path | None, typer.Option(help="Write the proof to this file.")] = None,
    as_json: ui.Json = False,
) -> None:
    """The pre-rollout certainty test, on a database of its own; fails when one check fails."""
    from datetime import UTC, datetime

    from dagster_project import database
    from dagster_project.settings import REPOSITORY
    from quality.certification.prct import run as certification

    with certification.scratch(database.url()) as engine:
        report = certification.run(engine, REPOSITORY, clock=lambda: datetime.now(UTC), on_scenario=_tell)
    _conclude(report, None, "Pre-rollout certainty test", evidence, as_json)


def _conclude(
    report: Any, facts: dict[str, Any] | None, title: str, evidence: Path | None, as_json: bool
) -> None:
    """Writes the proof, shows the checks, and fails when one of them did."""
    from quality.certification.prct import evidence as proof

    content = proof.of(report, facts)
    if evidence:
        proof.write(content, evidence)
        ui.step("Evidence", f"{evidence}, sha256 {content['sha256'][:12]}")
    if as_json:
        ui.emit(content, as_json)
    else:
        rows = [{"check": check.id, "what": check.what, "passed": check.passed} for check in report.checks]
        ui.emit(rows, as_json, title=title)
    failed = [check for check in report.checks if not check.passed]
    for check in failed:
        typer.echo(
            f"\n{check.id}: {check.what}\n  expected {check.expected}\n  found    {check.found}", err=True
        )
    if failed:
        ui.fail(f"{len(failed)} of {len(report.checks)} checks failed: nothing may be rolled out")
    if not as_json:
        typer.echo(f"All {len(report.checks)} checks passed.")


@app.command()
def delivery(
    evidence: Annotated[Path | None, typer.Option(help="Write the proof to this file.")] = None,
    as_json: ui.Json = False,
) -> None:
    """Deliveries under workers that are killed and stopped, on a database of its own; fails when one check fails.

    Real emails and calls are not made; as long as nobody has shown that they arrive, the certification fails.
    """
    from datetime import UTC, datetime

    from dagster_project import database
    from dagster_project.settings import REPOSITORY
    from quality.certification.delivery import run as certification
    from quality.certification.prct.run import scratch

    with scratch(database.url()) as engine:
        report, facts = certification.run(
            engine, REPOSITORY, clock=lambda: datetime.now(UTC), on_scenario=_tell
        )
    _conclude(report, facts, "Certification of delivery", evidence, as_json)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="Evidence that a certification wrote.")],
    as_json: ui.Json = False,
) -> None:
    """Whether a proof is as it was written, and is about every check and the components as they are; else it fails."""
    from dagster_project.settings import REPOSITORY
    from quality.certification import freeze as frozen
    from quality.certification.prct import evidence as proof

    content = proof.verify(file)
    now = {state.component.name: state.digest for state in frozen.states(REPOSITORY)}
    then = {name: component["sha256"] for name, component in content["components"].items()}
    told = {
        "verdict": content["verdict"],
        "checks": len(content["checks"]),
        "failed": [check["id"] for check in content["checks"] if not check["passed"]],
        "started_at": content["started_at"],
        "sha256": content["sha256"],
        "changed_since": sorted(name for name in now if then.get(name) != now[name]),
        "other_checks": _differing(content),
    }
    ui.emit(told, as_json)
    if told["verdict"] != "passed":
        ui.fail("the evidence is intact and says that the certification failed: nothing may be rolled out")
    if told["other_checks"]:
        ui.fail(
            f"the evidence is of other checks than there are now ({len(told['other_checks'])} differ): certify again"
        )
    if told["changed_since"]:
        ui.fail(
            f"{', '.join(told['changed_since'])} changed since: the evidence says nothing of what is here,"
            " certify again"
        )


def _differing(content: dict[str, Any]) -> list[str]:
    from quality.certification.delivery import run as delivery_run
    from quality.certification.prct import evidence as proof

    if content.get("facts", {}).get("certification") == delivery_run.NAME:
        return proof.differing(content, delivery_run.KNOWN)
    return proof.differing(content)


def _tell(scenario: str, checks: Any) -> None:
    failed = sum(not check.passed for check in checks)
    ui.step(f"{scenario:<10}", f"{len(checks)} checks" + (f", {failed} failed" if failed else ""))
