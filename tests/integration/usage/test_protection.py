"""What each role of the database can do to what was metered, closed and decided: tried as each of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from models import rls, usage
from models.base import metadata
from tests.integration.usage import capturing
from tests.integration.usage.capturing import AT, Shop

SERVICE, MEMBER, ANALYST, RECONCILIATION = rls.SERVICE, rls.MEMBER, rls.ANALYST, usage.RECONCILIATION
OWNER = None
EVERYBODY = (OWNER, SERVICE, MEMBER, ANALYST, RECONCILIATION)
TABLES = sorted(table.name for table in metadata.tables.values() if table.schema == "usage")
LEDGER = "usage.ingest_idempotency"
LATER = AT + timedelta(hours=1)


def _failing(*_: object) -> None:
    raise OSError


@pytest.fixture(scope="module")
def metered(usage_engine: sa.Engine) -> Shop:
    """With rows in every state: a and b accepted, c overage, d refused, e degraded."""
    made = capturing.shop(usage_engine)
    made.soft(4, hard_cap_multiplier=1.25)
    made.capture("a", "b")
    made.capture("e", "c0", publisher=_failing)
    made.capture("c", "d")
    made.pinned(
        "insert into usage.usage_adjustments (tenant_id, site_id, year_month, of_year_month, quantity, kind, reason, asked_by)"
        " values (:t, :s, '2026-02', '2026-01', 1, 'late', 'came after the close', 'ann')",
        t=made.tenant_id, s=made.site.id,
    )  # fmt: skip
    return made


@pytest.fixture
def acting(metered: Shop) -> Iterator:
    """Runs a statement as a role, pinned to the tenant; all of it is taken back at the end."""
    with metered.engine.connect() as connection:
        transaction = connection.begin()

        def act(role: str | None, statement: str, **given: object) -> sa.CursorResult:
            connection.execute(sa.text("select set_config('role', :role, true)"), {"role": role or "none"})
            pin = {"tenant": str(metered.tenant_id)}
            connection.execute(sa.text("select set_config('app.tenant_id', :tenant, true)"), pin)
            return connection.execute(sa.text(statement), given)

        yield act
        transaction.rollback()


def _refused(act, role: str | None, statement: str, why: str, **given: object) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=why):
        act(role, statement, **given)


@pytest.mark.parametrize("table", TABLES)
def test_reconciliation_reads_the_ledger_and_nothing_else(acting, table: str) -> None:
    if table == "ingest_idempotency":
        assert acting(RECONCILIATION, f"select count(*) from {LEDGER}").scalar_one() == 6
    else:
        _refused(acting, RECONCILIATION, f"select count(*) from usage.{table}", "permission denied")


@pytest.mark.parametrize("statement", ["delete from {}", "truncate {}", "insert into {} default values"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("role", [MEMBER, ANALYST, RECONCILIATION])
def test_who_only_reads_writes_nothing(acting, role: str, table: str, statement: str) -> None:
    _refused(acting, role, statement.format(f"usage.{table}"), "permission denied")


@pytest.mark.parametrize("column", ["billable", "billing_state"])
@pytest.mark.parametrize("role", [MEMBER, ANALYST])
def test_no_tenant_and_no_analyst_sets_what_is_billable(acting, role: str, column: str) -> None:
    _refused(acting, role, f"update {LEDGER} set {column} = default", "permission denied")


KEPT = ("ingest_idempotency", "sites", "site_plans", "usage_periods")
APPENDED = (
    "invoice_snapshot", "usage_adjustments", "usage_archives", "usage_audit", "usage_conflicts", "usage_decisions",
    "usage_meter_values",
)  # fmt: skip


@pytest.mark.parametrize("table", [*KEPT, *APPENDED])
def test_evidence_is_truncated_by_nobody_not_even_its_owner(acting, table: str) -> None:
    _refused(acting, OWNER, f"truncate usage.{table} cascade", "is refused")


@pytest.mark.parametrize("table", TABLES)
def test_the_service_truncates_nothing(acting, table: str) -> None:
    _refused(acting, SERVICE, f"truncate usage.{table} cascade", "permission denied")


@pytest.mark.parametrize("role", [OWNER, SERVICE])
@pytest.mark.parametrize("table", KEPT)
def test_what_was_metered_is_not_deleted(acting, role: str | None, table: str) -> None:
    _refused(acting, role, f"delete from usage.{table}", "is refused|stays until")


CHANGEABLE = {"billing_state", "billable", "billing_reason", "plan_id", "txid"}
OTHER = {
    "tenant_id": "gen_random_uuid()", "site_id": "gen_random_uuid()", "idempotency_key": "'z'",
    "created_at": "created_at - interval '1 day'", "idempotency_version": "2", "event_category": "'other'",
    "event_action": "'other'", "event_label": "'other'", "occurred_at": "now()", "payload_hash": "sha256('z')",
    "txid": "1", "plan_id": "gen_random_uuid()", "billing_reason": "'other'", "billable": "not billable",
    "billing_state": "'RECOVERED'",
}  # fmt: skip


def test_every_column_of_the_ledger_is_tried(metered: Shop) -> None:
    assert set(OTHER) == {
        column.name for column in usage.ingest_idempotency.columns if column.computed is None
    }


@pytest.mark.parametrize("role", [OWNER, SERVICE, RECONCILIATION])
@pytest.mark.parametrize("column", OTHER)
def test_no_column_of_an_accepted_row_is_changed(acting, role: str | None, column: str) -> None:
    statement = f"update {LEDGER} set {column} = {OTHER[column]} where idempotency_key = 'a'"
    _refused(acting, role, statement, "permission denied|is a decision|is not present|takes no more")


@pytest.mark.parametrize("column", sorted(OTHER.keys() - {"txid", "billing_state"}))
def test_a_recovery_changes_nothing_else(acting, column: str) -> None:
    statement = f"update {LEDGER} set billing_state = 'RECOVERED', {column} = {OTHER[column]} where idempotency_key = 'e'"
    _refused(acting, OWNER, statement, "is a decision")


STATES = usage.BILLING_STATES
ALLOWED = {("e", "RECOVERED")}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("key", ["a", "c", "d", "e"])
@pytest.mark.parametrize("role", [OWNER, SERVICE, RECONCILIATION])
def test_a_degraded_capture_is_recovered_and_no_other_state_is_set(
    acting, role: str | None, key: str, state: str
) -> None:
    statement = f"update {LEDGER} set billing_state = :state where idempotency_key = :key"
    if (key, state) in ALLOWED:
        assert acting(role, statement, state=state, key=key).rowcount == 1
    else:
        _refused(acting, role, statement, "is a decision|_check", state=state, key=key)


TAKE_BACK = f"update {LEDGER} set billing_state = 'ACCEPTED', billable = true"
OWN_NUMBER = "txid = pg_current_xact_id()::text::bigint"


def test_a_refusal_is_taken_back_under_the_number_of_the_transaction_only(acting) -> None:
    assert acting(SERVICE, f"{TAKE_BACK}, {OWN_NUMBER} where idempotency_key = 'd'").rowcount == 1
    _refused(acting, SERVICE, f"{TAKE_BACK} where idempotency_key = 'd'", "is a decision")


def test_reconciliation_takes_no_refusal_back(acting) -> None:
    _refused(acting, RECONCILIATION, f"{TAKE_BACK} where idempotency_key = 'd'", "is a decision")


def test_an_accepted_row_is_not_degraded_after_its_transaction(acting) -> None:
    statement = (
        f"update {LEDGER} set billing_state = 'DEGRADED_CAPTURE', {OWN_NUMBER} where idempotency_key = 'a'"
    )
    _refused(acting, SERVICE, statement, "is a decision")


COPY = f"""
insert into {LEDGER} (tenant_id, site_id, idempotency_key, created_at, payload_hash)
select tenant_id, :site, 'new', cast(:at as timestamptz), payload_hash from {LEDGER} where idempotency_key = 'a'
"""


@pytest.mark.parametrize("role", [OWNER, SERVICE])
def test_the_ledger_takes_rows_of_open_months_and_known_sites_only(
    acting, metered: Shop, role: str | None
) -> None:
    assert acting(role, COPY, site=metered.site.id, at=AT).rowcount == 1


@pytest.mark.parametrize("role", [OWNER, SERVICE])
@pytest.mark.parametrize(
    ("at", "site", "why"),
    [
        (datetime(2026, 3, 1, tzinfo=UTC), None, "never opened"),
        (AT, "00000000-0000-0000-0000-000000000000", "has no site"),
    ],
)
def test_the_ledger_refuses_other_rows(
    acting, metered: Shop, role: str | None, at: datetime, site: str | None, why: str
) -> None:
    _refused(acting, role, COPY, why, site=site or metered.site.id, at=at)


def test_nobody_writes_the_number_of_another_transaction(acting, metered: Shop) -> None:
    forged = COPY.replace("payload_hash)", "payload_hash, txid)").replace(
        "payload_hash from", "payload_hash, 1 from"
    )
    _refused(acting, SERVICE, forged, "number of the transaction", site=metered.site.id, at=AT)


CLOSE = (
    "update usage.usage_periods set state = 'CLOSING'",
    "update usage.usage_periods set state = 'CLOSED'",
)


@pytest.mark.parametrize("role", [OWNER, SERVICE])
@pytest.mark.parametrize("change", ["insert", "take back", "recover"])
def test_a_closed_month_refuses_what_an_open_one_takes(
    acting, metered: Shop, role: str | None, change: str
) -> None:
    for statement in CLOSE:
        acting(role, statement)
    statement = {
        "insert": COPY,
        "take back": f"{TAKE_BACK}, {OWN_NUMBER} where idempotency_key = 'd'",
        "recover": f"update {LEDGER} set billing_state = 'RECOVERED' where idempotency_key = 'e'",
    }[change]
    given = {"site": metered.site.id, "at": AT} if change == "insert" else {}
    _refused(acting, role, statement, "2026-01 (is closed|takes no more usage)", **given)


@pytest.mark.parametrize("role", [OWNER, SERVICE])
@pytest.mark.parametrize("change", ["state = 'OPEN'", "state = 'CLOSING'", "year_month = '2030-01'"])
def test_a_closed_month_is_not_opened_again(acting, role: str | None, change: str) -> None:
    for statement in CLOSE:
        acting(role, statement)
    _refused(acting, role, f"update usage.usage_periods set {change}", "does not become")


def test_a_close_that_was_begun_is_given_up_and_begun_again(acting) -> None:
    for state in ("CLOSING", "OPEN", "CLOSING", "CLOSED", "ADJUSTED"):
        acting(SERVICE, f"update usage.usage_periods set state = '{state}'")


# As it runs, the deletion pins another tenant: the guard sees the row's own all the same.
HIDDEN = "where set_config('app.tenant_id', '00000000-0000-0000-0000-000000000000', true) <> ''"


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("is_archived", [True, False])
@pytest.mark.parametrize("where", ["", HIDDEN], ids=["seen", "hidden"])
def test_a_row_goes_for_no_archive_that_its_snapshot_does_not_prove(
    usage_engine: sa.Engine, is_closed: bool, is_archived: bool, where: str
) -> None:
    """How rows go stands in test_archive."""
    old = capturing.shop(usage_engine)
    expired = datetime.now(UTC) - timedelta(days=91)
    old.capture("a", at=expired)
    if is_archived:
        old.pinned(
            "insert into usage.usage_archives (tenant_id, site_id, year_month, place, sha256, row_count, merkle_root)"
            " values (:t, :s, :m, 'x', 'x', 1, 'x')",
            t=old.tenant_id, s=old.site.id, m=f"{expired:%Y-%m}",
        )  # fmt: skip
    if is_closed:
        old.close(f"{expired:%Y-%m}")
    with pytest.raises(sa.exc.DBAPIError, match="stays until"):
        old.pinned(f"delete from {LEDGER} {where}")


@pytest.mark.parametrize("role", [OWNER, SERVICE])
@pytest.mark.parametrize(
    "change",
    ["monthly_limit = 9", "valid_from = valid_from - interval '1 day'", "currency = 'EUR'", "base_price = 1"],
)
def test_a_plan_that_was_set_is_not_changed(acting, role: str | None, change: str) -> None:
    _refused(acting, role, f"update usage.site_plans set {change}", "only ended")


def test_a_plan_is_ended_once(acting) -> None:
    acting(SERVICE, "update usage.site_plans set valid_to = valid_from + interval '1 day'")
    _refused(acting, SERVICE, "update usage.site_plans set valid_to = null", "only ended")


@pytest.mark.parametrize("role", [OWNER, SERVICE])
def test_two_plans_are_never_valid_at_the_same_time(acting, role: str | None) -> None:
    statement = (
        "insert into usage.site_plans (tenant_id, site_id, monthly_limit, valid_from, valid_to, made_by)"
        " select tenant_id, site_id, 9, valid_from + interval '1 day', valid_from + interval '2 days', 'x'"
        " from usage.site_plans"
    )
    _refused(acting, role, statement, "has a plan at that time")


def test_an_adjustment_is_approved_once_by_somebody_else(acting) -> None:
    approve = "update usage.usage_adjustments set approved_by = :who, approved_at = now()"
    with (
        pytest.raises(sa.exc.IntegrityError, match="approved_by"),
        acting(SERVICE, "select 1").connection.begin_nested(),
    ):
        acting(SERVICE, approve, who="ann")
    assert acting(SERVICE, approve, who="bob").rowcount == 1
    _refused(acting, OWNER, approve, "append-only", who="eve")


@pytest.mark.parametrize(
    "change",
    ["quantity = 2", "reason = 'another reason'", "quantity = 2, approved_by = 'bob', approved_at = now()"],
)
def test_an_adjustment_is_not_changed(acting, change: str) -> None:
    _refused(acting, OWNER, f"update usage.usage_adjustments set {change}", "append-only")


def test_a_member_reads_its_tenants_rows(metered: Shop, usage_engine: sa.Engine) -> None:
    capturing.shop(usage_engine).capture("of another")
    with usage_engine.connect() as connection:
        connection.exec_driver_sql(f"set local role {MEMBER}")
        connection.exec_driver_sql(f"set local app.tenant_id = '{metered.tenant_id}'")
        keys = set(connection.scalars(sa.text(f"select idempotency_key from {LEDGER}")))
        connection.exec_driver_sql("set local app.tenant_id = ''")
        assert (keys, connection.scalars(sa.text(f"select 1 from {LEDGER}")).all()) == (
            set(metered.ledger()),
            [],
        )


@pytest.mark.parametrize("role", EVERYBODY)
def test_nobody_switches_a_guard_off_by_calling_it(acting, role: str | None) -> None:
    _refused(acting, role, "select usage.guard_insert()", "permission denied|trigger")
