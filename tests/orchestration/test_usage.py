"""Usage as the daemon and analysts meet it: what sensors ask for, what the jobs do, how a month is closed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import sqlalchemy as sa

from dagster_project.defs.usage import months, work
from dagster_project.settings import settings
from tests.integration.usage.closing import CLOSE_AT, JANUARY, Closer, closer
from tests.integration.usage.test_recovery import fails
from tests.orchestration.location import location, run, tick

LATER = JANUARY + timedelta(minutes=5)


@pytest.fixture
def shop(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Closer:
    """The definitions on a test's database and folders, in January 2026."""
    places = {name: tmp_path / name for name in ("usage_inbox", "usage_events", "usage_archive")}
    given = settings().model_copy(update=places)
    for module in (months, work):
        monkeypatch.setattr(module, "engine", lambda: engine)
        monkeypatch.setattr(module, "settings", lambda: given)
        monkeypatch.setattr(module, "_now", lambda: LATER)
    return closer(engine)


def _close(instance: dg.DagsterInstance, only: dg.AssetKey = months.SNAPSHOTS) -> dg.ExecuteInProcessResult:
    """The close alone, or what comes before it, without the marts that the job builds first."""
    return run(
        "close_usage_month", instance, partition_key="2026-01", asset_selection=[only], raise_on_error=False
    )


def test_files_in_the_inbox_are_asked_for_metered_and_put_away(
    shop: Closer, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert tick("usage_files", instance) == "0 files wait"
    folder = tmp_path / "usage_inbox" / shop.site.public_id
    folder.mkdir(parents=True)
    (folder / "day.jsonl").write_text(
        json.dumps({"url": "https://shop.example/", "sid": "one"}) + "\n", "utf-8"
    )
    (folder / "bad.xlsx").write_text("no events", "utf-8")
    assert tick("usage_files", instance).tags["files"] == "2"
    told = run("usage_intake", instance).asset_materializations_for_node
    assert told is not None
    assert shop.billable() == 1
    assert tick("usage_files", instance) == "0 files wait"
    assert (folder / "refused" / "bad.xlsx").exists()


def test_messages_are_recovered_and_handed_on(
    shop: Closer, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert tick("usage_messages", instance) == "0 messages wait"
    shop.capture("a", at=JANUARY, publisher=fails)
    shop.capture("b", at=JANUARY)
    assert tick("usage_messages", instance).tags["waiting"] == "2"
    run("usage_hand_on", instance)
    assert tick("usage_messages", instance) == "0 messages wait"
    assert len(list((tmp_path / "usage_events").glob("*/*/*.jsonl"))) == 2
    assert shop.ledger() == {"a": "RECOVERED", "b": "ACCEPTED"}


def test_months_that_changed_are_counted_once(shop: Closer, instance: dg.DagsterInstance) -> None:
    shop.capture("a", at=JANUARY)
    assert isinstance(tick("usage_months_changed", instance), dg.RunRequest)
    run("usage_recount", instance)
    assert tick("usage_months_changed", instance) == "0 tenants have something to count"
    jobs = shop.pinned("select status, last_drift_pct from usage.billing_reconciliation_jobs")
    assert [tuple(row) for row in jobs] == [("COMPLETED", 0)]


def test_the_schedule_closes_the_month_before(shop: Closer, instance: dg.DagsterInstance) -> None:
    loaded = location()
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime(2026, 3, 1, 5, tzinfo=UTC),
        repository_def=loaded.get_repository_def(),
    )
    (request,) = loaded.resolve_schedule_def("usage_close_monthly").evaluate_tick(context).run_requests
    assert request.partition_key == "2026-02"


def test_a_close_freezes_every_tenant_and_its_chain_is_checked(
    shop: Closer, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.capture("a", "b", at=JANUARY)
    shop.recount()
    monkeypatch.setattr(months, "_now", lambda: CLOSE_AT)
    done = _close(instance)
    assert done.success
    (check,) = done.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.blocking) == (
        "every_snapshot_follows_the_one_before",
        True,
        True,
    )
    assert shop.state() == "CLOSED"
    assert [row.event_count for row in shop.snapshots()] == [2]


def test_what_stands_in_the_way_of_one_tenant_fails_the_run_and_leaves_the_others_closed(
    shop: Closer, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = closer(shop.engine)
    for each in (shop, other):
        each.capture("a", at=JANUARY)
        each.recount()
    shop.pinned("update usage.usage_counters set accepted = 7 where tenant_id = :t", t=shop.tenant_id)
    monkeypatch.setattr(months, "_now", lambda: CLOSE_AT)
    done = _close(instance)
    assert not done.success
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert "1 tenants are not closed" in failure.step_failure_data.error.message
    assert (shop.state(), other.state()) == ("OPEN", "CLOSED")


def test_what_stands_in_the_way_is_told_before_and_changes_nothing(
    shop: Closer, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.capture("a", at=JANUARY)
    shop.pinned("update usage.usage_counters set accepted = 7")
    monkeypatch.setattr(months, "_now", lambda: CLOSE_AT)
    done = _close(instance, months.PREFLIGHT)
    assert done.success
    (told,) = done.asset_materializations_for_node("usage__close_preflight")
    assert told.metadata["in_the_way"].value == 1
    assert "counters.billable +6" in told.metadata["first"].value
    assert shop.state() == "OPEN"
    assert shop.snapshots() == []


def test_the_watch_has_a_check_for_everything_it_looks_at(shop: Closer, instance: dg.DagsterInstance) -> None:
    shop.capture("a", at=JANUARY, publisher=fails)
    done = run("review_usage", instance)
    failed = {
        each.check_name: each.severity for each in done.get_asset_check_evaluations() if not each.passed
    }
    assert failed == {"ingestPublishFailuresLast15m": dg.AssetCheckSeverity.WARN}


def test_the_watch_tells_people_and_goes_on_when_nobody_takes_it(
    shop: Closer, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    class People:
        is_away = True

        def tell(self, subject: str, body: str, fields: object) -> None:
            if self.is_away:
                raise ConnectionError("the hook is away")
            heard.append(subject)

    people = People()
    monkeypatch.setattr(months, "settings", lambda: SimpleNamespace(tellers=lambda: [people]))
    shop.capture("a", at=JANUARY, publisher=fails)
    told = [_told_of_watch(instance) for people.is_away in (True, False, False)]
    assert [each["alarms"] for each in told] == [0, 1, 0]
    assert len(heard) == 1


def _told_of_watch(instance: dg.DagsterInstance) -> dict:
    (made,) = run("review_usage", instance).asset_materializations_for_node("usage__watchtower")
    return made.metadata["told"].value


def test_retention_only_tells_unless_it_is_told_to_do_it(
    shop: Closer, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, end = datetime(2025, 1, 15, tzinfo=UTC), datetime(2025, 2, 1, 6, tzinfo=UTC)
    shop.capture("a", at=old)
    shop.recount(at=end)
    shop.close_month("2025-01", at=end)
    archive = months.archives()
    assert dg.materialize([archive], instance=instance).success
    assert shop.ledger()
    config = {"ops": {"usage__usage_archives": {"config": {"dry_run": False}}}}
    assert dg.materialize([archive], instance=instance, run_config=config).success
    assert not shop.ledger()
    assert len(list((tmp_path / "usage_archive").glob("*/2025-01/*.csv.gz"))) == 1
