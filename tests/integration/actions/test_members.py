"""Who belongs to a tenant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from kernel import members
from kernel.errors import RefusedError
from tests.fakes.approved import Company
from tests.integration.actions.proposals import ANA, MAX, STRANGER


def called(engine: sa.Engine, what: Callable[..., Any], of: Company, *given: Any) -> Any:
    """In a transaction of its own."""
    with engine.begin() as connection:
        return what(connection, of.id, *given)


def test_a_member_is_found_by_name_and_id_and_has_one_role(engine, of):
    assert called(engine, members.find, of, "ana").user_id == ANA
    assert called(engine, members.find, of, str(MAX)).role == "member"
    called(engine, members.add, of, MAX, "max", "approver")
    assert called(engine, members.find, of, "max").role == "approver"
    with pytest.raises(RefusedError, match="did you mean olga"):
        called(engine, members.find, of, "olgo")
    with pytest.raises(RefusedError, match="role 'king' is unknown: use owner, approver, member"):
        called(engine, members.add, of, MAX, "max", "king")
    called(engine, members.add, of, STRANGER, "ana", "member")
    with pytest.raises(RefusedError, match="2 users named 'ana': give the id"):
        called(engine, members.find, of, "ana")
