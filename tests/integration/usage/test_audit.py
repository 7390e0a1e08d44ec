"""The audit of usage is a chain: what is changed, taken out or slipped in shows."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kernel.usage import audit
from tests.integration.usage.capturing import AT, Shop

CHANGES = {
    # The one behind it stands in its place.
    "delete from usage.usage_audit where number = 2": 3,
    "update usage.usage_audit set actor = 'eve' where number = 2": 2,
    "update usage.usage_audit set detail = '{\"rows\": 7}' where number = 3": 3,
    "update usage.usage_audit set at = at + interval '1 microsecond' where number = 1": 1,
    "insert into usage.usage_audit select tenant_id, 5, at, actor, event, detail, previous_hash, hash"
    " from usage.usage_audit where number = 4": 5,
}


@pytest.fixture
def audited(shop: Shop) -> Shop:
    for number in range(4):
        with shop.engine.begin() as connection:
            audit.append(
                connection, shop.tenant_id, "month_closed", actor="ann", at=AT + timedelta(days=number), rows=number
            )  # fmt: skip
    return shop


def test_an_intact_chain_is_whole(audited: Shop) -> None:
    with audited.engine.begin() as connection:
        assert audit.broken(connection, audited.tenant_id) is None


@pytest.mark.parametrize(("change", "number"), CHANGES.items())
def test_what_is_changed_with_every_guard_off_is_found(audited: Shop, change: str, number: int) -> None:
    with audited.engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        of_tenant = f" and tenant_id = '{audited.tenant_id}'"
        assert connection.exec_driver_sql(change + of_tenant).rowcount == 1
        assert audit.broken(connection, audited.tenant_id) == number
        connection.rollback()
