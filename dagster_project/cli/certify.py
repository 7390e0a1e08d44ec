"""`revenue-os certify`: frozen components, generated specifications, the pre-rollout certainty test."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
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
    from dagster_project.settings import settings
    from quality.certification.prct import evidence as proof

    content = proof.of(report, facts, settings().evidence_key)
    if evidence:
        proof.write(content, evidence)
        ui.step("Evidence", f"{evidence}, sha256 {content['sha256'][:12]}, {_signer(content)}")
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
    seed: Annotated[int, typer.Option(help="Decides which workers are killed at random.")] = 1,
    as_json: ui.Json = False,
) -> None:
    """Deliveries under workers that are killed and stopped, on a database of its own; fails when one check fails.

    It takes about two minutes.

    One real email and one real call are made where the settings name an account and a person for it; without, the
    certification says that they were not run, and fails.
    """
    from datetime import UTC, datetime
    from getpass import getuser

    from dagster_project import database
    from dagster_project.settings import REPOSITORY, settings
    from quality.certification.delivery import live
    from quality.certification.delivery import run as certification
    from quality.certification.prct.run import scratch

    given = settings()
    files = {"email": given.live_email, "voice": given.live_voice}
    accounts = {channel: live.read(file, channel) for channel, file in files.items() if file}
    with scratch(database.url()) as engine:
        report, facts = certification.run(
            engine, REPOSITORY, clock=lambda: datetime.now(UTC), seed=seed, accounts=accounts,
            actor=given.user or getuser(), environment=given.env, on_scenario=_tell,
        )  # fmt: skip
    for requirement, verdict in facts["requirements"].items():
        ui.step(requirement, verdict)
    _conclude(report, facts, "Certification of delivery", evidence, as_json)


@app.command()
def invariants(
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Slug or id; all when left out.")] = "",
    as_json: ui.Json = False,
) -> None:
    """The rules of deliveries, on everything that was ever sent from the configured database; fails for a broken one."""
    from kernel import tenancy
    from kernel.delivery import invariants as rules

    with ui.connection() as connection:
        broken = rules.check(connection, tenancy.find(connection, tenant).id if tenant else None)
    count = Counter(violation.invariant for violation in broken)
    rows = [{"rule": text, "broken": count[name]} for name, text in rules.INVARIANTS.items()]
    if as_json:
        ui.emit([asdict(violation) for violation in broken], as_json)
    else:
        ui.emit(rows, as_json, title="Rules of deliveries")
        if not broken:
            typer.echo(f"All {len(rows)} rules hold.")
    for violation in broken:
        typer.echo(
            f"{violation.invariant}: tenant {violation.tenant_id}, {violation.id}: {violation.why}", err=True
        )
    if broken:
        ui.fail(f"{len(count)} rules of deliveries are broken: find out how before anything more is sent")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="Evidence that a certification wrote.")],
    require_signature: Annotated[
        bool, typer.Option("--require-signature", help="Fail unless the key that is trusted has signed it.")
    ] = False,
    key: Annotated[
        Path | None, typer.Option(help="The key that is trusted, in PEM; else that of the settings.")
    ] = None,
    as_json: ui.Json = False,
) -> None:
    """Whether a proof is as it was written, and is about every check and the components as they are; else it fails."""
    from dagster_project.settings import REPOSITORY, settings
    from quality.certification import freeze as frozen
    from quality.certification.prct import evidence as proof

    content = proof.verify(file)
    is_delivery = _verified_delivery(content)
    now = {state.component.name: state.digest for state in frozen.states(REPOSITORY)}
    then = {name: component["sha256"] for name, component in content["components"].items()}
    told = {
        "verdict": content["verdict"],
        "checks": len(content["checks"]),
        "failed": [check["id"] for check in content["checks"] if not check["passed"]],
        "started_at": content["started_at"],
        "sha256": content["sha256"],
        "signed": _signer(content),
        "changed_since": sorted(name for name in now if then.get(name) != now[name]),
        "other_checks": _differing(content, is_delivery),
    }
    ui.emit(told, as_json)
    if require_signature or key:
        _expect_signer(content, key or settings().evidence_key)
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


def _signer(content: dict[str, Any]) -> str:
    signature = content["signature"]
    return f"by key {signature['public_key']}" if signature else "by nobody"


def _expect_signer(content: dict[str, Any], trusted: Path | None) -> None:
    from quality.certification import signing

    if trusted is None:
        ui.fail("no key is trusted: name one with --key or in REVENUE_OS_EVIDENCE_KEY")
    if content["signature"] is None:
        ui.fail("the evidence is not signed: whoever wrote it is not known")
    if content["signature"]["public_key"] != signing.public_key(trusted):
        ui.fail(
            f"the evidence was signed with another key than {trusted.name}: whoever wrote it is not trusted"
        )


def _verified_delivery(content: dict[str, Any]) -> bool:
    """Whether it is evidence of delivery, of which there is more to hold against itself."""
    from quality.certification.delivery import run as delivery_run

    facts = content.get("facts")
    if not isinstance(facts, dict) or facts.get("certification") != delivery_run.NAME:
        return False
    delivery_run.verify(content)
    return True


def _differing(content: dict[str, Any], is_delivery: bool) -> list[str]:
    from quality.certification.delivery import run as delivery_run
    from quality.certification.prct import evidence as proof

    return proof.differing(content, delivery_run.KNOWN) if is_delivery else proof.differing(content)


def _tell(scenario: str, checks: Any) -> None:
    failed = sum(not check.passed for check in checks)
    ui.step(f"{scenario:<10}", f"{len(checks)} checks" + (f", {failed} failed" if failed else ""))
