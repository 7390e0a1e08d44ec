"""The next attempts of a job: to whom, in which calls, all of it written down before the first call is made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import audit, contents, holding, keys
from kernel.delivery.claim import Claimed
from kernel.delivery.providers.base import Message, Provider
from models.statements import array, statements

# From the end of the first and of the second attempt of an item to its next one, unless the provider asked for more.
BACKOFF = (timedelta(seconds=2), timedelta(seconds=15))


@dataclass(frozen=True, slots=True)
class Call:
    """One call to the provider under its key; a batch has an id, and its members are frozen."""

    key: str
    messages: Sequence[Message]
    batch_id: UUID | None


@dataclass(frozen=True, slots=True)
class Wave:
    """Attempts that are committed and may be called."""

    provider: Provider
    calls: Sequence[Call]
    last_ordinal: int
    is_last: bool  # of what the job had to send when it began
    call_until: float  # of time.monotonic(); no call begins after it


@dataclass(frozen=True, slots=True)
class Later:
    """The job goes on at `until`, or as soon as it is claimed again."""

    until: datetime | None
    why: str


def prepare(
    connection: sa.Connection,
    job: Claimed,
    row: sa.Row[Any],
    provider: Provider,
    after: int,
    *,
    lease: timedelta,
    margin: timedelta,
    actor: str,
) -> Wave | Later | None:
    """Writes down the attempts of the items behind ordinal `after`; None when there are none.

    `row` is that of statement `hold`. The outcome of each attempt is owed `margin` after the last call may end.
    """
    began, can = time.monotonic(), provider.capabilities
    # Half of the lease is for the calls, one after the other where they do not go side by side.
    rounds = max(1, int(lease / 2 / can.timeout))
    wanted = min(can.wave, can.batch * can.concurrency * rounds)
    if holding.waits_for_others(row):
        holding.room(connection, job.tenant_id, row, wanted)
        # Whoever was waited for may have taken long: what was stopped meanwhile is not begun, and the hour may be another.
        again = {"tenant_id": job.tenant_id, "job_id": job.job_id, "token": job.token}
        row = connection.execute(_sql("hold"), again).one_or_none()
        if row is None:
            return None
        if held := holding.why_not_begin(row):
            # Asked again when the job is claimed again, where it is known what follows.
            return Later(None, held.why)
    most, free_at = holding.room(connection, job.tenant_id, row, wanted)
    if most == 0:
        return Later(free_at, "the cap of the channel is reached")
    given = {
        "tenant_id": job.tenant_id, "job_id": job.job_id, "after": after, "most": most + 1, "now": row.now,
        "channel": row.channel, "person_cap": row.person_cap, "person_cap_days": row.person_cap_days or 0,
        "backoff": backoff_seconds(),
    }  # fmt: skip
    found = connection.execute(_sql("pick"), given).all()
    if not found:
        return None
    picked = found[:most]
    skipped = [item for item in picked if item.skip_reason]
    if skipped:
        reasons = {"ids": [item.id for item in skipped], "reasons": [item.skip_reason for item in skipped]}
        connection.execute(_sql("skip"), {"tenant_id": job.tenant_id, "now": row.now} | reasons)
    items = [item for item in picked if not item.skip_reason]
    calls = _calls(row, items, can.batch)
    allowed = can.timeout * max(-(-len(calls) // can.concurrency), 1)
    if items:
        _write_down(connection, job, row, items, calls, row.now + allowed + margin)
        # Last, as whoever sends on the channel at the same time waits for it.
        holding.take(connection, job.tenant_id, row, len(items))
    audit.append(
        connection, job.tenant_id, job.job_id, "attempts_begun", actor=actor, at=row.now, token=job.token,
        attempts=[message.reference for call in calls for message in call.messages], skipped=len(skipped),
    )  # fmt: skip
    # A call that begins this late still ends before the deadline, however long others were waited for in between.
    until = began + (allowed - can.timeout + margin / 2).total_seconds()
    return Wave(provider, calls, picked[-1].ordinal, len(found) <= most, until)


def backoff_seconds() -> list[float]:
    """As the statements `pick` and `left` take it."""
    return [each.total_seconds() for each in BACKOFF]


def _calls(row: sa.Row[Any], items: Sequence[sa.Row[Any]], batch: int) -> list[Call]:
    """The items' messages, each with a new reference, `batch` of them to a call."""
    content = contents.Content.of(row)
    calls = []
    for first in range(0, len(items), batch):
        part = items[first : first + batch]
        messages = [
            contents.rendered(content, str(keys.new_id()), item.address, item.variables) for item in part
        ]
        item_keys = [_key(item) for item in part]
        if batch > 1:
            calls.append(Call(keys.batch_key(item_keys), messages, keys.new_id()))
        else:
            calls.append(Call(item_keys[0], messages, None))
    return calls


def _write_down(
    connection: sa.Connection,
    job: Claimed,
    row: sa.Row[Any],
    items: Sequence[sa.Row[Any]],
    calls: Sequence[Call],
    deadline_at: datetime,
) -> None:
    hashes = [[contents.request_hash(message) for message in call.messages] for call in calls]
    batches = [
        {
            "tenant_id": job.tenant_id, "id": call.batch_id, "account_id": row.account_id, "provider_key": call.key,
            "attempt_ids": [UUID(message.reference) for message in call.messages],
            "request_hash": keys.digest(*part),
        }
        for call, part in zip(calls, hashes, strict=True)
        if call.batch_id is not None
    ]  # fmt: skip
    if batches:
        connection.execute(_sql("freeze_batch"), batches)
    of = {"tenant_id": job.tenant_id, "now": row.now}
    item_ids = array(item.id for item in items)
    attempt_ids = array(message.reference for call in calls for message in call.messages)
    connection.execute(_sql("dispatch"), {"tenant_id": job.tenant_id, "item_ids": item_ids})
    begun = of | {
        "job_id": job.job_id, "run_id": job.run_id, "token": job.token, "account_id": row.account_id,
        "provider": row.provider, "deadline_at": deadline_at, "item_ids": item_ids, "attempt_ids": attempt_ids,
        "numbers": array(item.attempts + 1 for item in items), "provider_keys": array(map(_key, items)),
        "batch_ids": [call.batch_id for call in calls for _ in call.messages],
        "hashes": array(each for part in hashes for each in part),
    }  # fmt: skip
    connection.execute(_sql("begin_attempts"), begun)
    reserved = {"meters": array([row.channel] * len(items)), "kinds": array(["reserve"] * len(items))}
    connection.execute(_sql("meter"), of | {"attempt_ids": attempt_ids} | reserved)


def _key(item: sa.Row[Any]) -> str:
    return keys.provider_key(item.idempotency_key, item.attempts + 1)


def _sql(name: str) -> sa.TextClause:
    return statements("delivery")[name]
