"""`revenue-os actions` at the terminal: what is listed and told, and what an answer has to name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from kernel import tenancy
from kernel.actions import dispatch
from kernel.decisions import bundle
from kernel.decisions.contract import Action, GateReading, payload_hash
from tests.fakes.approved import Company, action, budget_change, means, one, row_of
from tests.integration.actions.proposals import status, store
from tests.integration.decisions import world

Cli = Callable[..., str]
LEDGER = action(
    "data", type="alert",
    proposed_change={
        "field": "ticket", "current_value": None, "new_value": None, "description": "Look at the ledger",
    },
)  # fmt: skip
STOPS = {
    "abort_conditions": [
        {"metric_id": "pipeline_total", "operator": "lt", "threshold": "131184.812", "consecutive_days": 3}
    ]
}


@pytest.fixture(autouse=True)
def _prepared(engine: sa.Engine) -> None:
    world.prepare(engine)


@pytest.fixture
def slug(engine: sa.Engine, of: Company) -> str:
    return one(engine, "select slug from spine.tenants where id = :id", id=of.id)


@pytest.fixture
def cli(engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    from dagster_project import database, settings
    from dagster_project.cli.actions import app

    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "200")
    for cached in (settings.settings, database.url, database.engine):
        cached.cache_clear()

    def run(*arguments: str, fails: bool = False) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert (result.exception is not None) == fails, result.output
        return str(result.exception) if fails else result.output

    yield run
    database.engine().dispose()
    for cached in (settings.settings, database.url, database.engine):
        cached.cache_clear()


def proposed(engine: sa.Engine, of: Company, made, *, gates: str = "", at: datetime | None = None) -> str:
    """The id of an action proposed now, or then; `gates` is the state they had, as they are when left out."""
    at = at or datetime.now(UTC)
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        seen = bundle.gates_of(connection, of.id, at)
    if gates:
        seen = tuple(GateReading.model_validate(gate.model_dump() | {"state": gates}) for gate in seen)
    return str(store(engine, of.id, made, gates=seen, at=at)[0])


def waiting(**more):
    return action(requires_acknowledgment=True, **more)


def test_an_action_is_listed_shown_and_approved_by_its_short_names(engine, of, slug, cli):
    id_ = proposed(engine, of, waiting(current=8))
    (listed,) = json.loads(cli("list", "-t", slug, "--json"))
    assert (listed["id"], listed["execution_status"]) == (id_, "awaiting_ack")
    assert "crm.max_touches: 8 -> 7" in cli("list", "-t", slug)
    assert id_[:8] in cli("list")
    candidate = {
        "family": row_of(engine, UUID(id_)).family, "entity": None, "dropped": None,
        "terms": {"gain": "12.5", "spend": "-0.00"},
    }  # fmt: skip
    given = {"trace": json.dumps([candidate | {"family": "x", "terms": {"loss": "1"}}, candidate])}
    one(engine, "update spine.optimization_cycles set trace = cast(:trace as jsonb) returning 1", **given)
    text = cli("show", id_[:8], "-t", slug)
    assert "gain   12.50" in text
    assert "loss" not in text
    assert "-0.00" not in text
    assert "crm.max_touches: 8 -> 7" in text
    assert "cash_constrained" in text
    told = json.loads(cli("show", id_[:8], "-t", slug, "--json"))
    short = told["hash"][:16]
    assert f"--hash {short} --as NAME" in text
    assert "no approver" in cli("approve", id_[:8], "-t", slug, "--as", "max", "--hash", short, fails=True)
    assert "too short" in cli("approve", id_[:8], "-t", slug, "--as", "ana", "--hash", short[:15], fails=True)
    refused = cli("approve", id_[:8], "-t", slug, "--as", "ana", "--hash", "0" * 16, fails=True)
    assert "not what was shown" in refused
    assert short not in refused
    cli("snooze", id_[:8], "-t", slug, "--as", "ana", "--hours", "2")
    assert json.loads(cli("list", "-t", slug, "--json")) == []
    assert len(json.loads(cli("list", "-t", slug, "--all", "--json"))) == 1
    assert "revenue-os actions apply" in cli("approve", id_[:8], "-t", slug, "--as", "ana", "--hash", short)
    assert status(engine, UUID(id_)) == "approved"
    assert "aborted" in cli("abort", id_[:8], "-t", slug, "--as", "olga", "--why", "second thoughts")
    assert "only what is applied" in cli(
        "revert", id_[:8], "-t", slug, "--as", "olga", "--why", "again", fails=True
    )


def test_what_nobody_can_answer_any_more_is_not_listed_as_waiting(engine, of, slug, cli):
    late = proposed(engine, of, waiting(), at=datetime.now(UTC) - timedelta(hours=73))
    fresh = proposed(engine, of, waiting())
    assert [row["id"] for row in json.loads(cli("list", "--json"))] == [fresh]
    everything = cli("list", "--all")
    (line,) = [line for line in everything.splitlines() if late[:8] in line]
    assert "expired" in line
    shown = cli("show", late, "-t", slug)
    assert "actions approve" not in shown
    assert "nobody answered in time" in shown


def test_a_list_names_the_channel_and_the_year_and_tells_tickets_apart(engine, of, slug, cli):
    budget_id = proposed(engine, of, budget_change(of, requires_acknowledgment=True))
    proposed(engine, of, LEDGER)
    text = cli("list", "-t", slug)
    assert "campaigns.budget_daily of paid_search in Spring: 100 -> 120" in text
    assert "ticket (data): Look at the ledger" in text
    expires = row_of(engine, UUID(budget_id)).expires_at
    assert f"{expires.astimezone(UTC):%Y-%m-%d %H:%M}" in text
    assert f"paid_search in Spring (channel {of.channel})" in cli("show", budget_id, "-t", slug)


def test_when_an_action_stops_is_told_in_words(engine, of, slug, cli):
    id_ = proposed(engine, of, waiting(guardrails=STOPS))
    assert "pipeline_total is below 131,185 for 3 days" in cli("show", id_, "-t", slug)


def test_a_gate_that_closed_since_has_to_be_named_by_whoever_still_agrees(engine, of, slug, cli):
    id_ = proposed(engine, of, waiting(), gates="clear")
    one(
        engine, "update spine.optimization_actions set gate_states = gate_states - array['payback_exceeded',"
        " 'margin_below_floor'] || jsonb_build_object('payback_exceeded', cast('{\"state\": \"unknown\"}' as jsonb),"
        " 'margin_below_floor', cast('{\"state\": \"unknown\"}' as jsonb)) returning 1",
    )  # fmt: skip
    shown = cli("show", id_, "-t", slug)
    assert (
        "cash_constrained was clear when this was proposed and is unknown: cash_runway_months is missing"
        in shown
    )
    assert "--despite cash_constrained --as NAME" in shown
    answer = ["approve", id_, "-t", slug, "--as", "ana", "--hash", row_of(engine, UUID(id_)).payload_hash]
    refused = cli(*answer, fails=True)
    assert "if you still agree, say so with --despite cash_constrained" in refused
    assert status(engine, UUID(id_)) == "awaiting_ack"
    cli(*answer, "--despite", "cash_constrained")
    row = row_of(engine, UUID(id_))
    assert (row.execution_status, row.gate_states["cash_constrained"]["state"]) == ("approved", "unknown")


def test_what_is_approved_is_carried_out_by_command_and_the_history_tells_who_did_what(engine, of, slug, cli):
    id_ = proposed(engine, of, waiting())
    digest = row_of(engine, UUID(id_)).payload_hash
    cli("approve", id_, "-t", slug, "--as", "ana", "--hash", digest)
    report = json.loads(cli("apply", "--json"))
    assert (report["carried_out"]["applied"], report["settled"]["applied"]) == (1, 0)
    assert "Nothing found" in cli("apply")
    history = cli("show", id_, "-t", slug).split("History")[1]
    steps = [line.split()[2:5] for line in history.splitlines() if line.startswith("20")]
    assert steps == [
        ["kernel", "-", "awaiting_ack"],
        ["ana", "awaiting_ack", "approved"],
        ["dispatch", "approved", "claimed"],
        ["dispatch", "claimed", "applying"],
        ["dispatch", "applying", "applied"],
        ["dispatch", "applied", "observing"],
    ]
    events = json.loads(cli("show", id_, "-t", slug, "--json"))["events"]
    assert [event["actor"] for event in events][2:] == ["command"] * 4


def test_an_edited_action_marks_what_the_kernel_said_of_its_own_value(engine, of, slug, cli):
    id_ = proposed(engine, of, waiting())
    cli("edit", id_, "-t", slug, "--as", "ana", "--value", "5", "--why", "less is enough")
    shown = cli("show", id_, "-t", slug)
    assert "ana proposes max_touches 5 in place of 7: less is enough." in shown
    assert "in 14 days, of the value that the kernel proposed" in shown


def test_tickets_are_listed_and_reported_as_done(engine, of, slug, cli):
    id_ = proposed(engine, of, LEDGER)
    assert "Nothing found" in cli("tickets")
    dispatch.run_due(engine, **means(clock=lambda: datetime.now(UTC)))
    (ticket,) = json.loads(cli("tickets", "--json"))
    assert (ticket["subsystem"], ticket["action"], ticket["status"]) == ("data", id_, "open")
    text = cli("tickets", "-t", slug)
    assert "alert: Look at the ledger" in text
    assert f"{id_[:8]} observing" in text
    assert "too short" in cli("done", "abc", "-t", slug, "--as", "max", "--why", "x", fails=True)
    assert "the tenant has no ticket" in cli("done", id_, "-t", slug, "--as", "max", "--why", "x", fails=True)
    cli("done", ticket["id"][:8], "-t", slug, "--as", "max", "--why", "the ledger is complete")
    assert "Nothing found" in cli("tickets")
    everything = cli("tickets", "--all")
    assert "the ledger is complete" in everything
    assert "max" in everything
    assert status(engine, UUID(id_)) == "closed"
    assert "the ledger is complete" in cli("show", id_, "-t", slug)


def test_what_failed_verification_is_settled_by_command(engine, of, slug, cli):
    id_ = proposed(engine, of, action())
    one(
        engine, "update spine.optimization_actions set execution_status = 'verify_failed' where id = :id returning 1",
        id=UUID(id_),
    )  # fmt: skip
    refused = cli("settle", id_, "-t", slug, "--as", "max", "--why", "fine", fails=True)
    assert "no approver" in refused
    assert "not_measurable" in cli("settle", id_, "-t", slug, "--as", "ana", "--why", "fine as it is")
    assert status(engine, UUID(id_)) == "closed"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("NaN", "NaN is no number"),
        ("1e400", "1e400 is no number"),
        ("1e999999", "1e999999 is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("9" * 5000, "99999999999999999999 is no number"),
        ("[" * 100_000, "nested too deeply"),
        ('"a\\u0000b"', "cannot be seen"),
        ('{"a": "\\ud800"}', "cannot be seen"),
        ("1_000", "must be a whole number from 1 to 20, not '1_000'"),
    ],
)
def test_a_value_that_cannot_be_set_is_refused_in_a_sentence(engine, of, slug, cli, value: str, told: str):
    id_ = proposed(engine, of, waiting())
    before = row_of(engine, UUID(id_)).payload_hash
    refused = cli("edit", id_, "-t", slug, "--as", "ana", "--why", "x", "--value", value, fails=True)
    assert told in refused
    assert len(refused) < 200
    assert row_of(engine, UUID(id_)).payload_hash == before


@pytest.mark.parametrize("value", ["1_000", "１２０", "1e999999", "NaN"])
def test_a_text_that_is_no_amount_sets_no_budget(engine, of, slug, cli, value: str):
    id_ = proposed(engine, of, budget_change(of, requires_acknowledgment=True))
    asked = ["edit", id_, "-t", slug, "--as", "ana", "--why", "x", "--value", json.dumps(value)]
    assert "must be an amount" in cli(*asked, fails=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_touches", "1e1"), ("sequence_delay_days", "-0.0"), ("sequence_delay_days", "1.50")],
)
def test_an_edited_value_has_the_hash_that_dispatch_will_find(engine, of, slug, cli, field: str, value: str):
    id_ = proposed(engine, of, action("crm", field, 5, requires_acknowledgment=True))
    told = cli("edit", id_, "-t", slug, "--as", "ana", "--why", "x", "--value", value, "--json")
    row = row_of(engine, UUID(id_))
    assert json.loads(told.splitlines()[0])["hash"] == row.payload_hash
    assert row.payload_hash == payload_hash(Action.model_validate(row.payload))


def test_a_rule_with_large_numbers_has_the_hash_that_dispatch_will_find(engine, of, slug, cli):
    id_ = proposed(engine, of, action("routing", "territory_rules", {"a": 1}, requires_acknowledgment=True))
    cli("edit", id_, "-t", slug, "--as", "ana", "--why", "x", "--value", '{"a": 1e16, "b": [-0.0, 1e22]}')
    row = row_of(engine, UUID(id_))
    assert row.payload_hash == payload_hash(Action.model_validate(row.payload))


@pytest.mark.parametrize("hours", ["nan", "inf", "1e18", "0", "-1"])
def test_a_time_that_is_none_puts_nothing_off(engine, of, slug, cli, hours: str):
    id_ = proposed(engine, of, waiting())
    assert "is no time to wait" in cli("snooze", id_, "-t", slug, "--as", "ana", "--hours", hours, fails=True)


@pytest.mark.parametrize("why", ["\u200b", "\u200b\u2060 ", "\udcff", "\x1b[2Jx", "\u202ereason"])
def test_a_reason_that_nobody_can_read_is_none(engine, of, slug, cli, why: str):
    id_ = proposed(engine, of, waiting())
    refused = cli("reject", id_, "-t", slug, "--as", "ana", "--why", why, fails=True)
    assert "cannot be read: write it in plain text" in refused
    assert status(engine, UUID(id_)) == "awaiting_ack"


def test_what_a_terminal_would_obey_is_not_printed(engine, of, slug, cli):
    note = "harmless \x1b[8m[/red]hidden\x9b2J \u202eforged\nline \x1b]0;pwned\x07"
    id_ = proposed(engine, of, waiting(notes_for_humans=note, hypothesis=note))
    one(engine, "update spine.tenants set name = :name returning 1", name="\x1b[2J[bold]Evil[/bold]")
    said = cli("show", id_, "-t", slug) + cli("show", id_, "-t", slug, "--json") + cli("list")
    assert not set(said) & {"\x1b", "\x9b", "\x07", "\u202e"}
    assert "harmless [8m[/red]hidden2J forged line ]0;pwned" in said
    assert json.loads(cli("show", id_, "-t", slug, "--json"))["hypothesis"] == note
