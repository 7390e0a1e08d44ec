"""Invoices: what their lines come to, and that a final one is never changed by anybody."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import invoices, sites
from kernel.usage.plans import Terms, Tier, set_plan
from models import rls
from tests.integration.usage.capturing import event
from tests.integration.usage.closing import CLOSE_AT, JANUARY, Closer


def _listed(closer: Closer) -> list[invoices.Invoice]:
    with closer.engine.begin() as connection:
        return invoices.listed(connection, closer.tenant_id)


def _finalise(closer: Closer, invoice_id: UUID, actor: str = "Ann") -> invoices.Invoice:
    with closer.engine.begin() as connection:
        return invoices.finalise(connection, closer.tenant_id, invoice_id, actor=actor, at=CLOSE_AT)


def test_a_draft_has_a_line_for_each_part_of_the_price(closer: Closer) -> None:
    closer.soft(
        2, hard_cap_multiplier=Decimal(10), base_price=Decimal(10), overage_price_per_1k=Decimal(1000),
        tiers=(Tier(4, Decimal(2000)),), minimum=Decimal(20), currency="EUR",
    )  # fmt: skip
    closer.closed(*(f"k{number}" for number in range(5)))
    assert closer.lines() == [
        ("base", "2026-01", 1, Decimal("10.00")),
        ("included", "2026-01", 2, Decimal("0.00")),
        ("tier", "2026-01", 2, Decimal("4.00")),
        ("overage", "2026-01", 1, Decimal("1.00")),
        ("minimum", "2026-01", 1, Decimal("5.00")),
    ]
    (invoice,) = _listed(closer)
    assert (invoice.state, invoice.currency, invoice.total) == ("draft", "EUR", Decimal("20.00"))


def test_there_is_one_invoice_for_each_currency(closer: Closer) -> None:
    closer.plan(10, base_price=Decimal(1), currency="EUR")
    with closer.engine.begin() as connection:
        for name, currency in (("second", "EUR"), ("third", "JPY"), ("without a plan", None)):
            site = sites.make(connection, closer.tenant_id, name)
            if currency:
                set_plan(
                    connection, closer.tenant_id, site.id, Terms(base_price=Decimal(2), currency=currency),
                    valid_from=JANUARY, actor="ann", at=JANUARY,
                )  # fmt: skip
    closer.capture("a", event(site, "b"))
    closer.closed()
    found = {each.currency: each.total for each in _listed(closer)}
    assert found == {"EUR": Decimal("3.00"), "JPY": Decimal(2)}


def test_a_person_who_may_makes_it_final_and_once(closer: Closer) -> None:
    closer.plan(10, base_price=Decimal(1))
    closer.closed("a")
    (drafted,) = _listed(closer)
    with pytest.raises(RefusedError, match="no approver or owner"):
        _finalise(closer, drafted.id, "Max")
    final = _finalise(closer, drafted.id)
    assert (final.state, final.final_by) == ("final", str(closer.people["Ann"]))
    assert _finalise(closer, drafted.id, "Ben") == final
    events = [each.event for each in closer.pinned("select event from usage.usage_audit order by number")]
    assert events == ["month_closed", "invoice_final"]


def test_a_draft_with_a_line_that_was_slipped_in_is_not_made_final(closer: Closer) -> None:
    closer.plan(10, base_price=Decimal(1))
    closer.closed("a")
    (drafted,) = _listed(closer)
    closer.pinned(
        "insert into usage.usage_invoice_lines (tenant_id, invoice_id, number, site_id, kind, of_year_month, quantity,"
        " amount, told) values (:t, :i, 99, :s, 'base', '2026-01', 1, 5, 'a gift')",
        t=closer.tenant_id, i=drafted.id, s=closer.site.id,
    )  # fmt: skip
    with pytest.raises(RefusedError, match="not what its snapshots"):
        _finalise(closer, drafted.id)
    with pytest.raises(sa.exc.DBAPIError, match="does not add up"):
        closer.pinned("update usage.usage_invoices set state = 'final', final_at = now(), final_by = 'x'")


@pytest.fixture(scope="module")
def invoiced(usage_engine: sa.Engine) -> Closer:
    from tests.integration.usage import closing

    made = closing.closer(usage_engine)
    made.plan(10, base_price=Decimal(1))
    made.closed("a")
    _finalise(made, _listed(made)[0].id)
    return made


@pytest.fixture
def acting(invoiced: Closer) -> Iterator[Any]:
    with invoiced.engine.connect() as connection:
        transaction = connection.begin()

        def act(role: str | None, statement: str) -> None:
            pinned = {"role": role or "none", "tenant": str(invoiced.tenant_id)}
            connection.execute(
                sa.text("select set_config('role', :role, true), set_config('app.tenant_id', :tenant, true)"),
                pinned,
            )
            connection.exec_driver_sql(statement)

        yield act
        transaction.rollback()


CHANGES = (
    "update usage.usage_invoices set total = 0",
    "update usage.usage_invoices set state = 'draft', final_at = null",
    "update usage.usage_invoices set final_by = 'eve'",
    "update usage.usage_invoices set currency = 'EUR'",
    "delete from usage.usage_invoices",
    "truncate usage.usage_invoices cascade",
    "update usage.usage_invoice_lines set amount = 0",
    "update usage.usage_invoice_lines set told = 'x'",
    "delete from usage.usage_invoice_lines",
    "truncate usage.usage_invoice_lines",
    "insert into usage.usage_invoice_lines select tenant_id, invoice_id, 99, site_id, kind, of_year_month, quantity,"
    " price_per_1k, amount, told from usage.usage_invoice_lines"
    " where (tenant_id, invoice_id) in (select tenant_id, id from usage.usage_invoices where state = 'final') limit 1",
)


@pytest.mark.parametrize("role", [None, rls.SERVICE, rls.MEMBER, rls.ANALYST])
@pytest.mark.parametrize("change", CHANGES)
def test_a_final_invoice_is_changed_by_nobody(acting: Any, role: str | None, change: str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"is refused|permission denied|takes no lines"):
        acting(role, change)


@pytest.mark.parametrize("role", [None, rls.SERVICE])
def test_an_invoice_begins_as_a_draft(acting: Any, role: str | None) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="begins as a draft"):
        acting(
            role,
            "insert into usage.usage_invoices (tenant_id, year_month, state, currency, total, made_at, final_at)"
            " select tenant_id, '2026-05', 'final', 'USD', 0, now(), now() from usage.usage_invoices limit 1",
        )
