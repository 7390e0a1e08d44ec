"""Sites and their write keys."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import plans, sites
from tests.integration.usage import capturing
from tests.integration.usage.capturing import AT, Shop


def test_a_site_is_found_by_what_payloads_call_it(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        made = sites.make(connection, shop.tenant_id, "shop", origins=["https://x.co"])
        assert re.fullmatch(r"site_[0-9a-f]{24}", made.public_id)
        assert sites.by_public_id(connection, made.public_id) == made
        assert made.origins == ("https://x.co",)


@pytest.mark.parametrize("asked", ["", "unknown", "a\0b", "x\ud800", "ü", "x" * 129])
def test_what_is_no_sites_name_finds_none(shop: Shop, asked: str) -> None:
    with shop.engine.begin() as connection:
        assert sites.by_public_id(connection, asked) is None
        assert sites.by_key(connection, asked) is None


@pytest.mark.parametrize("public_id", ["with space", "ü", "x" * 129])
def test_a_public_id_is_visible_ascii(shop: Shop, public_id: str) -> None:
    with shop.engine.begin() as connection:
        with pytest.raises(RefusedError, match="choose another"):
            sites.make(connection, shop.tenant_id, "shop", public_id=public_id)
        sites.make(connection, shop.tenant_id, "the transaction goes on")


def test_a_public_id_belongs_to_one_tenant(shop: Shop) -> None:
    other = capturing.shop(shop.engine)
    with shop.engine.begin() as connection, pytest.raises(RefusedError, match="is taken"):
        sites.make(connection, other.tenant_id, "mine too", public_id=shop.site.public_id)


def test_a_key_is_shown_once_and_kept_as_its_hash(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        made = sites.make_key(connection, shop.site, actor="ann", at=AT)
        assert re.fullmatch(r"ros_[A-Za-z0-9_-]{43}", made.token)
        assert sites.by_key(connection, made.token) == shop.site
        assert sites.by_key(connection, made.token[:-1]) is None
    row = shop.pinned("select to_jsonb(keys) as all, key_hash from usage.site_keys as keys")[0]
    assert bytes(row.key_hash) == hashlib.sha256(made.token.encode()).digest()
    assert made.token[4:-4] not in str(row.all)


def test_every_key_is_another_one(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        tokens = {sites.make_key(connection, shop.site, actor="ann", at=AT).token for _ in range(20)}
    assert len(tokens) == 20


def test_a_revoked_key_opens_nothing_and_the_others_go_on(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        old = sites.make_key(connection, shop.site, actor="ann", at=AT)
        new = sites.make_key(connection, shop.site, actor="bob", at=AT + timedelta(days=1))
        sites.revoke_key(connection, shop.tenant_id, old.id, at=AT + timedelta(days=2))
        assert (sites.by_key(connection, old.token), sites.by_key(connection, new.token)) == (None, shop.site)
        kept = [(key.id, key.hint, key.made_by, key.revoked_at) for key in sites.keys(connection, shop.site)]
    assert kept == [(new.id, new.hint, "bob", None), (old.id, old.hint, "ann", AT + timedelta(days=2))]


def test_a_key_is_revoked_once_and_by_its_tenant(shop: Shop) -> None:
    other = capturing.shop(shop.engine)
    with shop.engine.begin() as connection:
        key = sites.make_key(connection, shop.site, actor="ann", at=AT)
        for tenant_id, key_id in ((other.tenant_id, key.id), (shop.tenant_id, uuid4())):
            with pytest.raises(RefusedError, match="no write key"):
                sites.revoke_key(connection, tenant_id, key_id, at=AT)
        sites.revoke_key(connection, shop.tenant_id, key.id, at=AT)
        with pytest.raises(RefusedError, match="no write key"):
            sites.revoke_key(connection, shop.tenant_id, key.id, at=AT)


def test_a_closed_site_is_found_by_its_key_alone(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        key = sites.make_key(connection, shop.site, actor="ann", at=AT)
    shop.pinned("update usage.sites set status = 'closed'")
    with shop.engine.begin() as connection:
        found = sites.by_key(connection, key.token)
        assert (found.id, found.status) == (shop.site.id, "closed")
        assert sites.by_public_id(connection, shop.site.public_id) is None


@pytest.mark.parametrize("begins", [AT, AT + timedelta(days=9)], ids=["in force", "to begin"])
def test_the_plan_of_a_closed_site_ends(shop: Shop, begins: datetime) -> None:
    shop.plan(100, at=begins)
    closed_at = AT + timedelta(days=1)
    with shop.engine.begin() as connection:
        sites.close(connection, shop.site, actor="ann", at=closed_at)
        after = max(closed_at, begins) + timedelta(seconds=1)
        assert plans.plan_at(connection, shop.tenant_id, shop.site.id, after) is plans.DEFAULT
        with pytest.raises(RefusedError, match="is closed already"):
            sites.close(connection, shop.site, actor="ann", at=closed_at)


def test_randomness_is_an_argument(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        made = sites.make_key(connection, shop.site, actor="ann", at=AT, random=lambda size: bytes(size))
        assert made.token == "ros_" + "A" * 43
        with pytest.raises(sa.exc.IntegrityError):
            sites.make_key(connection, shop.site, actor="ann", at=AT, random=lambda size: bytes(size))
