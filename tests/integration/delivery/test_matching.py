"""An event that waits finds its attempt by a key, whatever else waits and however much a tenant has sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import callbacks
from models.statements import statements
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company

ANN, BOB = "ann@x.co", "bob@x.co"


@pytest.fixture
def acme(world: World) -> Company:
    """Two messages went out."""
    made = company(world.engine, world.ledger, [ANN, BOB])
    made.ready()
    made.launch()
    made.work()
    return made


def attempt(acme: Company, address: str) -> sa.Row[Any]:
    query = "select attempts.id, attempts.provider_message_id from delivery.attempts inner join delivery.channel_outbox as items on items.id = item_id where address = :address"
    return acme.pinned(query, address=address)[0]


def park(
    acme: Company,
    *,
    reference: str | None = None,
    message_id: str | None = None,
    ago: timedelta = timedelta(0),
    account_id: UUID | None = None,
) -> None:
    """Keeps an event that was received before its attempt was known."""
    acme.pinned(
        "insert into delivery.provider_events (tenant_id, account_id, provider_event_id, kind, reference, provider_message_id,"
        " body_sha256, payload, occurred_at, received_at)"
        " values (:of, :account, :event, 'delivered', :reference, :message_id, '', '{}', :at, :at)",
        of=acme.tenant_id, account=account_id or acme.account_id, event=str(uuid4()), reference=reference,
        message_id=message_id, at=datetime.now(UTC) - ago,
    )  # fmt: skip


def matched(acme: Company) -> int:
    return acme.call(callbacks.match_parked, actor="test", at=datetime.now(UTC))


def delivered(acme: Company) -> set[str]:
    query = "select address from delivery.channel_outbox where delivery_status = 'delivered'"
    return {row.address for row in acme.pinned(query)}


def test_an_event_is_found_by_our_reference_or_else_by_the_id_of_the_provider(acme: Company) -> None:
    park(acme, reference=str(attempt(acme, ANN).id))
    park(acme, reference="not ours", message_id=attempt(acme, BOB).provider_message_id)
    assert (matched(acme), delivered(acme)) == (2, {ANN, BOB})
    assert matched(acme) == 0


def test_our_reference_counts_for_more_than_the_id_of_the_provider(acme: Company) -> None:
    park(acme, reference=str(attempt(acme, ANN).id), message_id=attempt(acme, BOB).provider_message_id)
    assert (matched(acme), delivered(acme)) == (1, {ANN})


def test_an_account_tells_of_its_own_messages_alone(acme: Company) -> None:
    query = (
        "insert into delivery.provider_accounts (tenant_id, workspace_id, name, channel, provider)"
        " select tenant_id, workspace_id, 'another', channel, provider from delivery.provider_accounts returning id"
    )
    other = acme.pinned(query)[0].id
    ann = attempt(acme, ANN)
    park(acme, reference=str(ann.id), message_id=ann.provider_message_id, account_id=other)
    assert (matched(acme), delivered(acme)) == (0, set())


@pytest.mark.parametrize(
    "reference", [None, "", "test-1", "ABCDEF", "{}", "0" * 32, "7504a729-477e-4363-adba-e69dc10c2ea00", "%"]
)
def test_what_is_no_reference_of_ours_waits_and_disturbs_nobody(acme: Company, reference: str | None) -> None:
    park(acme, reference=reference, message_id="of somebody else")
    park(acme, reference=str(attempt(acme, ANN).id))
    assert (matched(acme), delivered(acme)) == (1, {ANN})


def test_an_event_that_found_nothing_for_a_month_is_not_asked_for_again(acme: Company) -> None:
    park(acme, reference=str(attempt(acme, ANN).id), ago=timedelta(days=31))
    park(acme, reference=str(attempt(acme, BOB).id), ago=timedelta(days=29))
    assert (matched(acme), delivered(acme)) == (1, {BOB})


def test_any_number_that_finds_nothing_keeps_no_new_one_waiting(acme: Company) -> None:
    strange(acme, events=1100)
    park(acme, reference=str(attempt(acme, ANN).id))
    assert (matched(acme), delivered(acme)) == (1, {ANN})


def test_what_is_read_grows_with_what_waits_and_not_with_what_was_sent(acme: Company) -> None:
    strange(acme, attempts=5000, events=60)
    park(acme, reference=str(attempt(acme, ANN).id))
    query = f"explain (analyze, buffers, format json) {statements('delivery_callbacks')['match'].text}"
    with acme.engine.begin() as connection:
        tenancy.service(connection, acme.tenant_id)
        given = {"tenant_id": acme.tenant_id, "since": datetime.now(UTC) - timedelta(days=30), "most": 1000}
        (told,) = connection.execute(sa.text(query), given).scalar_one()
    read = told["Plan"]["Shared Hit Blocks"] + told["Plan"]["Shared Read Blocks"]
    # 61 events, and for each three look-ups of a few pages.
    assert read < 61 * 20, json.dumps(told, indent=1)


def strange(acme: Company, *, attempts: int = 0, events: int = 0) -> None:
    """Attempts of other items, and events of messages that nobody here sent."""
    given = {"account": acme.account_id, "attempts": attempts, "events": events}
    with acme.engine.begin() as connection:
        # Without the items they would be of.
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.execute(
            sa.text(
                "insert into delivery.attempts (tenant_id, item_id, n, run_id, job_id, lease_token, account_id, provider,"
                " provider_key, request_hash, state, started_at, deadline_at, finished_at, provider_message_id)"
                " select tenant_id, gen_random_uuid(), 1, run_id, job_id, 1, account_id, provider, 'k' || number, '', 'accepted',"
                " now(), now(), now(), 'm' || number"
                " from (select * from delivery.attempts where account_id = :account limit 1) as one, generate_series(1, :attempts) as number"
            ),
            given,
        )
        connection.execute(
            sa.text(
                "insert into delivery.provider_events (tenant_id, account_id, provider_event_id, kind, reference,"
                " provider_message_id, body_sha256, payload, occurred_at, received_at)"
                " select tenant_id, id, 'e' || number, 'delivered', gen_random_uuid()::text, 'theirs' || number, '', '{}', now(), now()"
                " from delivery.provider_accounts, generate_series(1, :events) as number where id = :account"
            ),
            given,
        )
