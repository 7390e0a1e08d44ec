"""Launches, sends, crashes, callbacks and people in any order: after each step the invariants hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kernel import tenancy
from kernel.delivery import callbacks, control, invariants, reconcile, send, setup
from kernel.errors import RefusedError
from quality.certification.delivery.provider import MODES, Mode, Recorder
from quality.certification.delivery.worker import POINTS
from quality.certification.delivery.world import Launched, World

ADDRESSES = ("ann@x.co", "bob@x.co", "no-one@x.co", "later-cy@x.co", "lost-di@x.co", "eve@x.co")
# One of those there are; chosen without asking how many, for that may differ when a course of events is repeated.
WHICH = st.integers(0, 11)
_slugs = count(1)


class Killed(BaseException):
    """Ends a worker as a signal would: no handler of the program sees it."""


class Deliveries(RuleBasedStateMachine):
    world: World  # of the test that runs it

    @initialize(mode=st.sampled_from(MODES), batch=st.integers(1, 3), people=st.integers(1, len(ADDRESSES)))
    def launch(self, mode: Mode, batch: int, people: int) -> None:
        slug = f"state-{next(_slugs)}"
        self.mode, self.batch = mode, batch
        self.launched: Launched = self.world.launch(slug, ADDRESSES[:people], mode=mode, batch=batch, chunk=2)
        self.kill_at: str | None = None
        self.workers = count(1)

    # What machines do -----------------------------------------------------------------------------------------------

    @rule()
    def a_worker_sends(self) -> None:
        send.work(self._worker(), max_jobs=2)

    @rule(point=st.sampled_from(POINTS))
    def a_worker_is_killed(self, point: str) -> None:
        try:
            send.work(self._worker(point), max_jobs=2)
        except Killed:
            return

    @rule(point=st.none() | st.sampled_from(("effect", "claimed")))
    def what_is_stalled_is_settled(self, point: str | None) -> None:
        worker = self._worker(point)
        try:
            reconcile.sweep(worker)
            reconcile.settle_stalled(worker)
            reconcile.look_up_cases(worker)
        except Killed:
            return

    @rule()
    def time_passes(self) -> None:
        with self.world.engine.begin() as connection:
            for change in (
                "job_queue set lease_expires_at = now() where status = 'locked'",
                "job_queue set scheduled_for = now() where status = 'queued' and scheduled_for <> 'infinity'",
                "channel_outbox set settled_at = settled_at - interval '1 minute' where status = 'queued'",
                "attempts set deadline_at = now() where state = 'dispatching'",
                "reconciliation_cases set next_lookup_at = now() where next_lookup_at is not null",
            ):
                connection.exec_driver_sql(f"update delivery.{change}")

    @rule(which=WHICH, kind=st.sampled_from(["delivered", "opened", "bounced", "unsubscribed"]))
    def a_callback_comes(self, which: int, kind: str) -> None:
        known = self.world.ledger.references(self.launched.account)
        if not known:
            return
        reference = known[which % len(known)]
        event = {"event_id": f"{kind}-{reference}", "kind": kind, "reference": reference}
        with self.world.engine.begin() as connection:
            tenancy.service(connection, self.launched.tenant_id)
            query = sa.text("select * from delivery.provider_accounts where id = :id")
            account = connection.execute(query, {"id": self.launched.account_id}).one()
            signed = {"signature": "recorder"}
            callbacks.receive(
                connection,
                account,
                self._provider(),
                signed,
                json.dumps([event]).encode(),
                at=datetime.now(UTC),
            )

    @rule()
    def the_provider_opens_up(self) -> None:
        self.world.ledger.open_up(self.launched.account)

    # What people do -------------------------------------------------------------------------------------------------

    @rule(which=WHICH, what=st.sampled_from([control.pause, control.resume, control.cancel, control.retry]))
    def somebody_asks(self, which: int, what: Any) -> None:
        runs = self._asked("select id from delivery.campaign_runs order by created_at, id")
        run_id = runs[which % len(runs)].id
        with self.world.engine.connect() as connection:
            try:
                with connection.begin():
                    what(connection, self.launched.tenant_id, run_id, actor="ann", at=datetime.now(UTC))
            except RefusedError:
                return

    @rule(which=WHICH, may_abandon=st.booleans())
    def somebody_finds_out(self, which: int, may_abandon: bool) -> None:
        """Truthfully: a case is accepted when the message went out."""
        cases = self._asked(
            "select id, attempt_id from delivery.reconciliation_cases where resolution is null order by id"
        )
        if not cases:
            return
        case = cases[which % len(cases)]
        went_out = self.world.ledger.knows(self.launched.account, str(case.attempt_id))
        resolution = "accepted" if went_out else "abandoned" if may_abandon else "rejected"
        with self.world.engine.begin() as connection:
            reconcile.resolve(
                connection, self.launched.tenant_id, case.id, resolution, actor="bob",
                note="asked the provider's log", at=datetime.now(UTC),
            )  # fmt: skip

    @rule(address=st.sampled_from(ADDRESSES))
    def somebody_opts_out(self, address: str) -> None:
        with self.world.engine.begin() as connection:
            setup.suppress(connection, self.launched.tenant_id, [address], reason="opt_out", source="test")

    # What holds -----------------------------------------------------------------------------------------------------

    @invariant()
    def nobody_is_contacted_twice(self) -> None:
        assert max(self.world.effects(self.launched).values(), default=0) <= 1

    @invariant()
    def every_invariant_holds(self) -> None:
        with self.world.engine.begin() as connection:
            tenancy.service(connection)
            assert invariants.check(connection, self.launched.tenant_id) == []

    @invariant()
    def who_stands_as_sent_was_reached_and_who_is_done_otherwise_was_not(self) -> None:
        reached = self.world.effects(self.launched)
        for address, status in self.world.items(self.launched).items():
            if status in ("sent", "queued", "failed", "skipped", "cancelled", "abandoned"):
                assert (reached[address] > 0) == (status == "sent"), (address, status)

    def _asked(self, query: str) -> Sequence[sa.Row[Any]]:
        with self.world.engine.begin() as connection:
            tenancy.service(connection, self.launched.tenant_id)
            return connection.execute(sa.text(query)).all()

    def teardown(self) -> None:
        """Whatever happened, it can be brought to an end."""
        try:
            for run in self._asked("select id from delivery.campaign_runs where paused_at is not null"):
                with self.world.engine.begin() as connection:
                    at = datetime.now(UTC)
                    control.resume(connection, self.launched.tenant_id, run.id, actor="ann", at=at)
            for _ in range(8):
                self.time_passes()
                self.what_is_stalled_is_settled(None)
                send.work(self._worker(), max_jobs=10)
            still = (
                "select status from delivery.campaign_runs where status in ('queued', 'running', 'paused')"
            )
            assert self._asked(still) == []
            self.nobody_is_contacted_twice()
            self.every_invariant_holds()
        finally:
            with self.world.engine.begin() as connection:
                connection.exec_driver_sql(
                    "update delivery.job_queue set status = 'cancelled' where status in ('queued', 'locked')"
                )

    def _provider(self, at: Any = lambda _: None) -> Recorder:
        return Recorder(
            self.world.ledger, self.launched.account, self.mode, worker="state", timeout=timedelta(seconds=5),
            batch=self.batch, at=at,
        )  # fmt: skip

    def _worker(self, kill_at: str | None = None) -> send.Worker:
        def at(point: str) -> None:
            if point == kill_at:
                raise Killed

        def provider_of(_: sa.Row[Any]) -> Recorder:
            at("claimed")
            return self._provider(at)

        return send.Worker(self.world.engine, f"w{next(self.workers)}", provider_of, parallel=1, at=at)


def run_with(world: World, examples: int, steps: int) -> None:
    class Here(Deliveries):
        pass

    Here.world = world
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Here, settings=chosen)


def test_whatever_happens_in_whichever_order_the_invariants_hold(world: World) -> None:
    run_with(world, 15, 25)


@pytest.mark.slow
def test_whatever_happens_for_long_the_invariants_hold(world: World) -> None:
    run_with(world, 300, 50)
