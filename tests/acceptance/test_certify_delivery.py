"""The certification of delivery passes but for what nobody has shown, and notices kernels that are broken on purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from dagster_project.cli import app
from kernel.errors import RefusedError
from models.server import Server
from quality.certification.delivery import killed, ledgers, run, stolen
from quality.certification.prct import evidence
from quality.certification.prct.run import Report, scratch

# A minute and a half of killed workers, and as much again for kernels that are broken; a part of each is in the tests
# of delivery.
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
BREAKS = ROOT / "tests" / "fakes" / "delivery_broken.py"
STARTED = datetime(2026, 7, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Certified:
    report: Report
    facts: dict[str, Any]


@pytest.fixture(scope="module")
def certified(postgres: Server) -> Certified:
    with scratch(postgres.url("postgres")) as engine:
        return Certified(*run.run(engine, ROOT, clock=lambda: STARTED, actor="ann"))


def test_everything_passes_but_what_takes_real_people(certified: Certified) -> None:
    failed = [
        (check.id, check.expected, check.found[:7]) for check in certified.report.checks if not check.passed
    ]
    assert failed == [("live.email", "PASS", "NOT_RUN"), ("live.voice", "PASS", "NOT_RUN")]
    assert not certified.report.passed
    verdicts = certified.facts["requirements"]
    assert {name for name, verdict in verdicts.items() if verdict == "NOT_RUN"} == {"E1", "V1"}
    assert {verdict for name, verdict in verdicts.items() if name not in ("E1", "V1")} == {"PASS"}


def test_the_known_checks_are_those_that_are_made(certified: Certified) -> None:
    assert evidence.differing(evidence.of(certified.report), run.KNOWN) == []


@pytest.fixture
def written(certified: Certified, tmp_path: Path) -> Path:
    file = tmp_path / "delivery.json"
    evidence.write(evidence.of(certified.report, certified.facts), file)
    return file


def test_the_evidence_holds_what_it_was_made_with(certified: Certified, written: Path) -> None:
    facts = evidence.verify(written)["facts"]
    assert (facts["certification"], facts["actor"], facts["environment"]) == ("delivery", "ann", "test")
    assert (facts["parameters"]["seed"], facts["parameters"]["processes"]) == (1, 4)
    assert facts["migration"]["current"] == facts["migration"]["head"]
    assert set(facts["commit"] or ()) == ({"id", "is_clean"} if (ROOT / ".git").exists() else set())
    assert facts["measured"]["crowded"]["kills"] >= 10
    assert facts["measured"]["started"]["jobs"] > 0
    assert str(ROOT) not in written.read_text(encoding="utf-8")


def test_a_stranger_counts_every_item_and_effect_again_from_the_evidence(written: Path) -> None:
    content = evidence.verify(written)
    run.verify(content)
    rows = {name: ledgers._unpacked(name, kept) for name, kept in content["facts"]["ledgers"].items()}
    statuses = content["facts"]["measured"]["crowded"]["statuses"]
    crowd = [item for item in rows["items"] if item["tenant"].startswith("crowd-")]
    assert Counter(item["status"] for item in crowd) == statuses
    accounts = {item["account"] for item in crowd}
    effects = Counter(effect["reference"] for effect in rows["effects"] if effect["account"] in accounts)
    assert effects.total() == content["facts"]["measured"]["crowded"]["effects"]
    accepted = {item["attempts"][-1]["id"] for item in crowd if item["status"] == "sent"}
    assert accepted <= effects.keys()


def test_a_ledger_that_was_made_better_is_found_though_the_seal_was_renewed(written: Path) -> None:
    content = evidence.verify(written)
    rows = {name: ledgers._unpacked(name, kept) for name, kept in content["facts"]["ledgers"].items()}
    content["facts"]["ledgers"] = ledgers.packed(rows | {"effects": [*rows["effects"], rows["effects"][0]]})
    with pytest.raises(RefusedError, match="do not give what its checks say"):
        run.verify(content)


def test_verify_refuses_evidence_of_a_certification_with_something_not_run(
    written: Path,
) -> None:
    told = CliRunner().invoke(app, ["certify", "verify", str(written)])
    assert (told.exit_code, "the certification failed" in told.output) == (1, True)


def test_the_command_fails_as_long_as_something_was_not_run(
    certified: Certified, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @contextmanager
    def no_scratch(_: str) -> Iterator[None]:
        yield None

    monkeypatch.setattr("quality.certification.prct.run.scratch", no_scratch)
    monkeypatch.setattr(run, "run", lambda *given, **named: (certified.report, certified.facts))
    monkeypatch.setattr("dagster_project.database.url", lambda: "")
    told = CliRunner().invoke(app, ["certify", "delivery", "--evidence", str(tmp_path / "e.json")])
    assert (told.exit_code, "2 of" in told.output) == (1, True)


def test_a_scenario_that_does_not_exist_is_refused(engine: sa.Engine) -> None:
    with pytest.raises(RefusedError, match="scenario 'kiled' does not exist"):
        run.run(engine, ROOT, clock=lambda: STARTED, only=["kiled"])


# Every requirement can fail ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """`points` are the cases of its scenario that must notice, of those that are many."""

    rule: str
    scenario: str
    points: tuple[str, ...] = ()
    # Run in the database as its owner, where the rule stands there.
    sql: str = ""


BROKEN = (
    Broken("unknown_is_failed", "killed", ("none-called",)),
    Broken("a_replay_has_a_key_of_its_own", "killed", ("keys-called",)),
    Broken("every_provider_is_asked_again", "killed", ("none-called", "lookup-called")),
    Broken("no_case_is_opened", "killed", ("none-called",)),
    Broken("counts_leave_out_the_unknown", "killed", ("none-called",)),
    Broken("calls_begin_whenever", "stolen", ("none-attempts-committed",)),
    Broken("a_late_outcome_is_thrown_away", "stolen", ("none-called",)),
    Broken("what_is_swept_is_sent_again", "killed", ("none-called",), "drop index delivery.attempts_open_key"),
    Broken(
        "", "stolen", (),
        "create or replace function delivery.complete_job(job uuid, success boolean, message text default null,"
        " token bigint default null, at timestamptz default clock_timestamp()) returns void language sql as"
        " $$ update delivery.job_queue set status = 'completed' where id = job $$",
    ),
    Broken("unknown_is_failed", "crowded"),
    Broken("every_provider_is_asked_again", "crowded"),
    Broken("every_failure_may_be_retried", "retried"),
    Broken("", "isolated", (), "create policy wide on delivery.attempts for select to revenue_member using (true)"),
    Broken("", "schema", (), "drop index delivery.attempts_open_key"),
    Broken(
        "", "started", (),
        "create function delivery.older() returns trigger language plpgsql as $$ begin"
        " new.scheduled_for = new.scheduled_for - interval '1 hour'; return new; end $$;"
        " create trigger older before insert on delivery.job_queue for each row execute function delivery.older()",
    ),
)  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: f"{each.scenario}-{each.rule or each.sql[:20]}")
def test_a_broken_kernel_is_noticed(
    broken: Broken, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken.sql:
        with engine.begin() as connection:
            connection.exec_driver_sql(broken.sql)
    for module in (killed, stolen):
        chosen = [case for case in module.CASES if case.name in broken.points]
        monkeypatch.setattr(module, "CASES", tuple(chosen))
    prepare = f"{BREAKS}:{broken.rule}" if broken.rule else None
    report, _ = run.run(engine, ROOT, clock=lambda: STARTED, only=[broken.scenario], prepare=prepare)
    failed = [check.id for check in report.checks if not check.passed]
    assert [each for each in failed if not each.endswith((".ends", ".killed"))], f"not noticed: {broken}"
