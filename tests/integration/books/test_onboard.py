"""A new tenant's books: the accounts of its template, nothing that posts by itself, and a token that is nowhere kept."""

from __future__ import annotations

import hashlib
import re
import threading
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import members, tenancy
from kernel.books import chart, onboard, rules, settings, stages
from kernel.books.onboard import Onboarded
from kernel.errors import RefusedError
from models import rls
from tests.integration.books.bookkeeping import Books

AT = datetime(2026, 1, 15, 10, tzinfo=UTC)


def made(
    engine: sa.Engine, name: str = "Acme Corp", template: str = "starter", key: str = "crm-1", **given: Any
) -> Onboarded:
    with engine.begin() as connection:
        return onboard.onboard(connection, template, name, external_key=key, at=AT, **given)


def rows(engine: sa.Engine, tenant_id: UUID, query: str) -> list[Any]:
    return list(Books(engine, tenant_id).pinned(query))


@pytest.mark.parametrize(("template", "count"), [("starter", 14), ("pro", 14), ("firm", 19)])
def test_a_template_gives_its_accounts_and_those_that_every_chart_needs(
    books_engine: sa.Engine, template: str, count: int
) -> None:
    found = made(books_engine, f"Acme {template}", template)
    assert (found.preset_accounts, found.accounts, found.is_new) == (count, count + 3, True)
    held = rows(books_engine, found.tenant_id, "select code, name, type, category from books.accounts")
    assert len({row.category for row in held}) == len(held)
    assert {"Clearing", "Suspense", "Uncategorized"} <= {row.name for row in held}
    banks = rows(
        books_engine, found.tenant_id, "select kind, account_code from books.bank_accounts order by 2"
    )
    assert len(banks) == 2


@pytest.mark.parametrize("template", list(onboard.TEMPLATES))
def test_nothing_posts_by_itself_whatever_the_template_asks_for(
    books_engine: sa.Engine, template: str
) -> None:
    found = made(books_engine, f"Quiet {template}", template)
    with books_engine.begin() as connection:
        assert stages.current(connection, found.tenant_id, at=AT).stage == "P0"
        held = settings.current(connection, found.tenant_id)
    wanted = onboard.TEMPLATES[template]
    assert held.version == "v1"
    assert not held.settings.llm_enabled
    assert held.settings.threshold == wanted.threshold
    assert held.settings.coldstart_min_labels == wanted.coldstart_min_labels
    assert held.settings.llm_tenant_cap_usd == wanted.llm_tenant_cap_usd
    assert held.settings.autopost_requested == (template != "starter")


def test_a_tenant_is_named_after_its_name_and_key(books_engine: sa.Engine) -> None:
    found = made(books_engine, "Acme Corp", key="named")
    assert re.fullmatch("pilot-acme-corp-[0-9a-f]{8}", found.slug)
    assert found.owner == f"pilot+{found.slug}@example.com"


@pytest.mark.parametrize(
    ("name", "slug"),
    [("../x", "pilot-x-"), ("Müller & Söhne, Inc.", "pilot-muller-sohne-inc-"), ("株式会社", "pilot-"),
     ("a" * 200, f"pilot-{'a' * 40}-"), ("O'Neil's", "pilot-oneils-"), ("x; drop table tenants --", "pilot-x-drop-table-tenants-")],
)  # fmt: skip
def test_any_name_makes_a_slug_that_is_harmless(books_engine: sa.Engine, name: str, slug: str) -> None:
    found = made(books_engine, name)
    assert re.fullmatch(re.escape(slug) + "[0-9a-f]{8}", found.slug)
    (held,) = rows(books_engine, found.tenant_id, "select name from spine.tenants where id = :tenant_id")
    assert held.name == name


@pytest.mark.parametrize("name", ["", "  ", "a\x1b[31m", "\u202egnp"])
def test_a_name_that_cannot_be_shown_is_refused(books_engine: sa.Engine, name: str) -> None:
    with pytest.raises(RefusedError, match="cannot be seen"):
        made(books_engine, name)


def test_a_token_is_shown_once_and_kept_as_a_hash(books_engine: sa.Engine) -> None:
    found = made(books_engine, "Tokens")
    assert re.fullmatch(r"sk_pilot_[\w-]{43}", found.token)
    (held,) = rows(books_engine, found.tenant_id, "select token_hash, hint, user_id from books.api_tokens")
    assert held.token_hash == hashlib.sha256(found.token.encode()).digest()
    assert held.hint == f"sk_pilot_…{found.token[-4:]}"
    with books_engine.begin() as connection:
        assert onboard.whose(connection, found.token) == (found.tenant_id, held.user_id)
        assert onboard.whose(connection, found.token[:-1]) is None
    everything = rows(books_engine, found.tenant_id, "select detail::text from books.books_audit")
    assert found.token not in str(everything)


def test_a_revoked_token_and_one_of_somebody_who_left_stand_for_nobody(books_engine: sa.Engine) -> None:
    revoked, left = made(books_engine, "Revoked"), made(books_engine, "Left")
    rows(books_engine, revoked.tenant_id, "update books.api_tokens set revoked_at = now()")
    rows(books_engine, left.tenant_id, "delete from spine.user_tenants where tenant_id = :tenant_id")
    with books_engine.begin() as connection:
        assert onboard.whose(connection, revoked.token) is None
        assert onboard.whose(connection, left.token) is None


def test_asked_again_it_is_found_and_nothing_is_shown(books_engine: sa.Engine) -> None:
    first, again = made(books_engine, "Twice"), made(books_engine, "Twice")
    assert (again.tenant_id, again.token, again.is_new) == (first.tenant_id, None, False)
    assert (again.owner, again.accounts) == (first.owner, first.accounts)
    assert len(rows(books_engine, first.tenant_id, "select from books.api_tokens")) == 1
    assert made(books_engine, "Twice", key="crm-2").tenant_id != first.tenant_id


def test_asked_again_with_another_template_it_is_refused(books_engine: sa.Engine) -> None:
    made(books_engine, "Changed")
    with pytest.raises(RefusedError, match="onboarded with template starter"):
        made(books_engine, "Changed", "pro")


def test_two_who_ask_at_once_get_one_tenant(books_engine: sa.Engine) -> None:
    together, found = threading.Barrier(4), []

    def work() -> None:
        together.wait()
        found.append(made(books_engine, "At once"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({each.tenant_id for each in found}) == 1
    assert [each.is_new for each in found].count(True) == 1


def test_a_tenant_that_was_made_otherwise_is_not_handed_out(books_engine: sa.Engine) -> None:
    slug = onboard.slug_of("Taken", "crm-1")
    with books_engine.begin() as connection:
        tenancy.service(connection)
        tenancy.create(connection, slug, "Taken", "USD")
    with pytest.raises(RefusedError, match="taken by another tenant"):
        made(books_engine, "Taken")


def test_an_unknown_template_or_chart_is_refused(books_engine: sa.Engine) -> None:
    with pytest.raises(RefusedError, match="use starter, pro, firm"):
        made(books_engine, template="enterprise")
    with (
        books_engine.begin() as connection,
        pytest.raises(RefusedError, match="chart of accounts 'x' is unknown"),
    ):
        chart.load(connection, UUID(int=1), "x", "USD")


def test_its_owner_may_approve(books_engine: sa.Engine) -> None:
    found = made(books_engine, "Owned")
    with books_engine.begin() as connection:
        assert members.find(connection, found.tenant_id, found.owner).role == "owner"


def test_rules_of_everybody_mean_accounts_of_its_chart(books_engine: sa.Engine) -> None:
    found = made(books_engine, "Ruled")
    with books_engine.begin() as connection:
        mapped = rules.accounts_by_category(connection, found.tenant_id)
    assert (mapped["transfer"], mapped["rent"], mapped["office_supplies"]) == ("1900", "6100", "6300")


def test_a_member_of_another_tenant_sees_no_token(books_engine: sa.Engine) -> None:
    made(books_engine, "Hidden")
    with books_engine.begin() as connection:
        connection.execute(sa.text("select set_config('role', :role, true)"), {"role": rls.MEMBER})
        assert connection.execute(sa.text("select count(*) from books.api_tokens")).scalar_one() == 0
