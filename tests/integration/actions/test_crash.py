"""A worker may be killed at any statement: the next one finds out what was done, and each change is made once.

A case forks a worker that kills itself with SIGKILL before its nth statement, commit or request, then lets a second
one carry on after the leases have run out.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel.actions import dispatch, intents
from kernel.actions.configuration import ConfigurationPort, PostgresConfiguration
from kernel.actions.executors import executor_of
from kernel.actions.executors.base import Assignment
from kernel.actions.executors.tickets import Tickets
from kernel.actions.http_configuration import HttpConfiguration
from kernel.decisions.contract import Action
from tests.fakes.approved import (
    NOW,
    Clock,
    Company,
    action,
    approve,
    budget_change,
    company,
    count_writes,
    means,
    one,
    row_of,
    writes,
)
from tests.fakes.configuration_server import ConfigurationServer

REPETITIONS = 200

Ask = Callable[[Company], Action]
ASKED: dict[str, Ask] = {
    "campaigns": budget_change,
    "crm": lambda of: action("crm", "max_touches", 7),
    "pricing": lambda of: action("pricing", "trial_days", 30, current=None, type="experiment"),
    "routing": lambda of: action("routing", "capacity_per_rep", 40, type="scale"),
    "content": lambda of: action("content", "cta_text", "Talk to us"),
    "data": lambda of: action("data", "notes", "x", type="data_correction"),
    "lifecycle": lambda of: action("lifecycle", "notes", "x", type="alert"),
    "service": lambda of: action("crm", "auto_assign", True),  # the adapter over HTTP
}


class Target(NamedTuple):
    """Where changes of all cases go; `service` for those that go over HTTP."""

    url: str
    engine: sa.Engine
    service: ConfigurationServer


@pytest.fixture(scope="module")
def target(module_database_url: str) -> Iterator[Target]:
    # A fork inherits its connections and never touches them: it works with an engine of its own.
    engine = sa.create_engine(module_database_url)
    count_writes(engine)
    with ConfigurationServer().running() as service:
        yield Target(module_database_url, engine, service)
    engine.dispose()


def port_of(target: Target, name: str, engine: sa.Engine) -> ConfigurationPort:
    if name == "service":
        return HttpConfiguration(target.service.url, timeout_seconds=2)
    return PostgresConfiguration(engine)


def _count_down(engine: sa.Engine, port: Any, step: Callable[[], None]) -> None:
    """Calls `step` before every statement and commit of the engine, and around every write of the port."""
    sa.event.listen(engine, "before_cursor_execute", lambda *_: step())
    sa.event.listen(engine, "commit", lambda *_: step())
    write = port.write

    def stepped(*given: Any) -> None:
        step()
        write(*given)
        step()

    port.write = stepped


def _work(target: Target, name: str, step: Callable[[], None]) -> dispatch.DispatchReport:
    engine = sa.create_engine(target.url)
    port = port_of(target, name, engine)
    _count_down(engine, port, step)
    try:
        return dispatch.run_due(engine, **means(port=port, worker="doomed"))
    finally:
        engine.dispose()


def killed_at(target: Target, name: str, point: int) -> bool:
    """Whether a forked worker met its end at that point; false when it had finished before."""
    child = os.fork()
    if child == 0:
        left = point

        def step() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            _work(target, name, step)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def points_of(target: Target, name: str) -> int:
    """How many places there are to die at when nobody does."""
    of = company(target.engine)
    approve(target.engine, of.id, ASKED[name](of))
    seen = 0

    def step() -> None:
        nonlocal seen
        seen += 1

    assert _work(target, name, step).applied == 1
    return seen


def recover(target: Target, name: str, id_: UUID) -> int:
    """Other workers come by every twenty minutes; how many rounds it took."""
    clock = Clock()
    given = means(clock=clock, worker="heir", port=port_of(target, name, target.engine))
    for rounds in range(6):
        if row_of(target.engine, id_).execution_status == "observing":
            return rounds
        clock.move(minutes=20)
        dispatch.reconcile(target.engine, **given)
        dispatch.run_due(target.engine, **given)
    raise AssertionError(f"still {row_of(target.engine, id_).execution_status} after six rounds")


def check(target: Target, name: str, point: int) -> bool:
    """One case. True when the worker was killed."""
    of = company(target.engine)
    asked = ASKED[name](of)
    (id_,) = approve(target.engine, of.id, asked)
    killed = killed_at(target, name, point)
    recover(target, name, id_)
    key = intents.key(of.id, id_, "apply")
    times = target.service.changes[key] if name == "service" else writes(target.engine, of.id)
    assert times == 1, f"{name} killed at {point}: {times} writes"
    assignment = Assignment(of.id, id_, asked)
    executor = executor_of(assignment)
    tickets = executor.goes_to == "tickets"
    port = Tickets(target.engine) if tickets else port_of(target, name, target.engine)
    assert executor.read(port, assignment).value == executor.wanted(assignment)
    query = "select state from spine.action_intents where tenant_id = :id"
    assert one(target.engine, query, id=of.id) == "confirmed"
    assert row_of(target.engine, id_).applied_at >= NOW
    return killed


@pytest.mark.parametrize("name", ASKED)
def test_a_killed_workers_change_is_made_once(target: Target, name: str):
    points = points_of(target, name)
    chosen = random.Random(name).sample(range(points), 3)
    assert all(check(target, name, point) for point in chosen)


def test_a_worker_that_is_not_killed_needs_no_heir(target: Target):
    assert not check(target, "crm", 10_000)


@pytest.mark.slow
def test_wherever_a_worker_is_killed_every_change_is_made_once(target: Target):
    cases = [(name, point) for name in ASKED for point in range(points_of(target, name))]
    killed = sum(check(target, name, point) for name, point in cases)
    print(f"{killed} of {len(cases)} workers were killed")
    assert killed == len(cases) >= REPETITIONS


def test_the_check_sees_a_worker_that_sends_again_without_looking(
    target: Target, monkeypatch: pytest.MonkeyPatch
):
    """Nobody looks at what stands, and the target does not know keys."""
    monkeypatch.setattr(dispatch, "stands", lambda *_: False)
    monkeypatch.setattr(dispatch, "drifted", lambda *_: False)
    monkeypatch.setattr(dispatch, "_resolve", _send_again)
    monkeypatch.setattr(target.service, "knows_keys", False)
    with pytest.raises(AssertionError, match="2 writes"):
        for point in range(points_of(target, "service")):
            check(target, "service", point)


def _send_again(worker: Any, lease: Any) -> str:
    return dispatch.move(worker, lease, "applying", "scheduled", "sent again")
