"""What databases must hold for logins to bind, new ones and those of older versions."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from models import guards, migrate, rls, server
from tests.fakes.approved import company
from tests.fakes.policies import not_by_login
from tests.integration.login_sessions import recorded, tenants_seen


@pytest.fixture
def empty_database(postgres: server.Server) -> sa.URL:
    name = f"empty_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create database {name} template template0")
    return sa.make_url(postgres.url(name))


# What the catalog says ---------------------------------------------------------------------------------------------


def test_the_functions_that_run_as_another_role_are_closed_and_name_their_search_path(engine):
    found = sa.text(
        "select oid::regprocedure::text as name, coalesce(proconfig, '{}') as config,"
        "  array(select privilege.grantee::regrole::text from aclexplode(proacl) as privilege"
        "        where privilege.grantee <> proowner order by 1) as others, proacl is null as is_open"
        " from pg_proc where prosecdef and pronamespace::regnamespace::text in ('spine', 'ops', 'analytics')"
    )
    with engine.connect() as connection:
        functions = {row.name: row for row in connection.execute(found)}
    allowed = {
        "spine.acknowledge_action(uuid,text)": ["revenue_member"],
        "spine.acknowledge_action(uuid,text,timestamp with time zone)": [],
        "spine.reject_action(uuid,text)": ["revenue_member"],
        "spine.reject_action(uuid,text,timestamp with time zone)": [],
        "spine.session_tenant()": ["revenue_member"],
        "spine.session_user_id()": ["revenue_member"],
    }
    assert {name: row.others for name, row in functions.items()} == allowed
    assert [name for name, row in functions.items() if row.is_open] == []
    assert [
        name for name, row in functions.items() if "search_path=pg_catalog, pg_temp" not in row.config
    ] == []


# How databases get there ----------------------------------------------------------------------------------------------


def test_what_was_built_before_logins_were_recorded_asks_them_too(empty_database: sa.URL) -> None:
    url = empty_database.render_as_string()
    migrate.upgrade(url, "0006")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"set local role {rls.SERVICE}")
        connection.exec_driver_sql("create table analytics.built (tenant_id uuid)")
        connection.exec_driver_sql("alter table analytics.built enable row level security")
        connection.exec_driver_sql(
            f"create policy member on analytics.built for select to {rls.MEMBER} using (tenant_id = {rls.PINNED})"
        )
        assert "analytics.built member" in not_by_login(connection)
    migrate.upgrade(url)
    with engine.connect() as connection:
        assert not_by_login(connection) == []
    engine.dispose()


def test_a_server_where_nobody_is_superuser_is_migrated_and_keeps_tenants_apart(
    empty_database: sa.URL, make_login: Callable[..., str]
) -> None:
    owner, login = make_login("createrole"), make_login()
    admin, owned, session = (
        sa.create_engine(url, poolclass=sa.NullPool)
        for url in (empty_database, *(empty_database.set(username=name) for name in (owner, login)))
    )
    with admin.begin() as connection:
        connection.exec_driver_sql(f"alter database {empty_database.database} owner to {owner}")
        connection.exec_driver_sql(
            f"grant {', '.join((*rls.ROLES, guards.GUARD))} to {owner} with admin option"
        )
    migrate.upgrade(owned.url.render_as_string())
    of, other = company(owned), company(owned)
    recorded(owned, of, login)
    assert tenants_seen(session, f"set app.tenant_id = '{other.id}'") == [of.id]
    with admin.begin() as connection:
        connection.exec_driver_sql(f"reassign owned by {owner} to postgres")
        connection.exec_driver_sql(f"drop owned by {owner}")
