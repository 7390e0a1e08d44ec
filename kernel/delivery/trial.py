"""A test: a content as it is, to addresses of the tenant's own. It is no run and no contact gets it; caps count it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import audit, contents, holding, launch, setup
from kernel.delivery.providers.base import Message, Outcome, Provider, unknown
from kernel.errors import RefusedError
from models.delivery import audit_events, seeds, suppressions
from models.spine import spine_campaigns
from models.statements import statements

MARK = "[Test] "
MOST_A_DAY = 50  # messages of a tenant within 24 hours
_BEGUN = "test_begun"
# Who reads a test is nobody's contact.
SAMPLE_PERSON = {"first_name": "Sam", "last_name": "Sample", "company": "Sample Company"}


@dataclass(frozen=True, slots=True)
class Tested:
    """What became of one message; `reference` is what the provider was told it by."""

    address: str
    reference: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Trial:
    account: sa.Row[Any]
    messages: Sequence[Message]
    at: datetime  # in whose windows of the caps they count


def send(
    engine: sa.Engine,
    tenant_id: UUID,
    content_id: UUID,
    addresses: Sequence[str],
    *,
    provider_of: Callable[[sa.Row[Any]], Provider],
    problems: launch.Problems,
    actor: str,
    now: Callable[[], datetime],
) -> list[Tested]:
    """Sends the content, approved or not, through its account; what became of each message, in the order of addresses.

    What is going out is in the audit before the first call, what came of it after the last. Raises RefusedError, with
    nothing sent to anybody, for an address that is not on the seed list, for more than the caps of the channel leave or
    MOST_A_DAY, and for what stands in the way.
    """
    with engine.begin() as connection:
        trial = _begin(connection, tenant_id, content_id, addresses, problems, actor, now())
    provider = provider_of(trial.account)
    try:
        tested = [
            Tested(message.address, message.reference, _call(provider, message)) for message in trial.messages
        ]
    finally:
        provider.close()
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        _give_back(connection, tenant_id, trial, tested)
        ended = [
            {
                "reference": each.reference, "address": each.address, "state": each.outcome.state,
                "message_id": each.outcome.message_id, "error": each.outcome.error,
            }
            for each in tested
        ]  # fmt: skip
        _append(
            connection,
            tenant_id,
            trial.account.campaign_id,
            "test_ended",
            actor=actor,
            at=now(),
            messages=ended,
        )
    return tested


def _begin(
    connection: sa.Connection,
    tenant_id: UUID,
    content_id: UUID,
    addresses: Sequence[str],
    problems: launch.Problems,
    actor: str,
    at: datetime,
) -> _Trial:
    tenancy.service(connection, tenant_id)
    row = launch.content(connection, tenant_id, content_id)
    given = setup.reachable(connection, tenant_id, addresses, row.channel)
    wrong = [*_in_the_way(connection, tenant_id, row, given), *problems(row)]
    if wrong := wrong or _too_many(connection, tenant_id, row, len(given), at):
        raise RefusedError(f"no test was sent: {'; '.join(wrong)}")
    content = contents.Content.of(row)
    messages = [
        _marked(contents.rendered(content, f"test-{uuid4()}", address, SAMPLE_PERSON)) for address in given
    ]
    told = [{"reference": message.reference, "address": message.address} for message in messages]
    _append(
        connection, tenant_id, row.campaign_id, _BEGUN, actor=actor, at=at, content=content_id,
        content_hash=row.content_hash, messages=told,
    )  # fmt: skip
    return _Trial(row, messages, at)


def _in_the_way(
    connection: sa.Connection, tenant_id: UUID, row: sa.Row[Any], addresses: Sequence[str]
) -> list[str]:
    if not addresses:
        return ["no address was given"]
    of = (seeds.c.tenant_id == tenant_id, seeds.c.channel == row.channel, seeds.c.address.in_(addresses))
    listed = set(connection.execute(sa.select(seeds.c.address).where(*of)).scalars())
    theirs = setup.contacts_among(connection, tenant_id, addresses, channel=row.channel)
    of = (
        suppressions.c.tenant_id == tenant_id, suppressions.c.channel.in_((row.channel, "all")),
        suppressions.c.address.in_(addresses),
    )  # fmt: skip
    gone = set(connection.execute(sa.select(suppressions.c.address).where(*of)).scalars())
    found = [
        f"{address} is not on the seed list of {row.channel}: see revenue-os campaign seeds -t TENANT"
        for address in addresses
        if address not in listed
    ]
    found += [f"{address} is a contact of the tenant by now: take another one" for address in theirs]
    found += [f"{address} is suppressed: nothing goes to it" for address in sorted(gone)]
    if not row.is_active:
        found.append("the tenant is suspended: nothing is sent for it")
    if row.stopped_at is not None:
        found.append(f"account {row.name} was stopped: {row.stop_reason}")
    return found


def _too_many(
    connection: sa.Connection, tenant_id: UUID, row: sa.Row[Any], wanted: int, at: datetime
) -> list[str]:
    """Why so many would be too many; none, and they are counted as sent."""
    setup.one_at_a_time(connection, tenant_id)
    sent = sa.func.coalesce(sa.func.sum(sa.func.jsonb_array_length(audit_events.c.detail["messages"])), 0)
    # Nothing else is in the chains of campaigns.
    campaigns = sa.select(spine_campaigns.c.id).where(spine_campaigns.c.tenant_id == tenant_id)
    lately = sa.select(sent).where(
        audit_events.c.tenant_id == tenant_id, audit_events.c.chain.in_(campaigns), audit_events.c.event == _BEGUN,
        audit_events.c.at > at - timedelta(days=1),
    )  # fmt: skip
    if (left := MOST_A_DAY - connection.execute(lately).scalar_one()) < wanted:
        return [
            f"{MOST_A_DAY} tests may go out in 24 hours, and {max(left, 0)} are left: send fewer, or later"
        ]
    # As a send does, whose windows are those of the moment; the cap of a person is none of a tenant's own addresses.
    sending = SimpleNamespace(**row._asdict() | {"now": at, "person_cap": None})
    left, until = holding.room(connection, tenant_id, sending, wanted)
    if left < wanted:
        wait = f"wait until {until:%Y-%m-%d %H:%M %Z}" if left == 0 else "send fewer"
        return [f"the caps of {row.channel} leave {left} of {wanted}: {wait}"]
    holding.take(connection, tenant_id, sending, wanted)
    return []


def _marked(message: Message) -> Message:
    if message.channel == "email":
        return replace(message, subject=MARK + message.subject)
    return replace(message, body=MARK + message.body)


def _call(provider: Provider, message: Message) -> Outcome:
    try:
        (outcome,) = provider.send([message], f"rot1-{message.reference}")
    except Exception as error:
        return unknown("adapter_error", f"{type(error).__name__}: {error}")
    return outcome


def _give_back(connection: sa.Connection, tenant_id: UUID, trial: _Trial, tested: Sequence[Tested]) -> None:
    """What was refused went to nobody, and counts in no cap; what nobody knows of does."""
    instants = [trial.at for each in tested if each.outcome.state == "rejected"]
    if instants:
        window = {
            "tenant_id": tenant_id, "workspace_id": trial.account.workspace_id, "channel": trial.account.channel,
        }  # fmt: skip
        connection.execute(statements("delivery")["give_back"], window | {"instants": instants})


def _append(connection: sa.Connection, tenant_id: UUID, campaign_id: UUID, event: str, **given: Any) -> None:
    """To the chain of the campaign, whose row is held for it."""
    of = (spine_campaigns.c.tenant_id == tenant_id, spine_campaigns.c.id == campaign_id)
    held = sa.select(spine_campaigns.c.id).where(*of).with_for_update(key_share=True)
    connection.execute(held).one()
    audit.append(connection, tenant_id, campaign_id, event, **given)
