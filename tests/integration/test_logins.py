"""An identity comes from a login: what a session says of itself changes neither its tenant nor its person."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa
from click.testing import Result
from typer.testing import CliRunner

from kernel import logins
from kernel.errors import RefusedError
from models import guards, rls
from tests.fakes.approved import Company, action, company, row_of
from tests.integration.actions.proposals import ANA, MAX, OLGA, people, store
from tests.integration.login_sessions import recorded, tenants_seen

APPROVE = sa.text("select spine.acknowledge_action(:id, :hash)")
REJECT = sa.text("select spine.reject_action(:id, 'no')")
Connect = Callable[[str], sa.Engine]


@pytest.fixture
def other(engine: sa.Engine) -> Company:
    made = company(engine)
    people(engine, made.id)
    return made


@pytest.fixture
def connect(engine: sa.Engine) -> Iterator[Connect]:
    """An engine on the test's database that logs in by that name."""
    made: list[sa.Engine] = []

    def to(login: str) -> sa.Engine:
        made.append(sa.create_engine(engine.url.set(username=login), poolclass=sa.NullPool))
        return made[-1]

    yield to
    for one in made:
        one.dispose()


def fresh(engine: sa.Engine, of: Company) -> tuple[UUID, str]:
    """An action proposed at this moment of the server, whose clock decides for members; with its hash."""
    (made,) = store(engine, of.id, action(requires_acknowledgment=True), at=datetime.now(UTC))
    return made, row_of(engine, made).payload_hash


def test_a_login_sees_its_own_tenant_whatever_it_sets(engine, of, other, make_login, connect):
    session = connect(recorded(engine, of, make_login()))
    assert tenants_seen(session) == [of.id]
    for setting in (
        f"set app.tenant_id = '{other.id}'",
        f"set local app.tenant_id = '{other.id}'",
        f"set app.user_id = '{OLGA}'",
        f"set role {rls.MEMBER}",
        "set row_security = on",
    ):
        assert tenants_seen(session, setting) == [of.id]
    assert tenants_seen(session, f"set app.tenant_id = '{other.id}'", f"set role {rls.MEMBER}") == [of.id]


def test_a_login_that_is_not_recorded_sees_nothing(of, make_login, connect):
    session = connect(make_login())
    assert tenants_seen(session) == []
    assert tenants_seen(session, f"set app.tenant_id = '{of.id}'", f"set app.user_id = '{OLGA}'") == []


def test_a_login_that_is_removed_sees_nothing_any_more(engine, of, make_login, connect):
    login = recorded(engine, of, make_login())
    session = connect(login)
    assert tenants_seen(session) == [of.id]
    with engine.begin() as connection:
        logins.remove(connection, of.id, login)
    assert tenants_seen(session) == []


def test_whoever_leaves_the_tenant_takes_their_login_along(engine, of, make_login, connect):
    session = connect(recorded(engine, of, make_login(), ANA))
    assert tenants_seen(session) == [of.id]
    with engine.begin() as connection:
        gone = sa.text("delete from spine.user_tenants where tenant_id = :tenant and user_id = :user")
        connection.execute(gone, {"tenant": of.id, "user": ANA})
    assert tenants_seen(session) == []


@pytest.mark.parametrize(
    "statement",
    [
        "set role revenue_service",
        "set role revenue_analyst",
        "set session authorization postgres",
        "set row_security = off; select * from spine.accounts",
        "create function spine.session_tenant(text) returns uuid language sql as 'select null::uuid'",
        "create or replace function spine.session_tenant() returns uuid language sql as 'select null::uuid'",
        "update spine.logins set user_id = null",
        "delete from spine.logins",
        "insert into spine.logins (tenant_id, login) select id, session_user from spine.tenants",
    ],
)
def test_a_login_cannot_become_somebody_else(engine, of, make_login, connect, statement):
    session = connect(recorded(engine, of, make_login(), ANA))
    with pytest.raises(
        sa.exc.ProgrammingError, match=r"permission denied|must be owner|affected by row-level"
    ):
        tenants_seen(session, statement)


def test_a_login_answers_as_its_own_person_alone(engine, of, make_login, connect):
    id_, shown = fresh(engine, of)
    session = connect(recorded(engine, of, make_login(), ANA))
    with session.begin() as connection:
        connection.exec_driver_sql(f"set local app.user_id = '{OLGA}'")
        connection.execute(APPROVE, {"id": id_, "hash": shown})
    row = row_of(engine, id_)
    assert (row.execution_status, row.acknowledged_by) == ("approved", ANA)


@pytest.mark.parametrize("person", [MAX, None])
@pytest.mark.parametrize("answer", [APPROVE, REJECT])
def test_a_login_of_no_approver_answers_nothing_whomever_it_names(
    engine, of, make_login, connect, person, answer
):
    id_, shown = fresh(engine, of)
    session = connect(recorded(engine, of, make_login(), person))
    with pytest.raises(sa.exc.DBAPIError, match="no approver of the tenant"), session.begin() as connection:
        connection.exec_driver_sql(f"set local app.user_id = '{OLGA}'")
        connection.execute(answer, {"id": id_, "hash": shown} if answer is APPROVE else {"id": id_})
    assert row_of(engine, id_).execution_status == "awaiting_ack"


def test_an_approver_of_one_tenant_answers_nothing_in_another(engine, of, other, make_login, connect):
    id_, shown = fresh(engine, other)
    session = connect(recorded(engine, of, make_login(), ANA))
    # Under the other tenant's setting not even its own membership is seen.
    for setting, told in (("", "the tenant has no action"), (str(other.id), "no approver of the tenant")):
        with pytest.raises(sa.exc.DBAPIError, match=told), session.begin() as connection:
            connection.exec_driver_sql(f"set local app.tenant_id = '{setting}'")
            connection.execute(APPROVE, {"id": id_, "hash": shown})


def test_a_login_that_is_not_recorded_answers_nothing(engine, of, make_login, connect):
    id_, shown = fresh(engine, of)
    session = connect(make_login())
    with pytest.raises(sa.exc.DBAPIError, match="no tenant is known"), session.begin() as connection:
        connection.exec_driver_sql(f"set local app.tenant_id = '{of.id}'; set local app.user_id = '{OLGA}'")
        connection.execute(APPROVE, {"id": id_, "hash": shown})


LOCKS = (
    "pg_advisory_lock(7283105002)",
    "pg_try_advisory_lock(7283105002)",
    "pg_advisory_lock_shared(1, 2)",
    "pg_advisory_xact_lock(1)",
    "pg_try_advisory_xact_lock_shared(1)",
)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_login_cannot_take_the_locks_the_pipeline_waits_for(engine, of, make_login, connect, lock):
    session = connect(recorded(engine, of, make_login()))
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), session.begin() as connection:
        connection.exec_driver_sql(f"select {lock}")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"set local role {rls.SERVICE}")
        connection.exec_driver_sql(f"select {lock}")


# The clock of an answer --------------------------------------------------------------------------------------------


def end_now(connection: sa.Connection, id_: UUID) -> None:
    ended = sa.text("update spine.optimization_actions set expires_at = clock_timestamp() where id = :id")
    connection.execute(ended, {"id": id_})


def test_an_action_that_ends_during_a_transaction_cannot_be_answered_in_it(engine, of, make_login, connect):
    id_, shown = fresh(engine, of)
    session = connect(recorded(engine, of, make_login(), ANA))
    with session.connect() as connection:
        connection.execute(sa.text("select now()"))  # the transaction begins before the end
        with engine.begin() as meanwhile:
            end_now(meanwhile, id_)
        with pytest.raises(sa.exc.DBAPIError, match="the action expired at"):
            connection.execute(APPROVE, {"id": id_, "hash": shown})


def test_an_answer_that_waits_past_the_end_is_refused(engine, of, make_login, connect):
    id_, shown = fresh(engine, of)
    session = connect(recorded(engine, of, make_login(), ANA))
    told: list[str] = []

    def answer() -> None:
        try:
            with session.begin() as connection:
                connection.execute(APPROVE, {"id": id_, "hash": shown})
        except sa.exc.DBAPIError as error:
            told.append(str(error.orig))

    asking = threading.Thread(target=answer)
    with engine.begin() as holder:
        held = sa.text("select from spine.optimization_actions where id = :id for update")
        holder.execute(held, {"id": id_})
        asking.start()
        waiting = sa.text("select count(*) from pg_locks where not granted")
        deadline = time.monotonic() + 10
        with engine.connect() as watching:
            while not watching.scalar(waiting) and time.monotonic() < deadline:
                time.sleep(0.01)
        end_now(holder, id_)
    asking.join(10)
    assert len(told) == 1
    assert "the action expired at" in told[0]


# What a login can be recorded for ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ("superuser", "reaches further than one tenant"),
        (f"bypassrls in role {rls.MEMBER}", "reaches further than one tenant"),
        (f"createrole in role {rls.MEMBER}", "reaches further than one tenant"),
        (f"in role {rls.MEMBER}, {rls.SERVICE}", "reaches further than one tenant"),
        (f"in role {rls.MEMBER}, {rls.ANALYST}", "reaches further than one tenant"),
        (f"in role {rls.MEMBER}, {guards.GUARD}", "reaches further than one tenant"),
        ("", "could read nothing: grant revenue_member to it first"),
    ],
)
def test_a_login_that_is_no_tenants_own_is_refused(engine, of, make_login, rest, told):
    with pytest.raises(RefusedError, match=told):
        recorded(engine, of, make_login(rest))


def test_a_login_that_does_not_exist_is_refused(engine, of):
    with pytest.raises(RefusedError, match="the database has no login nobody_here: make it with create role"):
        recorded(engine, of, "nobody_here")


def test_a_login_speaks_for_one_tenant(engine, of, other, make_login):
    login = recorded(engine, of, make_login())
    with pytest.raises(RefusedError, match=f"login {login} speaks for t-"):
        recorded(engine, other, login)
    with (
        pytest.raises(RefusedError, match=f"login {login} does not speak for the tenant"),
        engine.begin() as c,
    ):
        logins.remove(c, other.id, login)
    with pytest.raises(sa.exc.IntegrityError, match="logins_login_key"), engine.begin() as connection:
        row = {"tenant_id": other.id, "login": login}
        connection.execute(sa.text("insert into spine.logins values (:tenant_id, :login)"), row)


def test_a_login_recorded_again_answers_as_whom_was_said_last(engine, of, make_login):
    login = make_login()
    for person, name in ((None, None), (ANA, "ana"), (None, None)):
        recorded(engine, of, login, person)
        with engine.begin() as connection:
            assert logins.of(connection, of.id) == [logins.Login(login, name)]


@pytest.fixture
def command(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    from dagster_project import database, settings
    from dagster_project.cli import app

    monkeypatch.setenv("DATABASE_URL", database_url)
    cached = (settings.settings, database.url, database.engine)
    for each in cached:
        each.cache_clear()
    yield lambda *arguments: CliRunner().invoke(app, ["tenant", "login", *arguments])
    database.engine().dispose()
    for each in cached:
        each.cache_clear()


def test_the_command_records_lists_and_removes_logins(of, make_login, command):
    login = make_login()
    told = command(str(of.id), "--add", login, "--person", "ana", "--json")
    assert json.loads(told.stdout) == [{"login": login, "person": "ana"}]
    assert json.loads(command(str(of.id), "--remove", login, "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--add", "postgres"), "Error: login postgres reaches further than one tenant"),
        (("--add", "postgres", "--person", "anna"), "Error: user 'anna' does not belong to the tenant"),
        (("--person", "ana"), "Error: --person says whom a login answers as: name the login with --add"),
        (("--remove", "postgres"), "Error: login postgres does not speak for the tenant"),
    ],
)
def test_the_command_refuses_in_a_sentence(of, command, arguments, told):
    result = command(str(of.id), *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(told)
