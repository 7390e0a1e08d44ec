"""What providers tell by themselves: kept as it came, matched to the attempt it is of, and applied whenever it comes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import rollup, settle, setup
from kernel.delivery.providers.base import Outcome, Provider
from kernel.errors import RefusedError
from models.delivery import DELIVERY_STATUSES
from models.statements import statements

_MOST_PARKED, _PARKED = 1000, timedelta(days=30)  # events that wait for their attempt
# A complaint or bounce ends what may be sent to an address; an unsubscription does so for its channel.
_SUPPRESSES = {"bounced": "bounce", "complained": "complaint", "unsubscribed": "opt_out"}
_log = logging.getLogger(__name__)


def receive(
    connection: sa.Connection,
    account: sa.Row[Any],
    provider: Provider,
    headers: Mapping[str, str],
    body: bytes,
    *,
    at: datetime,
) -> int:
    """Keeps the events of a callback of the account and applies those that find their attempt; how many are new.

    Raises BadCallback, and keeps nothing, for one that is not signed as the provider signs.
    """
    events = provider.events(headers, body, at)
    tenancy.service(connection, account.tenant_id)
    actor, kept = f"callback of {account.name}", []
    for event in events:
        given = {
            "tenant_id": account.tenant_id, "account_id": account.id, "event_id": event.event_id, "kind": event.kind,
            "message_id": event.message_id, "reference": event.reference, "address": event.address,
            "body_sha256": hashlib.sha256(body).hexdigest(), "payload": json.dumps(event.payload, default=str),
            "occurred_at": event.occurred_at, "received_at": at,
        }  # fmt: skip
        if connection.execute(_sql("keep_event"), given).rowcount:
            kept.append(event)
    match_parked(connection, account.tenant_id, actor=actor, at=at)
    # Also of a message that nobody here knows: whoever wants no more is not written to.
    for event in sorted(kept, key=lambda event: event.address or ""):
        if event.address:
            _suppress(connection, account.tenant_id, event.kind, event.address, account.channel, account.name)
    return len(kept)


def match_parked(connection: sa.Connection, tenant_id: UUID, *, actor: str, at: datetime) -> int:
    """Applies events that came before their attempt was known; how many found it. The caller is pinned."""
    asked = {"tenant_id": tenant_id, "since": at - _PARKED, "most": _MOST_PARKED}
    matched = connection.execute(_sql("match"), asked).all()
    # Runs are locked in the order in which they were made, a retry after what it retries: whoever applies other events
    # at the same time waits, and never for each other.
    runs = {"tenant_id": tenant_id, "run_ids": sorted({event.run_id for event in matched})}
    made = {row.id: row.created_at for row in connection.execute(_sql("runs_made"), runs)} if matched else {}
    for event in sorted(matched, key=lambda event: (made[event.run_id], event.run_id)):
        key = {"tenant_id": tenant_id, "attempt_id": event.attempt_id, "id": event.id}
        connection.execute(_sql("matched"), key)
        if event.state != "accepted":
            _prove(connection, tenant_id, event, actor=actor, at=at)
        if event.kind in DELIVERY_STATUSES:
            forward = {"item_id": event.item_id, "kind": event.kind, "order": list(DELIVERY_STATUSES)}
            connection.execute(_sql("advance_delivery"), {"tenant_id": tenant_id} | forward)
    for event in sorted(matched, key=lambda event: event.address):
        _suppress(connection, tenant_id, event.kind, event.address, event.channel, actor)
    return len(matched)


def _prove(
    connection: sa.Connection, tenant_id: UUID, event: sa.Row[Any], *, actor: str, at: datetime
) -> None:
    """Whoever tells of a message has taken it."""
    own_id = f"callback:{event.id}"
    runs = _locked_runs(connection, tenant_id, event)
    for message_id in (event.provider_message_id or own_id, own_id):
        outcome = {event.attempt_id: Outcome("accepted", message_id=message_id)}
        note = f"the provider told of it: {event.kind}"
        try:
            with connection.begin_nested():
                settle.record(connection, tenant_id, event.job_id, outcome, actor=actor, note=note)
            break
        except sa.exc.IntegrityError as error:
            # Another message has the provider's id: that one was taken is true all the same.
            if message_id == own_id or not settle.is_repeated_id(error):
                raise
    for run_id in runs:
        rollup.roll_up(connection, tenant_id, run_id, at, actor=actor, is_correction=True)


def _locked_runs(connection: sa.Connection, tenant_id: UUID, event: sa.Row[Any]) -> list[UUID]:
    """The run of the attempt and the one that the item belongs to by now, the older first. While a run is locked none
    retries it, so that the last one found is the last there is.
    """
    locked: list[UUID] = []
    run_id = event.run_id
    while run_id not in locked:
        connection.execute(_delivery("lock_run"), {"tenant_id": tenant_id, "run_id": run_id})
        locked.append(run_id)
        item = {"tenant_id": tenant_id, "item_id": event.item_id}
        run_id = connection.execute(_sql("run_of_item"), item).scalar_one()
    return locked


def _suppress(
    connection: sa.Connection, tenant_id: UUID, kind: str, address: str, channel: str, source: str
) -> None:
    if kind not in _SUPPRESSES:
        return
    try:
        setup.suppress(
            connection, tenant_id, [address], reason=_SUPPRESSES[kind], source=source, channel=channel
        )
    except RefusedError as error:
        _log.warning("a callback of %s names whom nobody can write to: %s", source, error)


def _delivery(name: str) -> sa.TextClause:
    return statements("delivery")[name]


def _sql(name: str) -> sa.TextClause:
    return statements("delivery_callbacks")[name]
