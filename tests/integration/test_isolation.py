"""A tenant's rows are its own: proven table by table, for every table the catalog knows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from kernel.warehouse import snapshots
from models import rls
from models.every import metadata
from tests.fakes.policies import not_by_login

A, B = uuid.UUID(int=0xA), uuid.UUID(int=0xB)
SCHEMAS = ("spine", "ops", "analytics", "delivery", "usage", "books")

_SAMPLES = {
    sa.Uuid: lambda: uuid.uuid4(),
    sa.Text: lambda: "x" + uuid.uuid4().hex,
    sa.Numeric: lambda: 1,
    sa.BigInteger: lambda: 1,
    sa.Integer: lambda: 1,
    sa.Date: lambda: "2026-01-01",
    sa.DateTime: lambda: "2026-01-01T00:00:00Z",
    sa.Boolean: lambda: False,
    sa.LargeBinary: lambda: uuid.uuid4().bytes * 2,
}
# Columns whose checks ask for a particular value.
_PARTICULAR = {
    "currency": "USD",
    "base_currency": "USD",
    "quote_currency": "EUR",
    "type": "cogs",
    "reason": "new",
    "channel": "email",
    "stage": "lead",
    "status": "running",
    "payload": {},
    "row": {},
    "value": 1,
    "trigger_type": "scheduled",
    "kind": "apply",
    "moment": "before",
    "basis": "consent",
    "span": "hour",
    "job_type": "email_send_batch",
    "provider": "memory",
    "attempt_ids": [],
    "delivery.suppressions.reason": "opt_out",
    "delivery.usage_entries.kind": "reserve",
    "year_month": "2026-01",
    "of_year_month": "2026-01",
    "keys": [],
    "plan": {},
    "detail": {},
    "threshold": 50,
    "decision": "overage",
    "snapshot_hash": "0" * 64,
    "merkle_root": "0" * 64,
    "meter": "calls",
    "usage.invoice_snapshot.hash": "0" * 64,
    "usage.usage_meters.name": "calls",
    "usage.usage_meters.kind": "count",
    "usage.usage_decisions.reason": "monthly_limit_exceeded",
    "usage.usage_adjustments.kind": "late",
    "usage.usage_adjustments.reason": "came after the close",
    "usage.usage_invoice_lines.kind": "base",
    "account_code": "1000",
    "books.accounts.code": "1000",
    "books.accounts.type": "Asset",
    "books.bank_accounts.kind": "checking",
    "format": "csv",
    "match": "regex",
    "method": "none",
    "verdict": "would_post",
    "target": "qbo_csv",
    "failures": [],
    "explain": {},
    "score": "0.5",
    "percent": 5,
    "window_from": "2026-01-01T00:00:00Z",
    "window_to": "2026-02-01T00:00:00Z",
    "expires_at": "2026-02-01T00:00:00Z",
    "certified_at": "2026-01-01T00:00:00Z",
    "books.labels.source": "approve",
    "books.books_stages.stage": "P0",
    "books.canaries.kind": "model",
    "books.reconciliation_matches.kind": "exact",
    "books.certificates.target": "0.9",
    "books.journal_lines.debit_minor": 1,
    "books.journal_lines.credit_minor": 0,
}

# Optional columns without which a row cannot stand.
_NEEDED = {
    "books.rules": {"category": "supplies"},
    "books.decisions": {"proposed_account": "1000"},
    "books.certificates": {"reason": "too few were checked"},
}


@pytest.fixture(scope="module")
def populated(module_database_url: str) -> Iterator[sa.Engine]:
    """One row of each tenant in every table, in the order the references ask for."""
    engine = sa.create_engine(module_database_url)
    ids: dict[tuple[str, uuid.UUID], uuid.UUID] = {}
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            for tenant in (A, B):
                ids[table.fullname, tenant] = _insert(connection, table, tenant, ids)
        snapshots.create(connection)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def login_of_a(populated: sa.Engine) -> Iterator[sa.Engine]:
    """Logs in as a user of tenant A would: by the name that is recorded for it."""
    with populated.begin() as connection:
        name = connection.scalar(sa.text("select login from spine.logins where tenant_id = :a"), {"a": A})
        connection.exec_driver_sql(f"create role {name} login in role {rls.MEMBER}")
    session = sa.create_engine(populated.url.set(username=name))
    yield session
    session.dispose()
    with populated.begin() as connection:
        connection.exec_driver_sql(f"drop role {name}")


def _insert(connection: sa.Connection, table: sa.Table, tenant: uuid.UUID, ids: dict) -> uuid.UUID:
    values: dict = dict(_NEEDED.get(table.fullname, {}))
    for column in table.columns:
        optional = column.nullable or column.server_default is not None
        if column.name == "tenant_id":
            values["tenant_id"] = tenant
        elif not optional and (
            particular := {f"{table.fullname}.{column.name}", column.name} & set(_PARTICULAR)
        ):
            values[column.name] = _PARTICULAR[max(particular, key=len)]
        elif not optional:
            values[column.name] = _sample(column)
    ids.setdefault((table.fullname, tenant), uuid.uuid4())
    if any(constraint.referred_table is table for constraint in table.foreign_key_constraints):
        values["id"] = ids[table.fullname, tenant]
    for constraint in table.foreign_key_constraints:
        target = constraint.referred_table.fullname
        for local, remote in zip(constraint.columns, constraint.elements, strict=True):
            if local.name in values and remote.column.name in ("id", "user_id") and target != "spine.tenants":
                values[local.name] = ids[target, tenant]
    if "site_id" in values:
        # Where there is no reference, a guard asks for the site.
        values["site_id"] = ids["usage.sites", tenant]
    if table.fullname == "books.transactions":
        values["bank_account_id"] = ids["books.bank_accounts", tenant]  # that of its file
    if table.fullname == "spine.tenants":
        values |= {"id": tenant, "slug": f"tenant-{tenant.int}"}
    result = connection.execute(table.insert().values(values).returning(*table.primary_key.columns))
    return result.one()[-1]


def _sample(column: sa.Column) -> object:
    kind = next(kind for kind in _SAMPLES if isinstance(column.type, kind))
    return _SAMPLES[kind]()


def _as_role(connection: sa.Connection, role: str, tenant: uuid.UUID | None) -> None:
    connection.execute(sa.text(f"set local role {role}"))
    pinned = "" if tenant is None else str(tenant)
    connection.execute(sa.text("select set_config('app.tenant_id', :tenant, true)"), {"tenant": pinned})


def _tenants_seen(engine: sa.Engine, table: sa.Table, role: str, tenant: uuid.UUID | None) -> set[uuid.UUID]:
    key = "id" if table.fullname == "spine.tenants" else "tenant_id"
    with engine.begin() as connection:
        _as_role(connection, role, tenant)
        return {row[0] for row in connection.execute(sa.select(table.columns[key]))}


_APPEND_ONLY = (
    "spine.config_versions",
    "spine.action_events",
    "spine.budget_entries",
    "spine.decision_weights",
    "ops.row_history",
    "ops.incidents",
    "delivery.approvals",
    "delivery.audit_events",
    "delivery.contents",
    "delivery.usage_entries",
    "usage.invoice_snapshot",
    "usage.archived_keys",
    "usage.usage_adjustments",
    "usage.usage_archives",
    "usage.usage_audit",
    "books.books_audit",
    "usage.usage_conflicts",
    "usage.usage_decisions",
    "usage.usage_meter_values",
    "books.books_settings",
    "books.transfers",
    "books.books_stages",
    "books.calibrators",
    "books.certificates",
    "books.decisions",
    "books.decision_confidence",
    "books.export_files",
    "books.export_log",
    "books.labels",
    "books.rejected_lines",
    "books.sightings",
)
# Rows of the ledger and invoices change in one or two ways only, and their own tests try all the others.
_GUARDED = ("usage.ingest_idempotency", "usage.usage_invoices", "usage.usage_invoice_lines")
TABLES = pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.fullname)


def test_the_catalog_holds_no_table_without_forced_row_level_security(populated: sa.Engine) -> None:
    with populated.connect() as connection:
        found = connection.execute(
            sa.text(
                "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
                " where n.nspname = any(:schemas) and c.relkind in ('r', 'p')"
                " and not (c.relrowsecurity and c.relforcerowsecurity)"
            ),
            {"schemas": list(SCHEMAS)},
        )
        assert [row[0] for row in found] == []


def test_what_the_service_may_read_and_write_is_one_rule_that_asks_once_a_statement(
    populated: sa.Engine,
) -> None:
    with populated.connect() as connection:
        assert not _other_rules(connection)
        connection.exec_driver_sql(
            "alter policy spine_accounts_service on spine.accounts"
            f" using (case when {rls.PINNED} is null then true else tenant_id = {rls.PINNED} end)"
        )
        assert _other_rules(connection) == ["spine.accounts"]


def _other_rules(connection: sa.Connection) -> list[str]:
    query = (
        "select schemaname || '.' || tablename from pg_policies"
        " where schemaname = any(:schemas) and qual like '%app.tenant\\_id%'"
        " and (qual is distinct from with_check or qual not like '%( SELECT%')"
    )
    return list(connection.execute(sa.text(query), {"schemas": list(SCHEMAS)}).scalars())


def test_the_catalog_holds_no_view_that_reads_as_its_owner(populated: sa.Engine) -> None:
    with populated.connect() as connection:
        assert not _owners_views(connection)
        connection.exec_driver_sql("alter view books.settled_lines set (security_invoker = false)")
        assert _owners_views(connection) == ["books.settled_lines"]


def _owners_views(connection: sa.Connection) -> list[str]:
    query = (
        "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = any(:schemas) and c.relkind in ('v', 'm')"
        " and not coalesce('security_invoker=true' = any(c.reloptions), false)"
    )
    return list(connection.execute(sa.text(query), {"schemas": list(SCHEMAS)}).scalars())


def test_every_tenant_table_has_the_tenant_first_in_its_keys(populated: sa.Engine) -> None:
    inspector = sa.inspect(populated)
    wrong = []
    for table in metadata.sorted_tables:
        if table.fullname == "spine.tenants":
            continue
        keys = [inspector.get_pk_constraint(table.name, table.schema)["constrained_columns"]]
        keys += [key["constrained_columns"] for key in inspector.get_foreign_keys(table.name, table.schema)]
        keys += [key["column_names"] for key in inspector.get_unique_constraints(table.name, table.schema)]
        wrong += [f"{table.fullname} {key}" for key in keys if key[0] != "tenant_id"]
    assert wrong == []


def test_every_table_in_the_database_is_one_the_code_knows(populated: sa.Engine) -> None:
    inspector = sa.inspect(populated)
    found = {
        f"{schema}.{name}"
        for schema in ("spine", "ops", "delivery", "usage", "books")
        for name in inspector.get_table_names(schema)
    }
    assert found == {table.fullname for table in metadata.sorted_tables}


def test_every_policy_of_tenants_users_asks_the_login(populated: sa.Engine) -> None:
    with populated.connect() as connection:
        assert not_by_login(connection) == []
        connection.exec_driver_sql(
            f"create policy loose on spine.accounts for select to {rls.MEMBER} using (tenant_id = {rls.PINNED})"
        )
        connection.exec_driver_sql(
            "create policy wide on ops.incidents using (tenant_id = spine.session_tenant())"
        )
        assert not_by_login(connection) == ["ops.incidents wide", "spine.accounts loose"]
        connection.rollback()


@TABLES
def test_a_login_sees_its_tenants_rows_and_no_others_whatever_it_sets(
    login_of_a: sa.Engine, table: sa.Table
) -> None:
    key = "id" if table.fullname == "spine.tenants" else "tenant_id"
    with login_of_a.connect() as connection:
        connection.exec_driver_sql(f"set local app.tenant_id = '{B}'")
        assert set(connection.scalars(sa.select(table.columns[key]))) == {A}


@TABLES
def test_a_member_sees_its_own_rows_and_no_others(populated: sa.Engine, table: sa.Table) -> None:
    assert _tenants_seen(populated, table, rls.MEMBER, A) == {A}


@TABLES
def test_a_member_that_is_not_pinned_sees_nothing(populated: sa.Engine, table: sa.Table) -> None:
    assert _tenants_seen(populated, table, rls.MEMBER, None) == set()


@TABLES
def test_the_service_sees_all_until_it_is_pinned(populated: sa.Engine, table: sa.Table) -> None:
    assert _tenants_seen(populated, table, rls.SERVICE, None) == {A, B}
    assert _tenants_seen(populated, table, rls.SERVICE, A) == {A}


@TABLES
def test_an_analyst_reads_every_tenant_and_writes_none(populated: sa.Engine, table: sa.Table) -> None:
    assert _tenants_seen(populated, table, rls.ANALYST, None) == {A, B}
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), populated.begin() as connection:
        _as_role(connection, rls.ANALYST, None)
        connection.execute(table.delete())


@TABLES
def test_a_member_can_write_nothing(populated: sa.Engine, table: sa.Table) -> None:
    last = [column.name for column in table.columns if column.computed is None][-1]
    for statement in (table.delete(), table.update().values({last: None})):
        with (
            pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
            populated.begin() as connection,
        ):
            _as_role(connection, rls.MEMBER, A)
            connection.execute(statement)


@pytest.mark.parametrize(
    "table",
    [table for table in metadata.sorted_tables if table.fullname not in (*_APPEND_ONLY, *_GUARDED)],
    ids=lambda table: table.fullname,
)
def test_a_pinned_service_cannot_touch_another_tenants_rows(populated: sa.Engine, table: sa.Table) -> None:
    key = "id" if table.fullname == "spine.tenants" else "tenant_id"
    with populated.connect() as connection:
        transaction = connection.begin()
        _as_role(connection, rls.SERVICE, A)
        assert connection.execute(table.delete().where(table.columns[key] == B)).rowcount == 0
        assert (
            connection.execute(table.update().where(table.columns[key] == B).values({key: B})).rowcount == 0
        )
        # The positive control: its own row it can change, or this test would prove nothing.
        assert (
            connection.execute(table.update().where(table.columns[key] == A).values({key: A})).rowcount == 1
        )
        transaction.rollback()


@TABLES
def test_a_pinned_service_cannot_insert_for_another_tenant(populated: sa.Engine, table: sa.Table) -> None:
    with populated.connect() as connection:
        row = connection.execute(sa.select(table).limit(1)).one()._mapping
    values = {
        name: value
        for name, value in row.items()
        if value is not None and table.columns[name].computed is None
    }
    values["id" if table.fullname == "spine.tenants" else "tenant_id"] = uuid.UUID(int=0xC)
    with pytest.raises(sa.exc.ProgrammingError, match="row-level security"), populated.begin() as connection:
        _as_role(connection, rls.SERVICE, A)
        connection.execute(table.insert().values(values))


@pytest.mark.parametrize("table", _APPEND_ONLY)
@pytest.mark.parametrize(
    "statement", ["delete from {}", "update {} set tenant_id = tenant_id", "truncate {} cascade"]
)
def test_append_only_tables_refuse_change_even_from_their_owner(
    populated: sa.Engine, table: str, statement: str
) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), populated.begin() as connection:
        connection.execute(sa.text(statement.format(table)))


def test_removing_a_tenant_takes_its_audit_rows_along(populated: sa.Engine) -> None:
    tenants, history = metadata.tables["spine.tenants"], metadata.tables["ops.row_history"]
    with populated.connect() as connection:
        transaction = connection.begin()
        gone = uuid.uuid4()
        connection.execute(tenants.insert().values(id=gone, slug="gone", name="Gone", default_currency="USD"))
        copied = (
            connection.execute(sa.select(history).where(history.c.tenant_id == B).limit(1)).one()._mapping
        )
        connection.execute(history.insert().values(dict(copied) | {"tenant_id": gone, "id": uuid.uuid4()}))
        connection.execute(tenants.delete().where(tenants.c.id == gone))
        left = connection.execute(
            sa.select(sa.func.count()).select_from(history).where(history.c.tenant_id == gone)
        )
        assert left.scalar_one() == 0
        transaction.rollback()


def test_a_tenant_whose_usage_was_metered_is_not_removed(populated: sa.Engine) -> None:
    refused = "disable it and close its sites instead"
    with pytest.raises(sa.exc.IntegrityError, match=refused), populated.begin() as connection:
        connection.execute(sa.text("delete from spine.tenants where id = :id"), {"id": B})


def test_a_reference_cannot_cross_tenants(populated: sa.Engine) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="foreign key"), populated.begin() as connection:
        connection.execute(
            sa.text(
                "update spine.opportunity_stage_history set opportunity_id ="
                " (select id from spine.opportunities where tenant_id = :b) where tenant_id = :a"
            ),
            {"a": A, "b": B},
        )


@pytest.mark.parametrize("role", [rls.MEMBER, rls.ANALYST])
@pytest.mark.parametrize("name", ["campaign_runs", "job_queue", "channel_outbox", "attempts", "contents"])
def test_nobody_but_the_service_puts_anything_into_the_queue(
    populated: sa.Engine, role: str, name: str
) -> None:
    table = metadata.tables[f"delivery.{name}"]
    with populated.connect() as connection:
        row = connection.execute(sa.select(table).where(table.c.tenant_id == A)).one()._mapping
    copied = {key: value for key, value in row.items() if value is not None} | {"id": uuid.uuid4()}
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), populated.begin() as connection:
        _as_role(connection, role, A)
        connection.execute(table.insert().values(copied))


@pytest.mark.parametrize("role", [rls.MEMBER, rls.ANALYST])
@pytest.mark.parametrize(
    "call",
    [
        "delivery.deploy_campaign(gen_random_uuid())",
        "delivery.claim_queued_jobs('me', 1)",
        "delivery.complete_job(gen_random_uuid(), true)",
        "delivery.check_campaign_launch_prerequisites(gen_random_uuid(), gen_random_uuid())",
    ],
)
def test_nobody_but_the_service_launches_claims_or_completes(
    populated: sa.Engine, role: str, call: str
) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), populated.begin() as connection:
        _as_role(connection, role, A)
        connection.exec_driver_sql(f"select {call}")
