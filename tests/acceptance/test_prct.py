"""The certification passes, its evidence keeps, and every group of its checks fails when what it watches is broken."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from dagster_project.cli import app
from kernel.errors import RefusedError
from models.server import Server
from quality.certification.prct import applying, boundaries, evidence, run
from quality.certification.prct.checks import Check
from quality.certification.prct.run import SCENARIOS, Report
from tests.acceptance.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
STARTED = datetime(2026, 7, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Certified:
    report: Report
    database: str


@pytest.fixture(scope="module")
def certified(postgres: Server) -> Certified:
    """Run once, as the command does, on a database of its own."""
    with run.scratch(postgres.url("postgres")) as engine:
        return Certified(run.run(engine, ROOT, clock=lambda: STARTED), engine.url.database)


@pytest.fixture(scope="module")
def report(certified: Certified) -> Report:
    return certified.report


@pytest.fixture
def written(report: Report, tmp_path: Path) -> Path:
    file = tmp_path / "evidence.json"
    evidence.write(evidence.of(report), file)
    return file


# It passes ---------------------------------------------------------------------------------------------------------


def test_the_certification_passes(report: Report):
    assert [(c.id, c.expected, c.found) for c in report.checks if not c.passed] == []
    assert report.passed


def test_every_scenario_is_checked_and_no_two_checks_share_a_name(report: Report):
    assert {check.scenario for check in report.checks} == set(SCENARIOS)
    assert len({check.id for check in report.checks}) == len(report.checks)


def test_the_known_checks_are_those_that_are_made(report: Report):
    content = evidence.of(report)
    # A check that was added or taken away on purpose is a line of checks.txt added or taken away.
    assert evidence.differing(content) == []
    content["checks"] = [*content["checks"][1:], content["checks"][1]]
    assert evidence.differing(content) == sorted(check.id for check in report.checks[:2])


def test_a_second_run_decides_the_same_bytes(report: Report, engine: sa.Engine):
    run.prepare(engine)
    again = run.run(engine, ROOT, clock=lambda: STARTED, only=["replay"])
    first = {check.id: check.found for check in report.checks if check.scenario == "replay"}
    assert {check.id: check.found for check in again.checks} == first


def test_a_scenario_that_does_not_exist_is_refused(engine: sa.Engine):
    with pytest.raises(RefusedError, match="scenario 'helthy' does not exist: choose among healthy"):
        run.run(engine, ROOT, clock=lambda: STARTED, only=["helthy"])


def test_nothing_checked_is_nothing_passed():
    assert not Report(STARTED, STARTED, (), ()).passed


def test_the_scratch_database_is_gone_afterwards(certified: Certified, engine: sa.Engine):
    query = sa.text("select count(*) from pg_database where datname = :name")
    with engine.connect() as connection:
        assert connection.execute(query, {"name": certified.database}).scalar_one() == 0


# Evidence ----------------------------------------------------------------------------------------------------------


def test_evidence_says_what_was_checked_when_and_on_which_components(written: Path, report: Report):
    content = evidence.verify(written)
    assert content["verdict"] == "passed"
    assert (content["started_at"], len(content["checks"])) == (STARTED.isoformat(), len(report.checks))
    assert set(content["components"]) == {"kernel", "executors", "metrics", "spine", "delivery"}


def test_evidence_names_no_path_of_the_machine(written: Path):
    text = written.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    assert "postgresql" not in text


def test_a_changed_byte_is_found_wherever_it_is(written: Path, tmp_path: Path):
    whole, changed = written.read_bytes(), tmp_path / "changed.json"
    for place in range(0, len(whole), 997):
        changed.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(RefusedError):
            evidence.verify(changed)


@pytest.mark.parametrize("more", [b" ", b"\n"])
def test_an_added_byte_is_found(written: Path, more: bytes):
    written.write_bytes(written.read_bytes() + more)
    with pytest.raises(RefusedError, match="was changed after it was written"):
        evidence.verify(written)


def test_a_verdict_that_does_not_follow_is_found_though_the_seal_was_renewed(written: Path):
    content = json.loads(written.read_text(encoding="utf-8"))
    content["checks"][0]["found"] = "something else"
    unsealed = {name: value for name, value in content.items() if name != "sha256"}
    evidence.write(unsealed | {"sha256": evidence._digest(unsealed)}, written)
    with pytest.raises(RefusedError, match="verdicts do not follow"):
        evidence.verify(written)


NO_EVIDENCE = (
    "", "[]", "{}", "no json", '{"format": 1}', "[" * 100_000, '{"format": "\\ud800"}',
    json.dumps({"format": 1, "checks": [{}], "verdict": "passed"}),
)  # fmt: skip


@pytest.mark.parametrize("text", NO_EVIDENCE, ids=range(len(NO_EVIDENCE)))
def test_what_is_no_evidence_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "evidence.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RefusedError):
        evidence.verify(file)


def sealed(content: dict, file: Path) -> None:
    unsealed = {name: value for name, value in content.items() if name != "sha256"}
    evidence.write(unsealed | {"sha256": evidence._digest(unsealed)}, file)


@pytest.mark.parametrize("field", ["checks", "components", "verdict", "started_at"])
@pytest.mark.parametrize("value", [None, "absent", [{}], {"kernel": {}}])
def test_evidence_of_another_shape_is_refused_in_a_sentence(written: Path, field: str, value: object):
    content = json.loads(written.read_text(encoding="utf-8"))
    content.pop(field)
    sealed(content if value == "absent" else content | {field: value}, written)
    if field == "started_at" and value != "absent":
        return  # it is told, and nothing follows from it
    with pytest.raises(RefusedError, match=r"is no evidence: |verdicts do not follow"):
        evidence.verify(written)


# The commands --------------------------------------------------------------------------------------------------------


def test_verify_tells_the_verdict(written: Path):
    told = CliRunner().invoke(app, ["certify", "verify", str(written), "--json"])
    assert told.exit_code == 0
    assert json.loads(told.stdout)["verdict"] == "passed"
    assert json.loads(told.stdout)["changed_since"] == []


def test_verify_fails_for_a_proof_of_fewer_checks(written: Path):
    content = json.loads(written.read_text(encoding="utf-8"))
    sealed(content | {"checks": content["checks"][1:]}, written)
    told = CliRunner().invoke(app, ["certify", "verify", str(written)])
    assert (told.exit_code, "other checks than there are now (1 differ)" in told.output) == (1, True)


@pytest.mark.parametrize("then", [{}, {"kernel": {"version": "0.9", "sha256": "0", "is_agreed": True}}])
def test_verify_fails_for_a_proof_of_other_components(written: Path, then: dict):
    content = json.loads(written.read_text(encoding="utf-8"))
    rest = {name: each for name, each in content["components"].items() if name != "kernel"}
    sealed(content | {"components": rest | then}, written)
    told = CliRunner().invoke(app, ["certify", "verify", str(written)])
    assert (told.exit_code, "kernel changed since" in told.output) == (1, True)


def test_verify_fails_for_a_changed_file(written: Path):
    written.write_bytes(written.read_bytes().replace(b'"passed": true', b'"passed": null', 1))
    told = CliRunner().invoke(app, ["certify", "verify", str(written)])
    assert (told.exit_code, "was changed after it was written" in told.output) == (1, True)


def test_a_failed_check_fails_the_command_and_is_kept_in_the_evidence(
    written: Path, monkeypatch: pytest.MonkeyPatch
):
    report = Report(STARTED, STARTED, (), (Check("healthy.gates", "healthy", "every gate", ["clear"], []),))
    monkeypatch.setattr(run, "scratch", lambda url: nullcontext())
    monkeypatch.setattr(run, "run", lambda *args, **named: report)
    monkeypatch.setattr("dagster_project.database.url", lambda: "")
    told = CliRunner().invoke(app, ["certify", "prct", "--evidence", str(written)])
    assert (told.exit_code, "1 of 1 checks failed" in told.output) == (1, True)
    assert evidence.verify(written)["verdict"] == "failed"
    assert CliRunner().invoke(app, ["certify", "verify", str(written)]).exit_code == 1


# Every check can fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_broken_rule_is_noticed(mutation: Mutation, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    run.prepare(engine)
    # Of scenarios that are many cases, the ones that must notice are enough.
    cases = {name: case for name, case in applying.CASES.items() if name in mutation.fails}
    monkeypatch.setattr(applying, "CASES", cases)
    monkeypatch.setattr(
        boundaries, "CASES", [case for case in boundaries.CASES if case.name in mutation.fails]
    )
    mutation.break_it(monkeypatch, engine)
    found = run.run(engine, ROOT, clock=lambda: STARTED, only=[mutation.scenario])
    failed = {check.id for check in found.checks if not check.passed}
    named = {f"{mutation.scenario}.{name}" for name in mutation.fails}
    assert named <= failed, f"not noticed: {sorted(named - failed)}"
    assert not found.passed


def test_every_scenario_has_a_rule_that_was_broken():
    assert {mutation.scenario for mutation in MUTATIONS} == set(SCENARIOS)
