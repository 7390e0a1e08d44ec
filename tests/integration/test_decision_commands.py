"""`revenue-os tenant` and `decide`: who may turn which switch, what is kept of it, and what fits on a terminal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from dagster_project import database
from dagster_project.cli import app, decide
from kernel.actions import dispatch
from kernel.decisions import cycles, scoring
from kernel.decisions.contract import CandidateTrace, Entity
from tests.fakes.approved import Company, action, approve, company, means, one, row_of
from tests.integration.actions.proposals import OLGA
from tests.integration.decisions import world
from tests.unit.decisions import scenarios
from tests.unit.decisions.test_certification import decided

WHY = ("--why", "it's wrong")


@pytest.fixture
def command(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    """Runs a command on the test's database; gives exit code, what it printed, and its JSON when it was asked for."""
    monkeypatch.setattr(database, "engine", lambda: engine)
    monkeypatch.setattr(database, "url", lambda: str(engine.url))

    def _command(*words: object) -> SimpleNamespace:
        result = CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "80"}, catch_exceptions=False)
        told = json.loads(result.stdout) if "--json" in words and result.stdout else None
        return SimpleNamespace(code=result.exit_code, text=result.output, json=told)

    return _command


def test_the_list_tells_how_each_tenant_is_switched(command, of: Company) -> None:
    (told,) = command("tenant", "list", "--json").json
    assert (told["enabled"], told["gates"], told["mode"], told["activated_at"]) == (
        True,
        True,
        "enforce",
        None,
    )
    command("tenant", "mode", of.id, "shadow", "--as", "ana", *WHY)
    command("tenant", "gates", of.id, "off", "--as", "olga", *WHY)
    command("tenant", "disable", of.id, "--as", "ana", *WHY)
    (told,) = command("tenant", "list", "--json").json
    assert (told["enabled"], told["gates"], told["mode"]) == (False, False, "shadow")
    assert max(map(len, command("tenant", "list").text.splitlines())) <= 80


def test_the_list_keeps_a_tenant_on_one_line_of_eighty_columns(command, of: Company) -> None:
    (known,) = command("tenant", "list", "--json").json
    *_, row = command("tenant", "list").text.splitlines()
    assert row.split() == [known["slug"], "yes", "yes", "enforce", "-"]


def test_a_company_without_a_name_is_not_onboarded(command) -> None:
    refused = command("tenant", "onboard", "-t", " ")
    assert (refused.code, "' ' is no name of a company" in refused.text) == (1, True)


@pytest.mark.parametrize(
    ("switch", "who", "told"),
    [
        (("disable",), "max", "max is no approver or owner of the tenant"),
        (("disable",), "nobody", "user 'nobody' does not belong to the tenant"),
        (("enable",), "max", "max is no approver or owner"),
        (("mode", "shadow"), "max", "max is no approver or owner"),
        (("mode", "enforce"), "ana", "ana is no owner of the tenant"),
        (("mode", "enforce"), "operator", "ask an owner"),
        (("gates", "off"), "ana", "ana is no owner of the tenant"),
        (("gates", "off"), "operator", "ask an owner"),
    ],
)
def test_a_switch_is_refused_to_who_may_not_turn_it(
    engine: sa.Engine, command, of: Company, switch: tuple[str, ...], who: str, told: str
) -> None:
    name, *to = switch
    before = one(engine, "select tenants::text from spine.tenants")
    found = command("tenant", name, of.id, *to, "--as", who, *WHY)
    assert (found.code, told in found.text) == (1, True), found.text
    assert one(engine, "select tenants::text from spine.tenants") == before
    assert one(engine, "select count(*) from ops.incidents") == 0


@pytest.mark.parametrize(
    ("switch", "who"),
    [
        (("disable",), "operator"),
        (("enable",), "ana"),
        (("mode", "shadow"), "operator"),
        (("mode", "enforce"), "olga"),
        (("gates", "on"), "ana"),
        (("gates", "off"), "olga"),
    ],
)
def test_who_turned_a_switch_and_why_is_kept(
    engine: sa.Engine, command, of: Company, switch: tuple[str, ...], who: str
) -> None:
    name, *to = switch
    assert command("tenant", name, of.id, *to, "--as", who, *WHY).code == 0
    kept = one(engine, "select actor || ': ' || reason from ops.incidents")
    assert kept.split(" ")[0].rstrip(":") == who
    assert kept.endswith(": it's wrong")


def test_a_reason_of_nothing_turns_no_switch(engine: sa.Engine, command, of: Company) -> None:
    for switch in (("disable",), ("enable",), ("mode", "shadow"), ("gates", "off")):
        name, *to = switch
        assert "needs its reason" in command("tenant", name, of.id, *to, "--as", "olga", "--why", " ").text
    assert one(engine, "select revenue_os_enabled and cfo_expansion_enabled from spine.tenants")


def test_a_stop_offers_a_command_that_takes_a_change_back(engine: sa.Engine, command, of: Company) -> None:
    [standing] = approve(engine, of.id, action())
    dispatch.run_due(engine, **means())
    told = command("tenant", "disable", of.id, "--as", "olga", *WHY).text
    assert str(standing)[:8] in told
    offered = next(line for line in told.splitlines() if line.startswith("Take one back:"))
    words = shlex.split(offered.removeprefix("Take one back:"))
    assert command(*words[1:]).code == 0
    assert row_of(engine, standing).execution_status in ("reverted", "aborted")


def test_a_setting_is_set_by_who_may_agree_to_actions(engine: sa.Engine, command, of: Company) -> None:
    change = ("tenant", "setting", of.id, "--set", "crm.max_touches=6")
    assert "needs --as and --why" in command(*change).text
    assert "max is no approver or owner" in command(*change, "--as", "max", *WHY).text
    assert "did you mean max_touches?" in (
        command("tenant", "setting", of.id, "--set", "crm.max_touch=6", "--as", "ana", *WHY).text
    )
    assert one(engine, "select count(*) from spine.subsystem_settings") == 0
    (row,) = command(*change, "--as", "ana", *WHY, "--json").json
    assert (row["setting"], row["value"], row["by"]) == ("crm.max_touches", 6, "person")
    assert one(engine, "select detail ->> 'setting' from ops.incidents") == "crm.max_touches"


def test_a_configuration_that_no_cycle_could_use_is_refused(engine: sa.Engine, command, of: Company) -> None:
    who = ("--as", "olga", *WHY)
    told = command("tenant", "config", of.id, "--set", 'blocked_actions=["scael"]', *who)
    assert (told.code, "did you mean scale?" in told.text) == (1, True)
    assert one(engine, "select count(*) from spine.config_versions") == 0
    told = command("tenant", "config", of.id, "--set", 'blocked_actions=["scale"]', *who, "--json")
    assert told.json["blocked_actions"] == ["scale"]


def traced(engine: sa.Engine, candidates: Sequence[CandidateTrace]) -> str:
    """The id of a cycle that considered these."""
    world.prepare(engine)
    tenant = world.add_tenant(engine, "one")

    def deciding(given, clock, **more):
        found = world.deciding(world.action())(given, clock, **more)
        return found.model_copy(update={"trace": tuple(candidates)})

    cycles.run(engine, [tenant], clock=world.at(), trigger=world.manual(), decide=deciding)
    return str(world.cycles_of(engine, tenant)[0].id)


def candidate(dropped: str | None = None, **terms: str) -> CandidateTrace:
    amounts = {name: Decimal(terms.get(name, "-0.00")) for name in decide.TERMS}
    return CandidateTrace(
        family="scale_channel", entity=Entity(type="channel", id=str(OLGA)), owner_subsystem="campaigns",
        type="scale", target_metric="pipeline_from_paid", terms=amounts, cfo_score=sum(amounts.values()),
        dropped=dropped,
    )  # fmt: skip


def test_the_terms_of_a_trace_are_those_of_scoring() -> None:
    found = next(item.terms for item in decided(scenarios.given()).trace if item.terms)
    assert tuple(found) == decide.TERMS
    assert scoring.score(found) == sum(found[name] for name in decide.TERMS)


def test_a_trace_tells_the_terms_that_count_in_their_order(engine: sa.Engine, command) -> None:
    cycle = traced(engine, [candidate(uncertainty="-88.03", spend="-560.40", contribution="1300.00")])
    told = command("decide", "trace", cycle)
    assert "contribution 1,300, spend -560, uncertainty -88.03" in told.text
    assert "-0.00" not in told.text
    (found,) = command("decide", "trace", cycle, "--json").json["candidates"]
    assert list(found["terms"]) == list(decide.TERMS)
    assert found["entity"] == f"channel {OLGA}"


def test_a_trace_of_thirteen_candidates_is_read_at_once(engine: sa.Engine, command) -> None:
    longest = candidate("what it stands with may not be: a better action of this cycle changes the same thing",
                        **dict.fromkeys(("contribution", "spend", "uncertainty"), "-12345.67"))  # fmt: skip
    shorter = candidate("7 better actions fill the cycle", contribution="35.56", uncertainty="-17.78")
    lines = command("decide", "trace", traced(engine, [longest] * 4 + [shorter] * 9)).text.splitlines()
    assert max(map(len, lines[10:])) <= 80
    assert len(lines) <= 60
    assert sum("dropped: 7 better actions fill the cycle" in line for line in lines) == 9


def test_without_a_week_the_digest_is_of_last_week(engine: sa.Engine, command) -> None:
    world.prepare(engine)
    year, week, _ = (datetime.now(UTC) - timedelta(days=7)).isocalendar()
    assert f"week {year}-W{week:02d}" in command("decide", "digest").text


def test_a_digest_may_be_asked_for_by_name(engine: sa.Engine, command, of: Company) -> None:
    world.prepare(engine)
    assert "Portfolio" in command("decide", "digest").text
    told = command("decide", "digest", "--as", "olga")
    assert (f"t-{of.id.hex[:20]}" in told.text, "Portfolio" in told.text) == (True, False)
    assert told.text == command("decide", "digest", "--as", OLGA).text
    assert "did you mean olga?" in command("decide", "digest", "--as", "olgaa").text


def test_a_name_that_several_users_have_is_refused(engine: sa.Engine, command, of: Company) -> None:
    command("tenant", "member", company(engine).id, "--add", "olga", "--role", "owner")
    told = command("decide", "digest", "--as", "olga")
    assert (told.code, "2 users are named 'olga': give the id" in told.text) == (1, True)


def test_nothing_is_decided_at_an_instant_that_has_not_been(engine: sa.Engine, command, of: Company) -> None:
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    told = command("decide", "run", "-t", of.id, "--at", later, "--mode", "shadow")
    assert (told.code, "lies in the future: name an instant that has been" in told.text) == (1, True)
    assert one(engine, "select count(*) from spine.optimization_cycles") == 0


def test_a_title_is_plain_text(engine: sa.Engine, command, of: Company) -> None:
    one(engine, "update spine.tenants set name = :name returning 1", name="[/red]\x1b[2J[bold]Evil")
    told = command("tenant", "member", of.id)
    assert (told.code, "\x1b" in told.text) == (0, False)
