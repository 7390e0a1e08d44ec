"""The invariants of deliveries: they hold after whatever the kernel does, and each names what breaks it alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from dagster_project import database
from dagster_project.cli import app
from kernel import tenancy
from kernel.delivery import control, fence, invariants, reconcile, send
from kernel.delivery.providers.base import Capabilities, Outcome
from kernel.delivery.reconcile import settle_stalled, sweep
from tests.fakes import campaigns

ACCEPTED = "(select id from delivery.channel_outbox where status = 'sent' order by address limit 1)"
OTHER = "(select id from delivery.channel_outbox where status = 'sent' order by address desc limit 1)"
UNKNOWN = "(select id from delivery.channel_outbox where status = 'unknown')"
# What each invariant forbids, done by the owner of the tables, whom neither kernel nor policies hold back.
BROKEN = {
    "one_accepted_attempt_per_item": f"""
        insert into delivery.attempts (
            tenant_id, id, item_id, n, run_id, job_id, lease_token, account_id, provider, provider_key, request_hash, state, started_at,
            deadline_at, finished_at, provider_message_id
        )
        select tenant_id, '00000000-0000-0000-0000-0000000000aa', item_id, 2, run_id, job_id, lease_token, account_id, provider, 'again',
            request_hash, state, started_at, deadline_at, finished_at, 'again'
        from delivery.attempts where item_id = {ACCEPTED};
        insert into delivery.usage_entries (tenant_id, attempt_id, meter, kind, units, at)
        select tenant_id, id, 'email', kind, 1, started_at
        from delivery.attempts cross join unnest(array['reserve', 'commit']) as kind where provider_key = 'again';
        update delivery.channel_outbox set attempts = 2, provider_message_id = 'again' where id = {ACCEPTED}""",
    "no_ended_run_has_open_items": "update delivery.campaign_runs set status = 'completed'",
    # Of a run that goes on, in which an item may be queued.
    "no_dead_job_has_queued_items": """
        update delivery.job_queue set status = 'dead';
        update delivery.campaign_runs set status = 'running';
        update delivery.channel_outbox set status = 'queued' where status = 'failed'""",
    "counts_equal_item_totals": "update delivery.campaign_runs set accepted = accepted + 1",
    "no_attempt_is_overdue_without_a_case": "",
    "no_attempt_has_a_later_token_than_its_job": f"update delivery.attempts set lease_token = 99 where item_id = {ACCEPTED}",
    "every_accepted_attempt_can_be_shown": f"""
        update delivery.attempts set provider_message_id = null where item_id = {ACCEPTED};
        update delivery.channel_outbox set provider_message_id = null where id = {ACCEPTED}""",
    "every_item_belongs_to_its_runs": f"""
        insert into delivery.workspaces (tenant_id, name) select id, 'other' from spine.tenants;
        update delivery.channel_outbox set workspace_id = (select id from delivery.workspaces where name = 'other')
        where id = {ACCEPTED}""",
    "nobody_is_contacted_twice": """
        update delivery.channel_outbox set address = 'one@example.com' where status = 'sent'""",
    "usage_is_committed_once": f"""
        insert into delivery.usage_entries (tenant_id, attempt_id, meter, kind, units, at)
        select tenant_id, id, 'email', 'release', 1, started_at from delivery.attempts where item_id = {ACCEPTED}""",
    "no_message_of_a_provider_is_two_items": """
        drop index delivery.attempts_message_key;
        update delivery.attempts set provider_message_id = 'one' where state = 'accepted';
        update delivery.channel_outbox set provider_message_id = 'one' where status = 'sent'""",
    "every_item_agrees_with_its_last_attempt": f"""
        update delivery.channel_outbox set status = case status when 'sent' then 'failed' else 'sent' end
        where id = {OTHER} or status = 'failed'""",
    "unknown_items_and_open_cases_are_the_same": f"""
        insert into delivery.reconciliation_cases (tenant_id, item_id, run_id, opened_at, reason, due_at)
        select tenant_id, id, run_id, now(), 'invented', now() from delivery.channel_outbox where id = {ACCEPTED}""",
    "every_audit_chain_verifies": """
        alter table delivery.audit_events disable trigger refuse_change;
        update delivery.audit_events set actor = 'somebody else' where event = 'campaign_deployed'""",
}
ALSO_BROKEN = {
    "no_ended_run_has_open_items": "update delivery.campaign_runs set status = 'cancelled'",
    "usage_is_committed_once": """
        insert into delivery.usage_entries (tenant_id, attempt_id, meter, kind, units, at)
        select tenant_id, id, 'sms', 'commit', 0, started_at from delivery.attempts where state = 'accepted'""",
    "every_item_agrees_with_its_last_attempt": f"update delivery.channel_outbox set attempts = 7 where id = {ACCEPTED}",
    "unknown_items_and_open_cases_are_the_same": f"delete from delivery.reconciliation_cases where item_id = {UNKNOWN}",
    "every_audit_chain_verifies": """
        alter table delivery.audit_events disable trigger refuse_change;
        delete from delivery.audit_events where number = 1""",
    "counts_equal_item_totals": "update delivery.campaign_runs set status = 'running', intended = 7",
}
# Looked for in runs of any age: what is under way or open has an index of its own.
OF_EVERY_RUN = {
    "no_attempt_is_overdue_without_a_case",
    "no_dead_job_has_queued_items",
    "unknown_items_and_open_cases_are_the_same",
}
LATELY = datetime.now(UTC) - timedelta(days=2)


@pytest.fixture
def company(engine: sa.Engine) -> UUID:
    """One run with items of every outcome, the last of them unknown."""
    tenant_id = campaigns.add_company(engine, "acme")
    campaigns.launched(engine, tenant_id)
    send.work(campaigns.worker(engine))
    campaigns.later(engine)
    send.work(campaigns.worker(engine))
    campaigns.later(engine)
    send.work(campaigns.worker(engine))
    return tenant_id


def _do(engine: sa.Engine, commands: str) -> None:
    with engine.begin() as connection:
        for command in filter(str.strip, commands.split(";")):
            connection.exec_driver_sql(command)


def _broken(
    engine: sa.Engine, tenant_id: UUID | None = None, since: datetime | None = None
) -> list[invariants.Violation]:
    with engine.begin() as connection:
        return invariants.check(connection, tenant_id, since=since)


def _one(engine: sa.Engine, query: str):
    with engine.connect() as connection:
        return connection.exec_driver_sql(query).one()


def test_every_invariant_is_broken_by_a_test() -> None:
    assert set(BROKEN) == set(invariants.INVARIANTS)


@pytest.mark.parametrize(
    ("name", "command"), [each for each in (*BROKEN.items(), *ALSO_BROKEN.items()) if each[1]]
)
def test_what_breaks_an_invariant_is_told_by_it_alone(
    engine: sa.Engine, company: UUID, name: str, command: str
) -> None:
    assert _broken(engine) == []
    _do(engine, command)
    found = _broken(engine)
    assert {each.invariant for each in found} == {name}
    assert {each.tenant_id for each in found} == {company}
    assert all(each.why for each in found)


@pytest.mark.parametrize(
    ("name", "command"), [each for each in (*BROKEN.items(), *ALSO_BROKEN.items()) if each[1]]
)
def test_what_breaks_an_invariant_of_a_late_run_is_found_without_looking_at_old_ones(
    engine: sa.Engine, company: UUID, name: str, command: str
) -> None:
    _do(engine, command)
    assert {each.invariant for each in _broken(engine, since=LATELY)} == {name}


@pytest.mark.parametrize("name", sorted({*BROKEN} - OF_EVERY_RUN))
def test_what_breaks_an_invariant_of_an_old_run_is_left_to_the_look_at_everything(
    engine: sa.Engine, company: UUID, name: str
) -> None:
    _do(engine, BROKEN[name])
    _do(
        engine,
        "update delivery.reconciliation_cases set resolution = 'abandoned', resolved_at = now() where resolution is null;"
        " update delivery.campaign_runs set status = 'partial', updated_at = now() - interval '3 days'",
    )
    assert _broken(engine, since=LATELY) == []
    assert name in {each.invariant for each in _broken(engine)}


def test_an_attempt_is_overdue_only_a_quarter_of_an_hour_after_its_deadline(engine: sa.Engine) -> None:
    _silenced(engine)
    for late, expected in ((14, set()), (16, {"no_attempt_is_overdue_without_a_case"})):
        _do(engine, f"update delivery.attempts set deadline_at = now() - interval '{late} minutes'")
        assert {each.invariant for each in _broken(engine)} == expected


def test_at_most_so_many_rows_of_an_invariant_are_told(engine: sa.Engine, company: UUID) -> None:
    _do(engine, "update delivery.attempts set lease_token = 99")
    with engine.begin() as connection:
        assert len(invariants.check(connection, most=2)) == 2


def test_a_tenant_is_told_of_its_own_rows_alone(engine: sa.Engine, company: UUID) -> None:
    other = campaigns.add_company(engine, "other")
    _do(engine, BROKEN["counts_equal_item_totals"])
    assert _broken(engine, other) == []
    assert [each.tenant_id for each in _broken(engine, company)] == [company]


def _silenced(engine: sa.Engine) -> UUID:
    """A company whose worker went silent between its attempts and the call."""
    tenant_id = campaigns.add_company(engine, "silent")
    campaigns.launched(engine, tenant_id)

    class Killed(BaseException):
        """Nothing catches it, as nothing catches the end of a process."""

    def die(point: str) -> None:
        if point == "about to call":
            raise Killed

    with pytest.raises(Killed):
        send.work(campaigns.worker(engine, at=die, parallel=1))
    return tenant_id


def test_the_invariants_hold_after_a_lost_worker_and_its_recovery(engine: sa.Engine) -> None:
    tenant_id = _silenced(engine)
    assert _broken(engine) == []
    _do(
        engine,
        "update delivery.attempts set deadline_at = now(); update delivery.job_queue set lease_expires_at = now()",
    )
    keyed = campaigns.Scripted(
        capabilities=Capabilities(key_window=timedelta(days=1), timeout=timedelta(seconds=5))
    )
    recovery = campaigns.worker(engine, keyed)
    assert sweep(recovery) == 1
    assert settle_stalled(recovery)["sent"] == 2
    assert _broken(engine) == []
    campaigns.later(engine)
    send.work(recovery)
    assert _broken(engine, tenant_id) == []


def test_the_invariants_hold_after_a_retry_and_what_a_person_resolved(
    engine: sa.Engine, company: UUID
) -> None:
    run = _one(engine, "select id, status, rejected, unknown from delivery.campaign_runs")
    assert (run.status, run.rejected, run.unknown) == ("needs_reconciliation", 1, 1)
    now = datetime.now(UTC)
    with engine.begin() as connection:
        again = control.retry(connection, company, run.id, actor="ann", at=now)
    assert _broken(engine) == []
    send.work(campaigns.worker(engine, campaigns.Scripted(said={})))
    assert _broken(engine) == []
    (case_id,) = _one(engine, "select id from delivery.reconciliation_cases")
    with engine.begin() as connection:
        note = "found in the inbox of the person"
        reconcile.resolve(connection, company, case_id, "accepted", actor="bob", note=note, at=now)
    assert _broken(engine) == []
    statuses = _one(
        engine, "select array_agg(status order by retry_of_run_id nulls first) from delivery.campaign_runs"
    )
    assert (again.items, statuses[0]) == (1, ["partial", "completed"])


def test_the_invariants_hold_after_a_cancellation_and_after_a_fence(engine: sa.Engine) -> None:
    cancelled, restored = (campaigns.add_company(engine, slug) for slug in ("one", "two"))
    run_id = campaigns.launched(engine, cancelled)
    campaigns.launched(engine, restored)
    with engine.begin() as connection:
        assert control.cancel(connection, cancelled, run_id, actor="ann", at=datetime.now(UTC)) == 4
    with engine.begin() as connection:
        tenancy.service(connection, restored)
        assert fence.close(connection, restored, actor="ann") == 4
    assert _broken(engine) == []
    (case_id,) = _one(engine, "select id from delivery.reconciliation_cases order by id limit 1")
    with engine.begin() as connection:
        told = {"actor": "bob", "note": "found in the inbox of the person", "at": datetime.now(UTC)}
        reconcile.resolve(connection, restored, case_id, "accepted", **told)
    assert _broken(engine) == []


def test_a_provider_that_never_said_an_id_is_seen(engine: sa.Engine) -> None:
    tenant_id = campaigns.add_company(engine, "mute")
    campaigns.launched(engine, tenant_id)
    mute = campaigns.Scripted(said={"taken": Outcome("accepted")})
    send.work(campaigns.worker(engine, mute))
    found = _broken(engine)
    assert [each.invariant for each in found] == ["every_accepted_attempt_can_be_shown"]


def test_a_command_looks_at_everything_and_fails_for_what_is_broken(
    engine: sa.Engine, company: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "engine", lambda: engine)
    monkeypatch.setattr(database, "url", lambda: str(engine.url))
    asked = ["certify", "invariants", "-t", "acme"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    _do(engine, BROKEN["counts_equal_item_totals"])
    _do(engine, "update delivery.campaign_runs set updated_at = now() - interval '1 year'")
    told = CliRunner().invoke(app, asked)
    assert (told.exit_code, "1 rules of deliveries are broken" in told.output) == (1, True)
    assert "counts_equal_item_totals" in told.output
