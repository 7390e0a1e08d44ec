"""What a user of the tenant can do with SQL alone."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from tests.fakes.approved import Company, action, company, row_of
from tests.integration.actions.proposals import ANA, LATER, MAX, OLGA, call, shown, status, store, waiting


@pytest.fixture
def member(engine: sa.Engine, of: Company):
    """Runs SQL as the role of a tenant's users, as one of them."""

    def run(statement: str, who: UUID = ANA, tenant: UUID = of.id, **given):
        with engine.begin() as connection:
            tenancy.member(connection, tenant)
            connection.execute(sa.text("select set_config('app.user_id', :who, true)"), {"who": str(who)})
            found = connection.execute(sa.text(statement), given)
            return found.all() if found.returns_rows else found.rowcount

    return run


APPROVE = "select spine.acknowledge_action(:id, :hash)"
REJECT = "select spine.reject_action(:id, :why)"


def fresh(engine: sa.Engine, of: Company, **more) -> UUID:
    """Proposed at this moment of the server, whose clock decides for members."""
    made = action(requires_acknowledgment=True, **more)
    return store(engine, of.id, made, at=datetime.now(UTC))[0]


def test_a_member_reads_and_approves_but_writes_no_table(engine, of, member):
    id_ = fresh(engine, of)
    for statement in (
        "update spine.optimization_actions set execution_status = 'approved'",
        "delete from spine.optimization_actions",
        "update spine.user_tenants set role = 'owner'",
        "insert into spine.user_tenants (tenant_id, user_id, name, role)"
        f" values ('{of.id}', gen_random_uuid(), 'me', 'owner')",
        "insert into spine.action_events (tenant_id, optimization_action_id, at, to_status, actor)"
        f" values ('{of.id}', '{id_}', now(), 'approved', 'ana')",
        "update spine.tenants set revenue_os_enabled = true",
        "insert into spine.budget_entries (tenant_id, optimization_action_id, month, daily_amount, month_amount,"
        f" at, reason) values ('{of.id}', '{id_}', '2026-05-01', -1, -1, now(), 'x')",
    ):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            member(statement)
    assert [row.id for row in member("select id from spine.optimization_actions")] == [id_]
    member(APPROVE, id=id_, hash=shown(engine, id_))
    assert status(engine, id_) == "approved"


def test_a_member_cannot_choose_the_instant(engine, of, member):
    id_ = waiting(engine, of.id)  # proposed long before the server's today
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied for function"):
        member("select spine.acknowledge_action(:id, :hash, :at)", id=id_, hash=shown(engine, id_), at=LATER)
    with pytest.raises(sa.exc.DBAPIError, match="the action expired at"):
        member(APPROVE, id=id_, hash=shown(engine, id_))
    with pytest.raises(sa.exc.DBAPIError, match="the action expired at"):
        member(REJECT, id=id_, why="late")


def test_a_member_neither_sees_nor_answers_another_tenants_action(engine, of, member):
    other = company(engine)
    id_ = fresh(engine, other)
    assert member("select id from spine.optimization_actions") == []
    with pytest.raises(sa.exc.DBAPIError, match="the tenant has no action"):
        member(APPROVE, id=id_, hash=shown(engine, id_))
    with pytest.raises(sa.exc.DBAPIError, match="no approver of the tenant"):
        member(APPROVE, tenant=other.id, id=id_, hash=shown(engine, id_))


def test_a_member_who_is_no_approver_or_unnamed_answers_nothing(engine, of, member):
    id_ = fresh(engine, of)
    for statement, word in ((APPROVE, {"hash": shown(engine, id_)}), (REJECT, {"why": "no"})):
        with pytest.raises(sa.exc.DBAPIError, match="no approver of the tenant"):
            member(statement, who=MAX, id=id_, **word)
    with pytest.raises(sa.exc.DBAPIError, match="no approver of the tenant"):
        member("select set_config('app.user_id', '', true), spine.acknowledge_action(:id, 'x')", id=id_)


def test_a_member_answers_neither_a_stale_hash_nor_their_own_proposal(engine, of, member):
    id_ = fresh(engine, of)
    with pytest.raises(sa.exc.DBAPIError, match="show it again and approve what you see then"):
        member(APPROVE, id=id_, hash="0" * 64)
    made = call(engine, "edit", of, ANA, id_, 5, "less", datetime.now(UTC), gates_of=lambda *_: ())
    with pytest.raises(sa.exc.DBAPIError, match="whoever proposed a change may not acknowledge it"):
        member(APPROVE, id=id_, hash=made)
    member(APPROVE, who=OLGA, id=id_, hash=made)
    assert row_of(engine, id_).acknowledged_by == OLGA
