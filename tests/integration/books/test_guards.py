"""What guards the books and the usage holds against a login of the pipeline that writes past its functions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kernel.books import export, ledger
from kernel.books.ledger import Entry, Line
from models import guards, rls
from tests.integration.books.bookkeeping import AT, ON, Books, entry


@dataclass
class Intruder:
    """A login of its own in `revenue_service`, no superuser, that writes SQL for a tenant."""

    engine: sa.Engine
    tenant_id: uuid.UUID

    def tries(self, *statements: str) -> Sequence[sa.Row[Any]]:
        """Pinned to the tenant; the rows that the last statement gives. All of it is taken back."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql(f"set local app.tenant_id = '{self.tenant_id}'")
            for statement in statements:
                result = connection.execute(sa.text(statement), {"tenant_id": self.tenant_id})
            return result.all() if result.returns_rows else []


@pytest.fixture(scope="module")
def login(books_engine: sa.Engine) -> Iterator[sa.Engine]:
    name = f"login_{uuid.uuid4().hex[:12]}"
    with books_engine.begin() as connection:
        connection.exec_driver_sql(f"create role {name} login in role {rls.SERVICE}")
    session = sa.create_engine(books_engine.url.set(username=name), poolclass=sa.NullPool)
    yield session
    with books_engine.begin() as connection:
        connection.exec_driver_sql(f"drop owned by {name}")
        connection.exec_driver_sql(f"drop role {name}")


@pytest.fixture
def intruder(login: sa.Engine, books: Books) -> Intruder:
    return Intruder(login, books.tenant_id)


# Whose they are ----------------------------------------------------------------------------------------------------

_OWNERS = """
select pronamespace::regnamespace || '.' || proname as name, proowner::regrole::text as owner,
    'search_path=pg_catalog, pg_temp' = any(coalesce(proconfig, '{}')) as names_path
from pg_proc
where prorettype = 'trigger'::regtype and pronamespace::regnamespace::text in ('spine', 'ops', 'delivery', 'usage', 'books')
    and (prosecdef or :all)
order by 1
"""


def test_every_guard_that_runs_as_another_role_is_the_guards_own(books_engine: sa.Engine) -> None:
    with books_engine.connect() as connection:
        found = connection.execute(sa.text(_OWNERS), {"all": False}).all()
    assert len(found) > 15
    assert [row.name for row in found if row.owner != guards.GUARD] == []


def test_no_trigger_function_finds_operators_where_a_session_says(books_engine: sa.Engine) -> None:
    with books_engine.connect() as connection:
        found = connection.execute(sa.text(_OWNERS), {"all": True}).all()
    assert [row.name for row in found if not row.names_path] == []


def test_nobody_is_in_the_role_of_the_guards_and_it_changes_no_row(books_engine: sa.Engine) -> None:
    members = "select member::regrole::text from pg_auth_members where roleid = cast(:guard as regrole)"
    # Holding a row asks for the right to change one column; no row passes the check then.
    writes = (
        "select privilege_type from information_schema.role_table_grants where grantee = :guard and privilege_type <> 'SELECT'"
        " union all select policyname from pg_policies where cast(:guard as name) = any(roles)"
        "  and cmd <> 'SELECT' and with_check is distinct from 'false'"
    )
    with books_engine.connect() as connection:
        can_login = connection.scalar(
            sa.text("select rolcanlogin or rolsuper or rolbypassrls from pg_roles where rolname = :guard"),
            {"guard": guards.GUARD},
        )
        found = [
            connection.scalars(sa.text(query), {"guard": guards.GUARD}).all() for query in (members, writes)
        ]
    assert (can_login, found) == (False, [[], []])


_DISMANTLE = {
    "dropped": "drop function {} cascade",
    "pinned elsewhere": "alter function {} set app.tenant_id = '00000000-0000-0000-0000-000000000000'",
    "told another path": "alter function {} set search_path = analytics, pg_catalog",
    "run as whoever writes": "alter function {} security invoker",
}


@pytest.mark.parametrize("how", _DISMANTLE)
@pytest.mark.parametrize(
    "function",
    ["books.guard_line()", "books.assert_balanced()", "books.only_changes()", "usage.guard_ledger_delete()"],
)
def test_no_guard_is_dismantled_by_whoever_it_watches(intruder: Intruder, function: str, how: str) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="must be owner"):
        intruder.tries(_DISMANTLE[how].format(function))


def test_nothing_of_a_session_runs_as_the_owner_of_the_tables(intruder: Intruder) -> None:
    """Who owns the tables takes the rows of a tenant along, and may be a superuser."""
    gone = uuid.uuid4()
    (told,) = intruder.tries(
        "create function analytics.told(uuid, uuid) returns boolean language plpgsql as $$"
        " begin perform set_config('app.ran_as', current_user, true); return false; end $$",
        "create operator analytics.= (leftarg = uuid, rightarg = uuid, function = analytics.told)",
        f"set local app.tenant_id = '{gone}'",
        f"insert into spine.tenants (id, slug, name, default_currency) values ('{gone}', 'gone', 'gone', 'USD')",
        f"insert into books.books_audit values ('{gone}', 1, now(), 'x', 'x', '{{}}', 'x', 'x')",
        "set local app.tenant_id = ''",
        "set local search_path = analytics, pg_catalog",
        "delete from spine.tenants where slug = 'gone'",
        "select current_setting('app.ran_as', true)",
    )
    assert told[0] is None


# Deletions that hide the tenant ------------------------------------------------------------------------------------

_KEPT = ("books.journal_lines", "books.journal_entries", "books.periods", "usage.usage_periods")


@pytest.mark.parametrize("table", _KEPT)
def test_a_deletion_that_pins_another_tenant_while_it_runs_is_refused(
    books: Books, intruder: Intruder, table: str
) -> None:
    books.posted(entry())
    books.pinned("insert into usage.usage_periods (tenant_id, year_month) values (:tenant_id, '2026-01')")
    before = books.pinned(f"select * from {table}")
    with pytest.raises(sa.exc.IntegrityError, match="is refused"):
        intruder.tries(f"delete from {table} where set_config('app.tenant_id', '{uuid.uuid4()}', true) <> ''")
    assert len(before) > 0
    assert books.pinned(f"select * from {table}") == before


def test_what_nobody_changes_the_pipeline_has_no_right_to_change(books_engine: sa.Engine) -> None:
    """Their guard looks as whoever writes, so the grants have to say it too; adjustments have a guard of their own."""
    query = (
        "select tgrelid::regclass::text from pg_trigger where tgname = 'refuse_truncate'"
        " and tgfoid = 'ops.refuse_change()'::regprocedure and has_table_privilege(:role, tgrelid, 'update, delete, truncate')"
    )
    with books_engine.connect() as connection:
        assert connection.scalars(sa.text(query), {"role": rls.SERVICE}).all() == []


# Months, exports, stages -------------------------------------------------------------------------------------------


def test_a_locked_month_is_not_made_another_one(books: Books, intruder: Intruder) -> None:
    books.do(ledger.lock, "2025-12")
    with pytest.raises(sa.exc.IntegrityError, match="nothing changes but state, changed_by, updated_at"):
        intruder.tries("update books.periods set year_month = '2001-01'")
    assert books.pinned("select year_month, state from books.periods") == [("2025-12", "LOCKED")]


def test_what_was_handed_out_is_not_handed_out_anew(books: Books, intruder: Intruder, tmp_path: Path) -> None:
    books.posted(entry())
    export.export(books.engine, books.tenant_id, "qbo_csv", tmp_path, actor="ann", at=AT)
    with pytest.raises(sa.exc.IntegrityError, match="was handed out on"):
        intruder.tries("update books.export_batches set status = 'pending', exported_at = null")
    again = export.export(books.engine, books.tenant_id, "qbo_csv", tmp_path, actor="ann", at=AT)
    assert (again.new, again.skipped) == (0, 1)


def test_no_approval_of_the_last_stage_outlives_a_quarter(intruder: Intruder) -> None:
    stage = (
        "insert into books.books_stages (tenant_id, number, stage, at, actor, reason, evidence_hash, approved_by, expires_at)"
        " values (:tenant_id, 1, 'P3', '2026-01-15', 'x', 'x', 'x', 'x', timestamptz '2026-01-15' + interval '{}')"
    )
    with pytest.raises(sa.exc.IntegrityError, match="books_stages_expires_at_check"):
        intruder.tries(stage.format("92 days 1 second"))
    intruder.tries(stage.format("92 days"))


def test_a_row_of_usage_has_the_number_of_its_own_transaction_whatever_a_session_calls_different(
    books: Books, intruder: Intruder
) -> None:
    site = uuid.uuid4()
    books.pinned(
        f"insert into usage.sites (tenant_id, id, public_id, name) values (:tenant_id, '{site}', '{site}', 'x')"
    )
    books.pinned("insert into usage.usage_periods (tenant_id, year_month) values (:tenant_id, '2026-01')")
    with pytest.raises(sa.exc.IntegrityError, match="number of the transaction"):
        intruder.tries(
            "create function analytics.never(bigint, bigint) returns boolean language sql immutable as 'select false'",
            "create operator analytics.<> (leftarg = bigint, rightarg = bigint, function = analytics.never)",
            "set local search_path = analytics, pg_catalog",
            "insert into usage.ingest_idempotency (tenant_id, site_id, idempotency_key, created_at, payload_hash, txid)"
            f" values (:tenant_id, '{site}', 'a', '2026-01-15', sha256('a'), 1)",
        )


# Reversals ---------------------------------------------------------------------------------------------------------


def _back(of: uuid.UUID, *more: Line, currency: str = "USD") -> Entry:
    """What takes back an entry of 12.34, and more."""
    value = Decimal("12.34")
    return Entry(ON, currency, (Line("1000", debit=value), Line("6300", credit=value), *more), reverses=of)


_MORE = (Line("4000", debit=Decimal(999)), Line("2100", credit=Decimal(999)))


@pytest.mark.parametrize(
    ("more", "currency", "why"),
    [(_MORE, "USD", "and nothing else"), ((), "EUR", "in its own currency")],
    ids=["more lines", "another currency"],
)
def test_a_reversal_takes_back_what_was_posted_and_nothing_else(
    books: Books, more: tuple[Line, ...], currency: str, why: str
) -> None:
    (posted,) = books.posted(entry())
    with pytest.raises(sa.exc.IntegrityError, match=why):
        books.posted(_back(posted, *more, currency=currency))
    assert books.balances() == {"6300": Decimal("12.34"), "1000": Decimal("-12.34")}


def test_a_proposal_is_not_reversed(books: Books) -> None:
    proposal = entry()
    books.do(ledger.propose, [proposal])
    with pytest.raises(sa.exc.IntegrityError, match="reverse one that is posted"):
        books.posted(_back(proposal.id))
    assert books.balances() == {}


def test_a_reversal_is_reversed_by_no_statement(books: Books) -> None:
    (posted,) = books.posted(entry())
    reversal = books.do(ledger.reverse, posted, on=ON, reason="wrong")
    anew = Entry(ON, "USD", entry().lines, reverses=reversal)
    with pytest.raises(sa.exc.IntegrityError, match="and no reversal"):
        books.posted(anew)
    assert set(books.balances().values()) == {Decimal(0)}


def test_a_reversal_of_several_lines_may_list_them_in_any_order(books: Books) -> None:
    half = Decimal("6.17")
    lines = (Line("6300", debit=half), Line("6300", debit=half), Line("1000", credit=2 * half))
    (posted,) = books.posted(Entry(ON, "USD", lines))
    back = (Line("1000", debit=2 * half), Line("6300", credit=half), Line("6300", credit=half))
    books.posted(Entry(ON + timedelta(days=1), "USD", back, reverses=posted))
    assert set(books.balances().values()) == {Decimal(0)}
