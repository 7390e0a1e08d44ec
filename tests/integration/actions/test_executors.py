"""Every subsystem has an executor, every cell of the matrix reaches its target, and targets may be remote."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel.actions import intents
from kernel.actions.configuration import Address, Denied, InDoubt, PostgresConfiguration, Rejected, Transient
from kernel.actions.dispatch import DispatchReport, reconcile, run_due
from kernel.actions.executors import REGISTRY, executor_of
from kernel.actions.executors.base import Assignment
from kernel.actions.http_configuration import HttpConfiguration
from kernel.actions.matrix import MATRIX, TICKETS
from kernel.decisions.contract import Action
from models.vocabulary import ACTION_TYPES, SUBSYSTEMS
from tests.fakes.approved import (
    Clock,
    Company,
    action,
    approve,
    budget_change,
    company,
    means,
    one,
    row_of,
    settings_of,
)
from tests.fakes.configuration_server import ConfigurationServer

TENANT = UUID(int=1)

# What each cell of the matrix changes, and to what: a cell that is missing here fails its test.
CHANGES: dict[tuple[str, str], tuple[str, Any]] = {
    ("config_change", "campaigns"): ("budget_daily", "120"),
    ("config_change", "crm"): ("max_touches", 7),
    ("config_change", "pricing"): ("tier_threshold", [1, 10, 100]),
    ("config_change", "routing"): ("round_robin_enabled", True),
    ("config_change", "content"): ("cta_text", "Talk to us"),
    ("experiment", "campaigns"): ("bidding_strategy", {"kind": "target_cpa"}),
    ("experiment", "crm"): ("sequence_delay_days", 3),
    ("experiment", "pricing"): ("trial_days", 30),
    ("experiment", "content"): ("subject_line", "Hello"),
    ("pause", "campaigns"): ("status", "paused"),
    ("pause", "crm"): ("status", "paused"),
    ("scale", "campaigns"): ("budget_daily", "150.50"),
    ("scale", "routing"): ("capacity_per_rep", 40),
    ("revert", "campaigns"): ("budget_daily", "90"),
    ("revert", "crm"): ("max_touches", 5),
    ("revert", "pricing"): ("discount_max_pct", 10),
    ("revert", "routing"): ("overflow_queue", "q1"),
    ("revert", "content"): ("variant_weights", {"a": 50, "b": 50}),
}


def cells() -> list[tuple[str, str]]:
    return [(kind, subsystem) for kind in MATRIX for subsystem in sorted(MATRIX[kind])]


def change(of: Company, kind: str, subsystem: str) -> Action:
    if kind in TICKETS:
        return action(subsystem, "notes", "x", type=kind)
    field, new = CHANGES[kind, subsystem]
    entity = ("channel", of.channel) if subsystem == "campaigns" else None
    return action(subsystem, field, new, type=kind, entity=entity)


def test_every_subsystem_of_the_vocabulary_has_an_executor():
    assert set(REGISTRY) == set(SUBSYSTEMS)
    assert all(name == executor.subsystem for name, executor in REGISTRY.items())


def test_an_orphaned_subsystem_is_noticed():
    assert set({**REGISTRY} | {"billing": None}) != set(SUBSYSTEMS)
    orphan = Assignment(TENANT, TENANT, action("crm"))
    with pytest.raises(Rejected, match="nothing is registered that carries out actions of crm"):
        executor_of(orphan, {})


def test_the_matrix_knows_every_type_and_subsystem():
    assert {kind for kind, _ in cells()} == set(ACTION_TYPES)
    assert {subsystem for _, subsystem in cells()} == set(SUBSYSTEMS)


@pytest.mark.parametrize(("kind", "subsystem"), cells())
def test_a_cell_of_the_matrix_is_carried_out(
    module_engine: sa.Engine, kind: str, subsystem: str, monkeypatch
):
    monkeypatch.setattr("kernel.actions.matrix.validate", lambda *_, **__: None)
    of = company(module_engine)
    asked = change(of, kind, subsystem)
    (id_,) = approve(module_engine, of.id, asked)
    assert run_due(module_engine, **means()) == DispatchReport(applied=1)
    assert row_of(module_engine, id_).execution_status == "observing"
    assignment = Assignment(of.id, id_, asked)
    executor = executor_of(assignment)
    tickets = one(module_engine, "select count(*) from spine.action_tickets where tenant_id = :id", id=of.id)
    assert tickets == (executor.goes_to == "tickets")
    if not tickets:
        port = PostgresConfiguration(module_engine)
        assert executor.read(port, assignment).value == executor.wanted(assignment)


@pytest.fixture(scope="module")
def module_engine(module_database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(module_database_url)
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    ("entity", "field", "value"),
    [
        ("channel", "budget_daily", "99.99"),
        ("channel", "status", "paused"),
        ("channel", "bidding_strategy", {"kind": "manual"}),
        ("campaign", "budget_total", "6000"),
        ("campaign", "status", "paused"),
        ("campaign", "target_segment", {"segment": "smb"}),
        ("campaign", "end_date", "2026-12-31"),
        ("campaign", "end_date", None),
        ("campaign", "target_segment", None),
    ],
)
def test_a_field_of_campaigns_reads_back_as_it_was_written(
    module_engine, entity: str, field: str, value: Any
):
    of = company(module_engine)
    port = PostgresConfiguration(module_engine)
    address = Address(of.id, "campaigns", entity, str(getattr(of, entity)), field)
    others = {name: held for name, held in port.read(address).entity.items() if name != field}
    port.write(address, value, "key")
    found = port.read(address)
    assert (found.value, found.changed_by) == (value, "key")
    assert {name: held for name, held in port.read(address).entity.items() if name != field} == others


def test_a_paused_channel_is_paused_in_the_spine_and_a_running_one_active(module_engine: sa.Engine):
    of = company(module_engine)
    port = PostgresConfiguration(module_engine)
    address = Address(of.id, "campaigns", "channel", str(of.channel), "status")
    query = "select status from spine.spine_campaign_channels where id = :id"
    port.write(address, "paused", "k1")
    assert one(module_engine, query, id=of.channel) == "paused"
    port.write(address, "running", "k2")
    assert one(module_engine, query, id=of.channel) == "active"


@pytest.mark.parametrize(
    ("entity", "field", "told"),
    [
        (("channel", "gone"), "budget_daily", "is no id of a channel"),
        (("channel", UUID(int=9)), "budget_daily", "it was removed, or the action names another tenant's"),
        (("campaign", UUID(int=9)), "budget_daily", "belongs to a channel, not to a campaign"),
        (("tenant", ""), "status", "belongs to a channel or campaign, not to a tenant"),
    ],
)
def test_what_campaigns_cannot_change_is_rejected_with_the_reason(module_engine, entity, field, told):
    of = company(module_engine)
    (id_,) = approve(module_engine, of.id, action("campaigns", field, "5", entity=entity))
    assert run_due(module_engine, **means()).failed == 1
    assert told in row_of(module_engine, id_).reason


def test_another_tenants_channel_cannot_be_changed(module_engine: sa.Engine):
    ours, theirs = company(module_engine), company(module_engine)
    approve(module_engine, ours.id, budget_change(theirs))
    assert run_due(module_engine, **means()).failed == 1
    query = "select daily_budget from spine.spine_campaign_channels where id = :id"
    assert one(module_engine, query, id=theirs.channel) == 100


def test_an_amount_that_is_none_is_rejected(module_engine: sa.Engine):
    of = company(module_engine)
    (id_,) = approve(module_engine, of.id, budget_change(of, new="much"))
    assert run_due(module_engine, **means()).failed == 1
    assert "budget_daily is an amount, not 'much'" in row_of(module_engine, id_).reason


def test_a_value_the_database_refuses_is_rejected(module_engine: sa.Engine):
    of = company(module_engine)
    address = Address(of.id, "campaigns", "channel", str(of.channel), "budget_daily")
    with pytest.raises(Rejected, match="cannot hold this value"):
        PostgresConfiguration(module_engine).write(address, "-5", "key")


def test_an_experiment_is_a_setting_beside_the_field_it_varies(module_engine: sa.Engine):
    of = company(module_engine)
    approve(module_engine, of.id, action("pricing", "trial_days", 30, current=14, type="experiment"))
    run_due(module_engine, **means())
    assert settings_of(module_engine, of.id) == {
        ("pricing", "experiment.trial_days"): {
            "control": 14,
            "treatment": 30,
            "control_group_pct": "80",
            "treatment_group_pct": "20",
        }
    }


def test_the_same_key_changes_a_setting_once(module_engine: sa.Engine):
    of = company(module_engine)
    port, address = PostgresConfiguration(module_engine), Address(of.id, "crm", "tenant", "", "max_touches")
    port.write(address, 7, "k1")
    port.write(address, 8, "k2")
    port.write(address, 9, "k2")
    assert port.read(address).value == 8


# The adapter to a service, against real sockets --------------------------------------------------------------------

CRM = Address(TENANT, "crm", "segment", "mid market/EU", "max_touches")


@pytest.fixture
def server() -> Iterator[ConfigurationServer]:
    with ConfigurationServer().running() as made:
        yield made


def adapter(server: ConfigurationServer) -> HttpConfiguration:
    return HttpConfiguration(server.url, token="t", timeout_seconds=0.2)


def test_a_field_of_a_service_reads_back_as_it_was_written(server: ConfigurationServer):
    port = adapter(server)
    assert port.read(CRM).value is None
    port.write(CRM, {"a": [1, True]}, "key")
    assert port.read(CRM).value == {"a": [1, True]}
    assert port.read(CRM).changed_by == "key"
    assert port.read(CRM).entity == {"max_touches": {"a": [1, True]}}


def test_a_service_applies_a_key_once(server: ConfigurationServer):
    port = adapter(server)
    port.write(CRM, 7, "key")
    port.write(CRM, 9, "key")
    assert port.read(CRM).value == 7
    assert server.changes == {"key": 1}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("500", InDoubt),
        ("500 after applying", InDoubt),
        ("conflict", InDoubt),
        ("timeout", InDoubt),
        ("timeout after applying", InDoubt),
        ("403", Denied),
        ("422", Rejected),
    ],
)
def test_what_a_service_answers_to_a_write_has_a_meaning(server, fault, told):
    server.write_faults = [fault]
    with pytest.raises(told) as raised:
        adapter(server).write(CRM, 7, "key")
    assert raised.type is told


@pytest.mark.parametrize(
    ("fault", "told"),
    [("500", Transient), ("timeout", Transient), ("nonsense", Transient), ("403", Denied), ("422", Rejected)],
)
def test_what_a_service_answers_to_a_read_has_a_meaning(server, fault, told):
    server.read_faults = [fault]
    with pytest.raises(told) as raised:
        adapter(server).read(CRM)
    assert raised.type is told


def test_a_service_that_is_not_there_has_taken_nothing():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = HttpConfiguration(f"http://127.0.0.1:{free.getsockname()[1]}", timeout_seconds=0.2)
        with pytest.raises(Transient) as raised:
            port.write(CRM, 7, "key")
    assert raised.type is Transient


@pytest.mark.parametrize("url", ["file:///etc/passwd", "host/path", "ftp://host"])
def test_only_the_web_is_an_address_of_a_service(url: str):
    with pytest.raises(ValueError, match="is no address of a configuration service"):
        HttpConfiguration(url)


@pytest.mark.parametrize(
    ("faults", "outcomes"),
    [
        ([], ["applied"]),
        (["500 after applying"], ["applied"]),
        (["timeout after applying"], ["applied"]),
        (["500"], ["retried", "applied"]),
        (["timeout"], ["retried", "applied"]),
        (["conflict"], ["retried", "applied"]),
        (["500", "timeout", "500"], ["retried", "retried", "failed"]),
        (["403"], ["failed"]),
        (["422"], ["failed"]),
    ],
    ids=lambda value: " then ".join(value) or "no fault",
)
def test_a_service_with_faults_is_changed_once_or_not_at_all(module_engine, server, faults, outcomes):
    of, clock = company(module_engine), Clock()
    (id_,) = approve(module_engine, of.id, action(new=7))
    server.write_faults = list(faults)
    for outcome in outcomes:
        report = run_due(module_engine, **means(clock=clock, port=adapter(server)))
        assert report == DispatchReport(**{outcome: 1})
        clock.move(minutes=10)
    applied = outcomes[-1] == "applied"
    assert server.changes == ({intents.key(of.id, id_, "apply"): 1} if applied else {})
    assert row_of(module_engine, id_).execution_status == ("observing" if applied else "apply_failed")


def test_a_service_that_falls_silent_is_asked_again_and_not_told_again(module_engine, server):
    of, clock = company(module_engine), Clock()
    approve(module_engine, of.id, action(new=7))
    server.write_faults, server.read_faults = ["timeout after applying"], []
    port = adapter(server)
    write = port.write

    def silent(*given: Any) -> None:
        server.read_faults = ["timeout"] * 3
        write(*given)

    port.write = silent
    assert run_due(module_engine, **means(clock=clock, port=port)).in_doubt == 1
    clock.move(minutes=20)
    assert reconcile(module_engine, **means(clock=clock, port=port)).applied == 1
    assert [verb for verb, _, _ in server.requests].count("PUT") == 1
