"""Rules of deliveries that nothing may have broken, and what breaks them. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import audit
from models.statements import array, statements

_CHAINS = "every_audit_chain_verifies"
INVARIANTS: Mapping[str, str] = {
    "one_accepted_attempt_per_item": "At most one attempt of an item was accepted.",
    "no_ended_run_has_open_items": "Every item of a run that has ended has an outcome.",
    "no_dead_job_has_queued_items": "A job that was given up has nothing left to send.",
    "counts_equal_item_totals": "What a run says of its items is what the items are.",
    "no_attempt_is_overdue_without_a_case": "An attempt a quarter of an hour past its deadline has a case.",
    "no_attempt_has_a_later_token_than_its_job": "Nobody has sent with a lease that was never given.",
    "every_accepted_attempt_can_be_shown": "An accepted attempt has the provider's id, or a note of who found it.",
    "every_item_belongs_to_its_runs": "An item has the tenant and workspace of its runs, and a job of its run.",
    "nobody_is_contacted_twice": "A step of a run and its retries reaches an address once.",
    "usage_is_committed_once": "What is reserved is committed once when accepted, and given back when rejected.",
    "no_message_of_a_provider_is_two_items": "A message of a provider stands for one item.",
    "every_item_agrees_with_its_last_attempt": "An item's status, count and message are those of its last attempt.",
    "unknown_items_and_open_cases_are_the_same": "Exactly the unknown items have an open case.",
    _CHAINS: "No row of the audit was changed, taken out or put in.",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A row that breaks an invariant: `id` is that of an item, attempt, run or chain, as `why` tells."""

    invariant: str
    tenant_id: UUID
    id: UUID
    why: str


def check(
    connection: sa.Connection, tenant_id: UUID | None = None, *, since: datetime | None = None, most: int = 100
) -> list[Violation]:  # fmt: skip
    """What breaks the invariants of a tenant, or of all; at most `most` rows of each.

    With `since` only runs are looked at that go on or have changed since then, with their retries, items, attempts and
    audit: all of them, whatever their age. Without it everything is: some forty seconds for a million items.
    """
    tenancy.service(connection, tenant_id)
    given = keys(connection.execute(_sql("lineages"), {"since": since}).all())
    connection.execute(_sql("by_keys" if since else "by_tables"))
    found = [
        Violation(name, row.tenant_id, row.id, row.why)
        for name in INVARIANTS
        if name != _CHAINS
        for row in connection.execute(_sql(name), given | {"most": most})
    ]
    if since is None:
        chains = dict.fromkeys(connection.execute(_sql("tenants")).scalars())
    else:
        chains = {row.tenant_id: row.chains for row in connection.execute(_sql("chains"), given)}
    tampered = [
        Violation(_CHAINS, of, chain, f"row {number} does not follow from the one before it")
        for of, those in chains.items()
        for chain, number in audit.broken(connection, of, those).items()
    ]
    return found + tampered[:most]


def keys(lineages: Sequence[sa.Row[Any]]) -> dict[str, str]:
    """Lineages as the parameters of a statement that looks at them."""
    return {
        "tenant_ids": array(each.tenant_id for each in lineages),
        "root_ids": array(each.id for each in lineages),
    }


def _sql(name: str) -> sa.TextClause:
    return statements("delivery_invariants")[name]
